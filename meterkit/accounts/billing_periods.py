"""Each company's current billing period."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import BillingCycle, Period, month_of
from meterkit.ledger import schema
from meterkit.ledger.payers import companies_by_customer, companies_of
from meterkit.pricing.opening_balances import by_company, version_of
from meterkit.pricing.subscription_terms import recurrence


class Calendar:
    """
    A calendar period, the same for all companies. Not safe for several threads.

    Args:
        period_of: Function that takes a Unix second and returns the period that contains it.
    """

    def __init__(self, period_of: Callable[[int], Period]) -> None:
        self._period_of = period_of
        self._current = Period(0, 0)

    def of(self, _company: str, now: int, _meter: str = "") -> Period:
        """Return the period that contains the Unix second *now*."""
        if not self._current.start <= now < self._current.end:
            self._current = self._period_of(now)
        return self._current

    def earliest(self, now: int) -> int:
        """Return the Unix second at which the current period began."""
        return self.of("", now).start

    def starts(self, _company: str, now: int) -> Hashable:
        """Return what changes when a period begins."""
        return self.of("", now).start

    def of_meters(self, _company: str, _now: int) -> dict[str, Period]:
        """Return the periods of meters that have one of their own: none."""
        return {}

    @property
    def version(self) -> object:
        """What changes when accounts are read anew: nothing depends on them."""
        return None

    @property
    def cycles(self) -> tuple[Mapping[str, BillingCycle], Mapping[str, Mapping[str, BillingCycle]]]:
        """Billing cycles: none."""
        return {}, {}

    def openings(self, _companies: Iterable[str] | None, _now: int) -> dict[tuple[str, str], int]:
        """Return opening balances, which are those of billing periods: none."""
        return {}

    def refresh(self, _connection: sa.Connection, now: int) -> bool:
        """Return whether another period has begun since the last call."""
        before = self._current
        return self.of("", now) != before


class Periods:
    """
    The current billing period of each company, as Stripe reported it. Not safe for several threads.

    Of a subscription, the items whose period ends first count, and of several subscriptions the one whose period began
    last; for a meter, those that bill it. If a period has ended and the next is not known yet, it is assumed to follow
    as Stripe makes them.

    Args:
        event_names: Event name of each meter, by the meter's name.
    """

    def __init__(self, event_names: Mapping[str, str] | None = None) -> None:
        self._event_names = event_names or {}
        self._known: dict[str, BillingCycle] = {}
        self._of_meters: dict[str, dict[str, BillingCycle]] = {}  # by company and event name, where they differ
        self._version: tuple[object, ...] | None = None
        self._next_end = 0
        self._openings: dict[str, list[tuple[str, int, int]]] = {}
        self._reads = 0

    def of(self, company: str, now: int, meter: str = "") -> Period:
        """
        Return the period that contains the Unix second *now*; the calendar month if none is known.

        Args:
            company: Company id.
            now: Unix seconds.
            meter: Name of a meter, whose price may be billed in other periods than the rest; empty for the company's.
        """
        known = self._known.get(company)
        if meter and company in self._of_meters:
            known = self._of_meters[company].get(self._event_names.get(meter, meter), known)
        return month_of(now) if known is None else known.at(now)

    def of_meters(self, company: str, now: int) -> dict[str, Period]:
        """Return the periods of those meters, by name, that are billed in other periods than the company's."""
        found = self._of_meters.get(company)
        if found is None:
            return {}
        of_kit = {name: event_name for name, event_name in self._event_names.items() if event_name in found}
        by_name = {event_name: event_name for event_name in found if event_name not in of_kit.values()} | of_kit
        return {name: found[event_name].at(now) for name, event_name in by_name.items()}

    @property
    def version(self) -> object:
        """What changes when accounts are read anew."""
        return self._reads

    @property
    def cycles(self) -> tuple[Mapping[str, BillingCycle], Mapping[str, Mapping[str, BillingCycle]]]:
        """Billing cycles of companies, and by event name those of meters that differ; other objects if read anew."""
        return self._known, self._of_meters

    def openings(self, companies: Iterable[str] | None, now: int) -> dict[tuple[str, str], int]:
        """Return the opening balances of companies in their current periods, by company and meter; None means all."""
        if not self._openings:
            return {}
        names: dict[str, list[str]] = {}
        for meter, event_name in self._event_names.items():
            names.setdefault(event_name, []).append(meter)
        found: dict[tuple[str, str], int] = {}
        for company in self._openings if companies is None else companies:
            for event_name, since, quantity in self._openings.get(company, ()):
                for meter in names.get(event_name, [event_name]):
                    if since == self.of(company, now, meter).start:
                        found[company, meter] = found.get((company, meter), 0) + quantity
        return found

    def starts(self, company: str, now: int) -> Hashable:
        """Return what changes when one of the company's periods begins."""
        start = self.of(company, now).start
        if company not in self._of_meters:
            return start
        return start, tuple((name, period.start) for name, period in sorted(self.of_meters(company, now).items()))

    def earliest(self, now: int) -> int:
        """Return the Unix second at which the earliest of all current periods began."""
        known = [cycle.period.start for cycle in self._known.values()]
        of_meters = [cycle.period.start for cycles in self._of_meters.values() for cycle in cycles.values()]
        return min([month_of(now).start, *known, *of_meters])

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
            self._known, self._of_meters = _read(connection, only)
            self._openings = by_company(connection, [only])
            return True
        subscriptions, accounts = schema.subscriptions, schema.accounts
        version = (
            *_newest(connection, subscriptions, subscriptions.c.checked_at),
            *_newest(connection, accounts, accounts.c.linked_at),
            version_of(connection),
        )
        has_ended = now >= self._next_end
        if version == self._version and not has_ended:
            return False
        if version != self._version:
            self._known, self._of_meters = _read(connection)
            self._openings = by_company(connection, None)
            self._reads += 1
            # Times are whole seconds: another change within this second would look the same.
            self._version = version if max(version) < now else None
        ends = [cycle.at(now).end for cycle in self._known.values()]
        of_meters = [cycle.at(now).end for cycles in self._of_meters.values() for cycle in cycles.values()]
        self._next_end = min([month_of(now).end, *ends, *of_meters])
        return True


