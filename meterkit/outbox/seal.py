"""
Write the usage of closed windows into the outbox.

A report is written, with its identifier, before it is sent for the first time, and is never changed after that.
Usage that comes later becomes a further report of the same window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.core.validation import MAX_QUANTITY
from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import bulk, schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold
from meterkit.ledger.payers import customer_of, is_customer

ReportKey = tuple[str, str, str]
"""What is reported together, in one window: meter, event name, company."""


def seal(database: Database, lease: Lease, *, clock: Callable[[], float], include_open: bool = False) -> int:
    """
    Write reports for the usage of closed windows whose company has a Stripe customer.

    Args:
        database: Where the ledger is kept.
        lease: The right to do so.
        clock: Unix time in seconds.
        include_open: Take the window that is still open too; its later usage becomes a further report.

    Returns:
        How many reports were written.

    Raises:
        LeaseLostError: Another process reports now.
    """
    now = int(clock())
    newest = now if include_open else hour_of(now) - 1
    written = 0
    for window in _windows(database, newest, now):
        for places in _due(database, window, newest, now):
            with database.transaction() as connection:
                hold(lease, connection, clock=clock)
                written += _seal(connection, window, places, now)
    return written


def _windows(database: Database, newest: int, now: int) -> list[int]:
    """The windows that have closed, as far as there is something to report."""
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage.c.window)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(usage.c.quantity != usage.c.reported, _has_closed(newest, now))
        .distinct()
        .order_by(usage.c.window)
    )
    with database.snapshot() as connection:
        return list(connection.scalars(query))


def _due(database: Database, window: int, newest: int, now: int) -> Iterator[list[ReportKey]]:
    """The places of *window* with something to report, in handy portions."""
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage.c.meter, usage.c.event_name, usage.c.company)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(usage.c.window == window, usage.c.quantity != usage.c.reported, usage.c.company != NOBODY)
        .where(sa.or_(accounts.c.customer.is_not(None), is_customer(usage.c.company)))
        .where(_has_closed(newest, now))
        .distinct()
    )
    with database.snapshot() as connection:
        found = [(meter, event_name, company) for meter, event_name, company in connection.execute(query).all()]
    places = sorted(found)
    for start in range(0, len(places), BATCH):
        yield places[start : start + BATCH]


def _has_closed(newest: int, now: int) -> sa.ColumnElement[bool]:
    """A window closes with its hour, and for a customer whose billing period has ended within it, at that moment."""
    window, items = schema.usage.c.window, schema.items
    payer = sa.case((is_customer(schema.usage.c.company), schema.usage.c.company), else_=schema.accounts.c.customer)
    ended = [sa.and_(edge > window, edge <= now) for edge in (items.c.period_start, items.c.period_end)]
    of_customer = sa.exists().where(items.c.customer == payer, sa.or_(*ended))
    return sa.or_(window <= newest, sa.and_(window >= hour_of(now), of_customer))


def _seal(connection: sa.Connection, window: int, places: list[ReportKey], now: int) -> int:
    deltas = _deltas(connection, window, places)
    sequences = _next_sequences(connection, window, places)
    ledger_id = _ledger_id(connection)
    reports: list[dict[str, Any]] = []
    for place, rows in deltas.items():
        reports += _reports_of(ledger_id, place, window, rows, sequence=sequences.get(place, 0), now=now)
    if reports:
        rows_of = itemgetter(*reports[0])
        bulk.insert(schema.reports, connection, list(reports[0]), map(rows_of, reports))
    if deltas:  # those, too, that cancel each other out, after a correction
        # What was read, not what is there, for more may have been folded in since.
        marked = itemgetter(*["quantity" if each.name == "reported" else each.name for each in schema.usage.columns])
        marks = [marked(row) for rows in deltas.values() for row in rows]
        bulk.overwrite(schema.usage, connection, marks, column="reported")
    return len(reports)


def _deltas(connection: sa.Connection, window: int, places: list[ReportKey]) -> dict[ReportKey, list[dict[str, Any]]]:
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage, accounts.c.customer)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(usage.c.window == window, usage.c.quantity != usage.c.reported)
        .where(usage.c.company.in_({company for _, _, company in places}))
    )
    deltas: dict[ReportKey, list[dict[str, Any]]] = {place: [] for place in places}
    found = connection.execute(query)
    names = list(found.keys())
    for values in found.all():
        row = dict(zip(names, values, strict=True))
        place = (row["meter"], row["event_name"], row["company"])
        if place in deltas:  # and not another meter of the company
            deltas[place].append(row)
    return {place: rows for place, rows in deltas.items() if rows}


def _reports_of(
    ledger_id: str, place: ReportKey, window: int, rows: list[dict[str, Any]], *, sequence: int, now: int
) -> list[dict[str, Any]]:
    meter, event_name, company = place
    customer = customer_of(company, rows[0]["customer"])
    # Inside the window, so that it is billed in the right period; and not in the future, which Stripe refuses.
    timestamp = max(window, min(max(row["last_used"] for row in rows), hour_of(window) + HOUR - 1, now))
    left = sum(row["quantity"] - row["reported"] for row in rows)
    reports = []
    while left:
        quantity = min(left, MAX_QUANTITY)
        reports.append(
            {
                "identifier": _identifier([ledger_id, meter, event_name, company, customer or "", window, sequence]),
                "meter": meter,
                "event_name": event_name,
                "company": company,
                "customer": customer,
                "window": window,
                "sequence": sequence,
                "quantity": quantity,
                "timestamp": timestamp,
                "created_at": now,
                "state": "pending",
                "attempts": 0,
                "refusals": 0,
                "error": "",
            }
        )
        left, sequence = left - quantity, sequence + 1
    return reports


def _next_sequences(connection: sa.Connection, window: int, places: list[ReportKey]) -> dict[ReportKey, int]:
    table = schema.reports
    found: dict[ReportKey, int] = {}
    for (meter, event_name), those in groupby(places, key=itemgetter(0, 1)):
        query = (
            sa.select(table.c.company, sa.func.max(table.c.sequence))
            .filter_by(meter=meter, event_name=event_name, window=window)
            .where(table.c.company.in_([company for _, _, company in those]))
            .group_by(table.c.company)
        )
        for company, last in connection.execute(query):
            found[meter, event_name, company] = last + 1
    return found


def _ledger_id(connection: sa.Connection) -> str:
    """Read each time: the file may be another than a moment ago, restored from a backup or begun anew."""
    return str(connection.scalars(sa.select(schema.meta.c.value).filter_by(key="ledger_id")).one())


def _identifier(parts: list[str | int]) -> str:
    """Derived from what the row is, never random, and never by joining: ``("a/b", "c")`` is not ``("a", "b/c")``."""
    return "mk_" + hashlib.sha256(_canonical(parts).encode()).hexdigest()[:48]


_canonical = json.JSONEncoder(separators=(",", ":")).encode
