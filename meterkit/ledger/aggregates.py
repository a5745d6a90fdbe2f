"""
State of `unique()` and `maximum()` within a billing period.

What a billing period is, is looked up when something is folded, and not written down: a boundary that Stripe tells of
later changes which windows belong together, and not what has been counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import month_of
from meterkit.core.usage_key import NOBODY, UNIQUE, Counted
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH, add_to
from meterkit.ledger.daily_totals import UsageRow
from meterkit.ledger.payers import companies_by_customer

KEPT_SECONDS = 400 * 24 * 3600
"""Longer than the longest billing period."""

_LOCK = 0x7065616B73  # "peaks": a number that nobody else takes an advisory lock on

AggregateKey: TypeAlias = "tuple[str, str, str, str]"
"""Meter, event name, company, and the value, or nothing for the highest."""


def rises(connection: sa.Connection, observations: Iterable[Counted]) -> list[UsageRow]:
    """
    What *sightings* add to what their billing periods have seen: rows of usage. Written down in this transaction.

    The order in which they come, and how often, makes no difference.
    """
    by_place: dict[AggregateKey, list[tuple[int, int, int]]] = {}
    for (meter, event_name, company, user, window), _, last_used in observations:
        is_unique, value = user[0] == UNIQUE, user[1:]
        place = (meter, event_name, company, value if is_unique else "")
        by_place.setdefault(place, []).append((window, 1 if is_unique else int(value), last_used))
    if not by_place:
        return []
    if connection.dialect.name == "postgresql":  # in SQLite nobody else writes meanwhile
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    boundaries = _boundaries(connection, {company for _, _, company, _ in by_place})
    firsts = [_period(boundaries, place, min(seen)[0])[0] for place, seen in by_place.items()]
    counted = _counted(connection, by_place, earliest=min(firsts))
    risen: dict[tuple[AggregateKey, int], tuple[int, int]] = {}
    for place, seen in by_place.items():
        known = counted.setdefault((place[0], place[2], place[3]), {})
        for window, level, last_used in sorted(seen):
            start, end = _period(boundaries, place, window)
            rise = level - sum(quantity for at, quantity in known.items() if start <= at < end)
            if rise > 0:
                known[window] = known.get(window, 0) + rise
                before, latest = risen.get((place, window), (0, 0))
                risen[place, window] = before + rise, max(latest, last_used)
    if not risen:
        return []
    written = [
        (meter, company, value, window, rise) for ((meter, _, company, value), window), (rise, _) in risen.items()
    ]
    add_to(schema.peaks, connection, written, add="quantity")
    return _usage_rows(risen)


def forget_peaks(connection: sa.Connection, now: int) -> None:
    """What belongs to no period that may still be billed."""
    connection.execute(sa.delete(schema.peaks).where(schema.peaks.c.window < now - KEPT_SECONDS))


def _usage_rows(risen: dict[tuple[AggregateKey, int], tuple[int, int]]) -> list[UsageRow]:
    sums: dict[tuple[str, str, str, str, int], tuple[int, int]] = {}
    for ((meter, event_name, company, _), window), (rise, last_used) in risen.items():
        key = (meter, event_name, company, NOBODY, window)
        quantity, latest = sums.get(key, (0, 0))
        sums[key] = quantity + rise, max(latest, last_used)
    return [(*key, quantity, 0, last_used) for key, (quantity, last_used) in sums.items()]


def _period(boundaries: dict[str, list[int]], place: AggregateKey, window: int) -> tuple[int, int]:
    """The first second of the billing period of a window, and the one after its last; else the calendar month."""
    known = boundaries.get(place[2], [])
    at = bisect_right(known, window)
    month = month_of(window)
    return (known[at - 1] if at else month.start), (known[at] if at < len(known) else month.end if not at else 2**62)


def _boundaries(connection: sa.Connection, companies: set[str]) -> dict[str, list[int]]:
    """By company, where its billing periods are known to begin or end, in ascending order."""
    everyone = sorted(companies)
    found: dict[str, set[int]] = {}
    for start in range(0, len(everyone), BATCH):
        payers = companies_by_customer(connection, everyone[start : start + BATCH])
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
    connection: sa.Connection, places: Iterable[AggregateKey], *, earliest: int
) -> dict[tuple[str, str, str], dict[int, int]]:
    """By meter, company and value, what was counted in which window."""
    table = schema.peaks
    asked: dict[tuple[str, str], list[str]] = {}
    for meter, _, company, value in places:
        asked.setdefault((meter, company), []).append(value)
    found: dict[tuple[str, str, str], dict[int, int]] = {}
    for (meter, company), values in asked.items():
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
