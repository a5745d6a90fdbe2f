"""
Write the usage of closed windows into the outbox.

A report is written, with its identifier, before it is first sent, and its contents never change.
Usage that arrives later becomes a further report of the same window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY, billed_as, is_shadowed
from meterkit.core.validation import MAX_QUANTITY
from meterkit.core.windows import HOUR, hour_of
from meterkit.errors import UsageError
from meterkit.ledger import bulk, schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.daily_totals import UsageRow
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold, wait_for_holders
from meterkit.ledger.payers import customer_of, is_customer, payer_of
from meterkit.ledger.schema.due import due, was_shadowed
from meterkit.pricing.opening_balances import subtract
from meterkit.pricing.subscription_terms import moments

SHADOWED_REPORT = "shadow_"
"""Beginning of the identifiers of reports of what was counted in shadow mode; they are never sent."""

ReportKey = tuple[str, str, str]
"""Meter, event name and company: usage that is reported together within a window."""


def seal(
    database: Database,
    lease: Lease,
    *,
    clock: Callable[[], float],
    include_open: bool = False,
    only_shadowed: bool = False,
) -> int:
    """
    Write reports for the usage of closed windows whose company has a Stripe customer.

    What was counted in shadow mode is written as sent: another program has.

    Args:
        database: Database of the ledger.
        lease: Lease of the reporter.
        clock: Function that returns Unix seconds.
        include_open: Whether to seal the open window too; its later usage becomes a further report.
        only_shadowed: Whether to leave out all but what was counted in shadow mode.

    Returns:
        Number of reports written that are to be sent.

    Raises:
        LeaseLostError: Another process holds the lease now.
    """
    now = int(clock())
    newest = now if include_open else hour_of(now) - 1
    written = 0
    usage = schema.usage
    due_now = sa.and_(due(usage), was_shadowed(usage)) if only_shadowed else due(usage)
    for window in _windows(database, due_now, newest, now):
        for keys in _due(database, due_now, window, newest, now):
            with database.transaction() as connection:
                if any(is_shadowed(event_name) for _, event_name, _ in keys):
                    wait_for_holders(connection)  # whoever reads an opening balance would miss what is taken out of it
                hold(lease, connection, clock=clock)
                written += _seal(connection, window, keys, now)
    return written


def write_sent(connection: sa.Connection, rows: Iterable[UsageRow], *, now: int) -> list[dict[str, Any]]:
    """
    Write reports for usage that others have sent to Stripe, as sent when it was used.

    They have no attempts. Nobody may seal the same windows until the transaction ends.

    Args:
        connection: Connection in a transaction.
        rows: Usage rows that this transaction has added, each marked as reported.
        now: Current time, Unix seconds.

    Returns:
        The reports.

    Raises:
        UsageError: A company is not linked to a Stripe customer.
    """
    by_window: dict[int, dict[ReportKey, list[dict[str, Any]]]] = {}
    for meter, event_name, company, _, window, quantity, _, last_used in rows:
        if event_name:  # what is not billable is never reported
            unreported = {"quantity": quantity, "reported": 0, "last_used": last_used}
            by_window.setdefault(window, {}).setdefault((meter, event_name, company), []).append(unreported)
    ledger_id = _ledger_id(connection)
    reports: list[dict[str, Any]] = []
    for window, by_key in by_window.items():
        sequences = _next_sequences(connection, window, sorted(by_key))
        for key, of_key in by_key.items():
            customer = payer_of(connection, key[2])
            if customer is None:
                raise not_linked([key[2]])
            former, sequence = (ledger_id, 0), sequences.get(key, 0)
            reports += _reports_of(
                ledger_id, former, key, customer, window=window, rows=of_key, sequence=sequence, now=now
            )
    _insert_sent(connection, reports)
    return reports


def _insert_sent(connection: sa.Connection, reports: list[dict[str, Any]]) -> None:
    """Insert *reports* as sent by others, in time for the invoice of their period."""
    for report in reports:
        report["state"], report["settled_at"] = "sent", report["timestamp"]
    _insert(connection, reports)


def _insert(connection: sa.Connection, reports: list[dict[str, Any]]) -> None:
    if reports:
        bulk.insert(schema.reports, connection, list(reports[0]), map(itemgetter(*reports[0]), reports))


def not_linked(companies: Sequence[str]) -> UsageError:
    """Return the error for usage that others have reported, of *companies* whose customer nobody knows."""
    shown = ", ".join(companies[:10]) + (", ..." if len(companies) > 10 else "")
    return UsageError(
        f"nothing was counted: it is not known which Stripe customer the usage of {shown} was reported for; link it "
        "first, with meterkit link or kit.link()",
        reason="company_not_linked",
    )


def reported_in_shadow() -> sa.ColumnElement[bool]:
    """Return the condition for reports of what was counted in shadow mode, and billed by another program."""
    return schema.reports.c.identifier.startswith(SHADOWED_REPORT, autoescape=True)


def _windows(database: Database, due_now: sa.ColumnElement[bool], newest: int, now: int) -> list[int]:
    """Return the closed windows that have usage which is due, oldest first."""
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage.c.window)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(due_now)
        .distinct()
        .order_by(usage.c.window)
    )
    with database.snapshot() as connection:
        return list(connection.scalars(query.where(_has_closed(connection, newest, now))))


def _due(
    database: Database, due_now: sa.ColumnElement[bool], window: int, newest: int, now: int
) -> Iterator[list[ReportKey]]:
    """Yield the keys of *window* with usage to report, in batches."""
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage.c.meter, usage.c.event_name, usage.c.company)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(usage.c.window == window, due_now, usage.c.company != NOBODY)
        .distinct()
    )
    with database.snapshot() as connection:
        query = query.where(sa.or_(accounts.c.customer.is_not(None), is_customer(connection, usage.c.company)))
        query = query.where(_has_closed(connection, newest, now))
        found = [(meter, event_name, company) for meter, event_name, company in connection.execute(query).all()]
    keys = sorted(found)
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]


def _has_closed(connection: sa.Connection, newest: int, now: int) -> sa.ColumnElement[bool]:
    """Return the condition for closed windows: the hour has ended, or a period, price or subscription within it."""
    window = schema.usage.c.window
    company = schema.usage.c.company
    payer = sa.case((is_customer(connection, company), company), else_=schema.accounts.c.customer)
    ended: dict[sa.Table, list[sa.ColumnElement[bool]]] = {}
    for table, moment in moments():
        ended.setdefault(table, []).append(sa.and_(moment > window, moment <= now))
    of_customer = [sa.exists().where(table.c.customer == payer, sa.or_(*edges)) for table, edges in ended.items()]
    return sa.or_(window <= newest, sa.and_(window >= hour_of(now), sa.or_(*of_customer)))


def _seal(connection: sa.Connection, window: int, keys: list[ReportKey], now: int) -> int:
    deltas = _deltas(connection, window, keys)
    sequences = _next_sequences(connection, window, sorted({_billed(key) for key in keys}))
    ledger_id = _ledger_id(connection)
    inherited = _inherited(connection, window, deltas)
    reports: list[dict[str, Any]] = []
    shadowed: list[dict[str, Any]] = []
    for key, rows in deltas.items():
        customer = customer_of(connection, key[2], rows[0]["customer"])
        billed, former = _billed(key), inherited.get(key, (ledger_id, 0))
        about: Any = {"window": window, "rows": rows, "sequence": sequences.get(billed, 0), "now": now}
        made = _reports_of(ledger_id, former, billed, customer, **about)
        sequences[billed] = about["sequence"] + len(made)
        (shadowed if is_shadowed(key[1]) else reports).extend(made)
    _insert(connection, reports)
    for report in shadowed:
        report["identifier"] = report["identifier"].replace("mk_", SHADOWED_REPORT, 1)
    _insert_sent(connection, shadowed)
    subtract(connection, shadowed)
    if deltas:  # even if they cancel each other out after a correction
        # Mark the quantity that was read: more may have been folded in the meantime.
        marked = itemgetter(*["quantity" if each.name == "reported" else each.name for each in schema.usage.columns])
        marks = [marked(row) for rows in deltas.values() for row in rows]
        bulk.overwrite(schema.usage, connection, marks, column="reported")
    return len(reports)


def _billed(key: ReportKey) -> ReportKey:
    """Return *key* with the meter's own event name."""
    meter, event_name, company = key
    return meter, billed_as(event_name), company


