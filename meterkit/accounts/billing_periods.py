"""Each company's current billing period."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from meterkit.core.periods import Period, month_of
from meterkit.ledger import schema
from meterkit.ledger.payers import companies_of


class Calendar:
    """
    A calendar period, the same for all companies. Not safe for several threads.

    Args:
        period_of: Function that takes a Unix second and returns the period that contains it.
    """

    def __init__(self, period_of: Callable[[int], Period]) -> None:
        self._period_of = period_of
        self._current = Period(0, 0)

    def of(self, _company: str, now: int) -> Period:
        """Return the period that contains the Unix second *now*."""
        if not self._current.start <= now < self._current.end:
            self._current = self._period_of(now)
        return self._current

    def earliest(self, now: int) -> int:
        """Return the Unix second at which the current period began."""
        return self.of("", now).start

    def refresh(self, _connection: sa.Connection, now: int) -> bool:
        """Return whether another period has begun since the last call."""
        before = self._current
        return self.of("", now) != before


class Periods:
    """
    The current billing period of each company, as Stripe reported it. Not safe for several threads.

    Of several subscriptions, the one whose period began last counts. If a period has ended and the next is not known
    yet, it is assumed to follow at once, and to be as long.
    """

    def __init__(self) -> None:
        self._known: dict[str, Period] = {}
        self._version: tuple[object, ...] | None = None
        self._next_end = 0

    def of(self, company: str, now: int) -> Period:
        """Return the period of *company* that contains the Unix second *now*; the calendar month if none is known."""
        known = self._known.get(company)
        if known is None:
            return month_of(now)
        if now < known.end:
            return known
        length = known.end - known.start
        passed = (now - known.end) // length * length
        return Period(known.end + passed, known.end + passed + length)

    def earliest(self, now: int) -> int:
        """Return the Unix second at which the earliest of all current periods began."""
        return min([month_of(now).start, *(period.start for period in self._known.values())])

    def refresh(self, connection: sa.Connection, now: int, *, only: str | None = None) -> bool:
        """
        Read the billing periods from the ledger, if any may have changed.

        Args:
            connection: Connection to the ledger.
            now: Current time, Unix seconds.
            only: Read only this company.

        Returns:
            Whether any current period may have changed.
        """
        if only is not None:
            self._known = _read(connection, only)
            return True
        subscriptions, accounts = schema.subscriptions, schema.accounts
        version = (
            *_newest(connection, subscriptions, subscriptions.c.checked_at),
            *_newest(connection, accounts, accounts.c.linked_at),
        )
        has_ended = now >= self._next_end
        if version == self._version and not has_ended:
            return False
        if version != self._version:
            self._known = _read(connection)
            # Times are whole seconds: another change within this second would look the same.
            self._version = version if max(version) < now else None
        ends = [self.of(company, now).end for company in self._known]
        self._next_end = min([month_of(now).end, *ends])
        return True


def _newest(connection: sa.Connection, table: sa.Table, column: sa.Column[int]) -> tuple[int, int]:
    row = connection.execute(sa.select(sa.func.max(column), sa.func.count()).select_from(table)).one()
    return int(row[0] or 0), int(row[1])


def _read(connection: sa.Connection, only: str | None = None) -> dict[str, Period]:
    items, subscriptions, accounts = schema.items, schema.subscriptions, schema.accounts
    query = (
        sa.select(items.c.customer, items.c.period_start, items.c.period_end, accounts.c.company)
        .join_from(items, subscriptions, items.c.subscription == subscriptions.c.id)
        .join(accounts, accounts.c.customer == items.c.customer, isouter=True)
        .where(subscriptions.c.ended_at.is_(None), items.c.period_end > items.c.period_start)
        .order_by(items.c.period_start)
    )
    if only is not None:
        query = query.where(sa.or_(accounts.c.company == only, items.c.customer == only))
    found: dict[str, Period] = {}
    for row in connection.execute(query):
        for company in companies_of(connection, row.customer, row.company):
            found[company] = Period(row.period_start, row.period_end)
    return found