def _newest(connection: sa.Connection, table: sa.Table, column: sa.Column[int]) -> tuple[int, int]:
    row = connection.execute(sa.select(sa.func.max(column), sa.func.count()).select_from(table)).one()
    return int(row[0] or 0), int(row[1])


def _read(
    connection: sa.Connection, only: str | None = None
) -> tuple[dict[str, BillingCycle], dict[str, dict[str, BillingCycle]]]:
    """Return the billing cycle of each company, and those of its meters that differ, by event name."""
    items, subscriptions, accounts = schema.items, schema.subscriptions, schema.accounts
    query = (
        sa.select(
            items.c.customer,
            items.c.event_name,
            items.c.subscription,
            items.c.period_start,
            items.c.period_end,
            items.c.price,
            subscriptions.c.anchor,
            accounts.c.company,
        )
        .join_from(items, subscriptions, items.c.subscription == subscriptions.c.id)
        .join(accounts, accounts.c.customer == items.c.customer, isouter=True)
        .where(subscriptions.c.ended_at.is_(None), items.c.period_end > items.c.period_start)
        .order_by(items.c.period_start, items.c.id)
    )
    if only is not None:  # by the index of the customers, which an OR alone would not use
        query = query.where(items.c.customer.in_(companies_by_customer(connection, [only])))
        query = query.where(sa.or_(accounts.c.company == only, items.c.customer == only))
    by_company: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        for company in companies_of(connection, row[0], row[-1]):
            by_company.setdefault(company, []).append(row)
    found: dict[str, BillingCycle] = {}
    others: dict[str, dict[str, BillingCycle]] = {}
    for company, rows in by_company.items():
        if len(rows) == 1:  # as most have; there may be a hundred thousand of them
            found[company] = _cycle(rows[0])
            continue
        found[company], metered = _cycles(rows)
        if metered:
            others[company] = metered
    return found, others


def _cycles(rows: list[Any]) -> tuple[BillingCycle, dict[str, BillingCycle]]:
    """Return the billing cycle of one company, and those of its meters that differ, by event name."""
    first: dict[str, BillingCycle] = {}  # by subscription
    metered: dict[str, BillingCycle] = {}  # by event name; of several, the one that began last
    for row in rows:
        cycle = _cycle(row)
        known = first.get(row.subscription)
        if known is None or cycle.period.end < known.period.end:
            first[row.subscription] = cycle
        if row.event_name is not None:
            metered[row.event_name] = cycle
    latest = max(first.values(), key=lambda each: each.period.start)
    return latest, {name: cycle for name, cycle in metered.items() if cycle != latest}


def _cycle(row: Any) -> BillingCycle:
    _, _, _, start, end, price, anchor, _ = row
    return BillingCycle(Period(start, end), anchor, *recurrence(price))
