"""
Usage per company in the current period, refreshed incrementally.

A process reads it once for all readers: governance after each flush, and notices in a thread of their own. Each reader
has its own `Changes`, and settles them only when what follows from them has been written, so that an attempt that fails
loses nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.core import threads
from meterkit.core.periods import DAY, day_of, month_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database

Pair: TypeAlias = "tuple[str, str]"
"""A company and the name of a meter."""


class Changes:
    """
    The pairs whose usage has changed since one reader settled them. Built by `PeriodUsage.changes`.

    Args:
        pairs: Pairs that have changed so far.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._lock = threads.rlock()  # one thread adds while another settles
        self._changed = dict.fromkeys(pairs, 0)
        self._revision = 0

    def add(self, pairs: Iterable[Pair]) -> None:
        """Mark *pairs* as changed."""
        with self._lock:
            self._revision += 1
            self._changed.update(dict.fromkeys(pairs, self._revision))

    def pending(self) -> dict[Pair, int]:
        """Return the pairs that are not settled, each with the revision to give to `settle`."""
        with self._lock:
            return dict(self._changed)

    def settle(self, done: Mapping[Pair, int]) -> None:
        """
        Remove the pairs whose consequences have been written; one that has changed again meanwhile stays.

        Args:
            done: Pairs from `pending`, with their revisions.
        """
        with self._lock:
            for pair, revision in done.items():
                if self._changed.get(pair) == revision:
                    del self._changed[pair]


class PeriodUsage:
    """
    Usage of all companies in one kind of period. Safe for several background threads; requests may read `used`.

    Args:
        database: Database of the ledger.
        periods: Which period is current for a company; by default its billing period.

    Attributes:
        used: Quantity by company and meter in the current period, in the meter's unit.
        periods: Which period is current for a company.
    """

    def __init__(self, database: Database, periods: Periods | Calendar | None = None) -> None:
        self._database = database
        self._lock = threads.rlock()  # held while the ledger is read, by background threads only
        self._seen = -1
        self._begins: dict[str, Hashable] = {}
        self._readers: list[Changes] = []
        self._openings_of: object = None
        self.periods = periods or Periods()
        self.used: dict[Pair, int] = {}

    def changes(self) -> Changes:
        """Return the changes of a new reader; at first, all pairs known so far are pending."""
        with self._lock:
            reader = Changes(self.used)
            self._readers.append(reader)
            return reader

    def refresh(self, now: int) -> None:
        """
        Read what has changed since the last time: usage, and periods that ended or that Stripe described anew.

        Args:
            now: Current time, Unix seconds.

        Raises:
            LedgerError: The ledger could not be read; refresh again.
        """
        table = schema.totals
        with self._lock, self._database.snapshot() as connection:
            seen = int(connection.scalar(sa.select(schema.meta.c.value).filter_by(key="change")) or 0)
            moved = self._moved(now) if self.periods.refresh(connection, now) else set()
            query = sa.select(table.c.company, table.c.meter).distinct().where(table.c.change > self._seen)
            if self._seen < 0:
                query = query.where(table.c.day >= self.periods.earliest(now) - DAY)
            changed = {(row.company, row.meter) for row in connection.execute(query)}
            changed |= {pair for pair in self.used if pair[0] in moved}
            changed |= self._opened(now)
            sums = self._sums(connection, sorted({company for company, _ in changed}), now)
            for pair in changed:
                self.used[pair] = sums.get(pair, 0)
            for reader in self._readers if changed else ():
                reader.add(changed)
            self._seen = seen

    def pairs(self) -> list[Pair]:
        """Return all companies and meters with usage in the current period."""
        with self._lock:
            return list(self.used)

    def of_companies(self, companies: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the usage of each of *companies*, by meter."""
        found: dict[str, dict[str, int]] = {company: {} for company in companies}
        with self._lock:
            for (company, meter), quantity in self.used.items():
                if company in found:
                    found[company][meter] = quantity
        return found

    def _moved(self, now: int) -> set[str]:
        """Return the companies whose current period is not the one that was summed up."""
        return {company for company, begin in self._begins.items() if self.periods.starts(company, now) != begin}

    def _opened(self, now: int) -> set[Pair]:
        """Return the pairs whose opening balance is new."""
        if self.periods.version == self._openings_of:
            return set()
        self._openings_of = self.periods.version
        opened = self.periods.openings(None, now)
        return {pair for pair, quantity in opened.items() if self.used.get(pair, 0) < quantity}

    def _sums(self, connection: sa.Connection, companies: list[str], now: int) -> dict[Pair, int]:
        found: dict[Pair, int] = {}
        for start in range(0, len(companies), BATCH):
            batch = companies[start : start + BATCH]
            found |= used_in(connection, self.periods, batch, now)
            self._begins.update({company: self.periods.starts(company, now) for company in batch})
        return found


class UsageByPeriod:
    """
    The `PeriodUsage` of each kind of period, as quotas name them: ``period``, ``month`` and ``day``.

    Args:
        database: Database of the ledger.
        event_names: Event name of each meter, by the meter's name.
    """

    def __init__(self, database: Database, event_names: Mapping[str, str] | None = None) -> None:
        self._by_kind = {
            "period": PeriodUsage(database, Periods(event_names)),
            "month": PeriodUsage(database, Calendar(month_of)),
            "day": PeriodUsage(database, Calendar(day_of)),
        }

    def __getitem__(self, kind: str) -> PeriodUsage:
        return self._by_kind[kind]


def used_in(
    connection: sa.Connection, periods: Periods | Calendar, companies: Iterable[str], now: int
) -> dict[Pair, int]:
    """Return the usage of companies in their current periods, by company and meter, opening balances included."""
    ids = list(companies)
    found = used_since(connection, {company: periods.of(company, now).start for company in ids})
    for company in ids:
        for meter, period in periods.of_meters(company, now).items():
            found[company, meter] = used_by(connection, company, meter, period.start)
    for pair, quantity in periods.openings(ids, now).items():
        found[pair] = found.get(pair, 0) + quantity
    return found


def used_by(connection: sa.Connection, company: str, meter: str, start: int) -> int:
    """Return what meterkit has counted of one company and meter since the Unix second *start*."""
    return used_since(connection, {company: start}).get((company, meter), 0)


def used_since(connection: sa.Connection, begins: Mapping[str, int]) -> dict[Pair, int]:
    """Return the usage of companies since the Unix second at which their period began, by company and meter."""
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
    """Yield the usage of the days on which a period begins, from its start on, by windows."""
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
