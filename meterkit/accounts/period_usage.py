"""Keep: what each company has used in its current billing period, kept in memory, and followed as it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.ledger import schema
from meterkit.ledger.daily_totals import DAY
from meterkit.ledger.database import Database

AT_ONCE = 500
"""Companies that are asked for in one statement."""

Pair: TypeAlias = "tuple[str, str]"
"""A company and the name of a meter."""


class Consumption:
    """
    What companies have used. For one thread; `used` may be read by others.

    Args:
        database: Where the ledger is kept.
        periods: Which period is current; by default the billing period.

    Attributes:
        used: By company and meter, in the period that is current.
        periods: As it was given.
    """

    def __init__(self, database: Database, periods: Periods | Calendar | None = None) -> None:
        self._database = database
        self._seen = -1
        self._begins: dict[str, int] = {}
        self.periods = periods or Periods()
        self.used: dict[Pair, int] = {}

    def refresh(self, now: int) -> set[Pair]:
        """
        Look at what has changed since the last time: usage, and periods that ended or were told anew.

        Returns:
            The pairs whose sums were looked at again.

        Raises:
            LedgerError: The ledger cannot be read; ask again.
        """
        table = schema.totals
        with self._database.snapshot() as connection:
            seen = int(connection.scalar(sa.select(schema.meta.c.value).filter_by(key="change")) or 0)
            moved = self._moved(now) if self.periods.refresh(connection, now) else set()
            query = sa.select(table.c.company, table.c.meter).distinct().where(table.c.change > self._seen)
            if self._seen < 0:
                query = query.where(table.c.day >= self.periods.earliest(now) - DAY)
            changed = {(row.company, row.meter) for row in connection.execute(query)}
            changed |= {pair for pair in self.used if pair[0] in moved}
            sums = self._sums(connection, sorted({company for company, _ in changed}), now)
        for pair in changed:
            self.used[pair] = sums.get(pair, 0)
        self._seen = seen
        return changed

    def _moved(self, now: int) -> set[str]:
        """Companies for which another period is current than the one that was summed up."""
        return {company for company, begin in self._begins.items() if self.periods.of(company, now).start != begin}

    def _sums(self, connection: sa.Connection, companies: list[str], now: int) -> dict[Pair, int]:
        found: dict[Pair, int] = {}
        for start in range(0, len(companies), AT_ONCE):
            begins = {company: self.periods.of(company, now).start for company in companies[start : start + AT_ONCE]}
            found |= used_since(connection, begins)
            self._begins.update(begins)
        return found


def used_since(connection: sa.Connection, begins: Mapping[str, int]) -> dict[Pair, int]:
    """What companies have used since the second in which their period began, by company and meter."""
    found: dict[Pair, int] = {}
    for pair, quantity in (*_whole_days(connection, begins), *_first_days(connection, begins)):
        found[pair] = found.get(pair, 0) + quantity
    return found


def _whole_days(connection: sa.Connection, begins: Mapping[str, int]) -> Iterable[tuple[Pair, int]]:
    table = schema.totals
    query = sa.select(table).where(table.c.company.in_(begins), table.c.day >= min(begins.values()))
    for row in connection.execute(query):
        if row.day >= begins[row.company]:
            yield (row.company, row.meter), row.quantity


def _first_days(connection: sa.Connection, begins: Mapping[str, int]) -> Iterable[tuple[Pair, int]]:
    """The rest of the day amid which a period begins, by its windows."""
    table = schema.usage
    by_day: dict[int, list[str]] = {}
    for company, begin in begins.items():
        if begin % DAY:
            by_day.setdefault(begin - begin % DAY, []).append(company)
    for day, companies in by_day.items():
        query = sa.select(table.c.company, table.c.meter, table.c.window, table.c.quantity).where(
            table.c.company.in_(companies), table.c.window >= day, table.c.window < day + DAY
        )
        for row in connection.execute(query):
            if row.window >= begins[row.company]:
                yield (row.company, row.meter), row.quantity