def _deltas(connection: sa.Connection, window: int, keys: list[ReportKey]) -> dict[ReportKey, list[dict[str, Any]]]:
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage, accounts.c.customer)
        .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
        .where(usage.c.window == window, due(usage))
        .where(usage.c.company.in_({company for _, _, company in keys}))
    )
    deltas: dict[ReportKey, list[dict[str, Any]]] = {key: [] for key in keys}
    found = connection.execute(query)
    names = list(found.keys())
    for values in found.all():
        row = dict(zip(names, values, strict=True))
        key = (row["meter"], row["event_name"], row["company"])
        if key in deltas:  # not another meter of the company
            deltas[key].append(row)
    return {key: rows for key, rows in deltas.items() if rows}


def _reports_of(
    ledger_id: str,
    inherited: tuple[str, int],
    key: ReportKey,
    customer: str | None,
    *,
    window: int,
    rows: list[dict[str, Any]],
    sequence: int,
    now: int,
) -> list[dict[str, Any]]:
    meter, event_name, company = key
    # Within the window, so that it is billed in the right period; and not in the future, which Stripe refuses.
    timestamp = max(window, min(max(row["last_used"] for row in rows), hour_of(window) + HOUR - 1, now))
    remaining = sum(row["quantity"] - row["reported"] for row in rows)
    reports: list[dict[str, Any]] = []
    former, quantity = inherited
    share = max(0, min(quantity, remaining))
    for part_of, part in ((former, share), (ledger_id, remaining - share)):
        left = part
        while left:
            quantity = min(left, MAX_QUANTITY)
            reports.append(
                {
                    "identifier": _identifier([part_of, meter, event_name, company, customer or "", window, sequence]),
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


def _inherited(connection: sa.Connection, window: int, keys: Iterable[ReportKey]) -> dict[ReportKey, tuple[str, int]]:
    """Take out what *keys* have inherited: the id of the ledger that reports it too, and the quantity."""
    table = schema.inherited
    found = {
        (row.meter, row.event_name, row.company): (row.ledger_id, row.quantity)
        for row in connection.execute(sa.select(table).filter_by(window=window))
    }
    taken = {key: found[key] for key in keys if key in found}
    for meter, event_name, company in taken:
        mine = {"meter": meter, "event_name": event_name, "company": company, "window": window}
        connection.execute(sa.delete(table).filter_by(**mine))
    return taken


def _next_sequences(connection: sa.Connection, window: int, keys: list[ReportKey]) -> dict[ReportKey, int]:
    table = schema.reports
    found: dict[ReportKey, int] = {}
    for (meter, event_name), group in groupby(keys, key=itemgetter(0, 1)):
        query = (
            sa.select(table.c.company, sa.func.max(table.c.sequence))
            .filter_by(meter=meter, event_name=event_name, window=window)
            .where(table.c.company.in_([company for _, _, company in group]))
            .group_by(table.c.company)
        )
        for company, last in connection.execute(query):
            found[meter, event_name, company] = last + 1
    return found


def _ledger_id(connection: sa.Connection) -> str:
    """Return the ledger's id. Read each time, because the file may have been replaced by a backup or a new one."""
    return str(connection.scalars(sa.select(schema.meta.c.value).filter_by(key="ledger_id")).one())


def _identifier(parts: list[str | int]) -> str:
    """Return a digest of what the row stands for. As JSON: joined, ``("a/b", "c")`` would equal ``("a", "b/c")``."""
    return "mk_" + hashlib.sha256(_canonical(parts).encode()).hexdigest()[:48]


_canonical = json.JSONEncoder(separators=(",", ":")).encode
