"""
State of `unique()` and `maximum()` within a billing period.

Billing periods are looked up while folding, and not stored with the counts: a boundary that becomes known later changes
which windows belong together, not what has been counted.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import month_of
from meterkit.core.usage_key import NOBODY, UNIQUE, Counted
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH, add_to
from meterkit.ledger.daily_totals import UsageRow, usage_row
from meterkit.ledger.payers import companies_by_customer

KEPT_SECONDS = 400 * 24 * 3600
"""Seconds for which observations are kept: longer than the longest billing period."""

_LOCK = 0x7065616B73  # "peaks": key of an advisory lock that no other program takes

AggregateKey: TypeAlias = "tuple[str, str, str, str]"
"""Meter, event name, company, and the value of `unique()`; "" for `maximum()`."""


def increments(connection: sa.Connection, observations: Iterable[Counted]) -> list[UsageRow]:
    """
    Return usage rows for what *observations* add to their billing periods, and store it in this transaction.

    Neither the order of observations nor repetitions change the sum.
    """
    by_key: dict[AggregateKey, list[tuple[int, int, int]]] = {}
    for (meter, event_name, company, user, window), _, last_used in observations:
        is_unique, value = user[0] == UNIQUE, user[1:]
        key = (meter, event_name, company, value if is_unique else "")
        by_key.setdefault(key, []).append((window, 1 if is_unique else int(value), last_used))
    if not by_key:
        return []
    lock(connection)
    by_key = _with_forgotten(connection, by_key)
    boundaries = _boundaries(connection, {company for _, _, company, _ in by_key})
    firsts = [_period(boundaries, key, min(seen)[0])[0] for key, seen in by_key.items()]
    counted = _counted(connection, by_key, earliest=min(firsts))
    added: dict[tuple[AggregateKey, int], tuple[int, int]] = {}
    for key, seen in by_key.items():
        known = counted.setdefault((key[0], key[2], key[3]), {})
        for window, level, last_used in sorted(seen):
            start, end = _period(boundaries, key, window)
            increment = level - sum(quantity for at, quantity in known.items() if start <= at < end)
            if increment > 0:
                known[window] = known.get(window, 0) + increment
                before, latest = added.get((key, window), (0, 0))
                added[key, window] = before + increment, max(latest, last_used)
    if not added:
        return []
    written = [
        (meter, company, value, window, increment)
        for ((meter, _, company, value), window), (increment, _) in added.items()
    ]
    add_to(schema.peaks, connection, written, add="quantity")
    return _usage_rows(added)


def lock(connection: sa.Connection) -> None:
    """Let nobody else change observations until the end of the transaction."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def hashed(value: str, salt: str) -> str:
    """Return what stands in place of a *value* that was forgotten; no id begins with its first character."""
    return UNIQUE + hashlib.sha256(f"{salt} {value}".encode()).hexdigest()


def salt_of(connection: sa.Connection) -> str | None:
    """Return the ledger's salt; None if it has none, because no user was forgotten."""
    return connection.scalar(sa.select(schema.meta.c.value).filter_by(key="salt"))


def _with_forgotten(
    connection: sa.Connection, by_key: dict[AggregateKey, list[tuple[int, int, int]]]
) -> dict[AggregateKey, list[tuple[int, int, int]]]:
    """Return *by_key* with the hash in place of each value that was forgotten, so that it does not count again."""
    salt = salt_of(connection)
    if salt is None:
        return by_key
    hashes = {key: (*key[:3], hashed(key[3], salt)) for key in by_key if key[3]}
    forgotten = _counted(connection, hashes.values(), earliest=0)
    found: dict[AggregateKey, list[tuple[int, int, int]]] = {}
    for key, seen in by_key.items():
        other = hashes.get(key, key)
        found[other if (other[0], other[2], other[3]) in forgotten else key] = seen
    return found


def prune_peaks(connection: sa.Connection, now: int) -> None:
    """Delete the observations of periods that can no longer be billed."""
    connection.execute(sa.delete(schema.peaks).where(schema.peaks.c.window < now - KEPT_SECONDS))


def _usage_rows(added: dict[tuple[AggregateKey, int], tuple[int, int]]) -> list[UsageRow]:
    sums: dict[tuple[str, str, str, str, int], tuple[int, int]] = {}
    for ((meter, event_name, company, _), window), (increment, last_used) in added.items():
        key = (meter, event_name, company, NOBODY, window)
        quantity, latest = sums.get(key, (0, 0))
        sums[key] = quantity + increment, max(latest, last_used)
    return [usage_row(key, quantity, last_used) for key, (quantity, last_used) in sums.items()]


def _period(boundaries: dict[str, list[int]], key: AggregateKey, window: int) -> tuple[int, int]:
    """Return begin and end (excluded) of the billing period of a window, Unix seconds; else of its calendar month."""
    known = boundaries.get(key[2], [])
    at = bisect_right(known, window)
    month = month_of(window)
    return (known[at - 1] if at else month.start), (known[at] if at < len(known) else month.end if not at else 2**62)


def _boundaries(connection: sa.Connection, companies: set[str]) -> dict[str, list[int]]:
    """Return the known boundaries of each company's billing periods, Unix seconds in ascending order."""
    ids = sorted(companies)
    found: dict[str, set[int]] = {}
    for start in range(0, len(ids), BATCH):
        payers = companies_by_customer(connection, ids[start : start + BATCH])
        for table in (schema.items, schema.invoices):
            query = sa.select(table.c.customer, table.c.period_start, table.c.period_end)
            query = query.where(table.c.customer.in_(payers))
            if table is schema.invoices:
                query = query.where(schema.invoices.c.billing_reason == "subscription_cycle")
            for row in connection.execute(query):
                for company in payers[row.customer]:
                    found.setdefault(company, set()).update((row.period_start, row.period_end))
    return {company: sorted(edges) for company, edges in found.items()}


def _counted(
    connection: sa.Connection, keys: Iterable[AggregateKey], *, earliest: int
) -> dict[tuple[str, str, str], dict[int, int]]:
    """Return the quantity counted in each window, by meter, company and value."""
    table = schema.peaks
    requested: dict[tuple[str, str], list[str]] = {}
    for meter, _, company, value in keys:
        requested.setdefault((meter, company), []).append(value)
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for (meter, company), values in requested.items():
        for start in range(0, len(values), BATCH):
            query = sa.select(table).where(
                table.c.meter == meter,
                table.c.company == company,
                table.c.value.in_(values[start : start + BATCH]),
                table.c.window >= earliest,
            )
            for row in connection.execute(query):
                found.setdefault((row.meter, row.company, row.value), {})[row.window] = row.quantity
    return found
