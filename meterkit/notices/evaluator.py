"""Keep: all that the rules of a kit have to tell, looked for where something has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.accounts.period_usage import Consumption
from meterkit.core.periods import day_of, month_of
from meterkit.governance.policy import Governance, Quota
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.notices.account_notices import overdue, rejected, waiting
from meterkit.notices.notice import Notice
from meterkit.notices.rules import Notify
from meterkit.notices.store import Notices
from meterkit.notices.usage_notices import Consumed, calls, crossed, over_quota
from meterkit.pricing.cost import Spending, spent
from meterkit.pricing.price import Price

Found: TypeAlias = "tuple[Notify, Notice]"

HAPPENINGS_SECONDS = 60
"""Between two looks at what usage does not change, and at which periods end soon."""

DAY = 24 * 3600


class Watch:
    """
    Looks for notices. For one thread.

    Args:
        database: Where the ledger is kept.
        rules: What is to be told.
        meters: Of the kit, by name.
        prices: Of the kit.
        governance: Whose quotas are told of.
        notices: What has been told.
    """

    def __init__(
        self,
        database: Database,
        rules: Iterable[Notify],
        *,
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        governance: Governance | None,
        notices: Notices,
    ) -> None:
        self._database = database
        self._rules = tuple(rules)
        self._quotas: tuple[Quota, ...] = tuple(() if governance is None else governance.quotas)
        self._spending = Spending(prices, meters)
        self._notices = notices
        self._billed = Consumption(database, Periods())
        self._followed = {"period": self._billed}
        for name, period_of in {"month": month_of, "day": day_of}.items():
            self._followed[name] = Consumption(database, Calendar(period_of))
        self._next_look = 0

    def look(self, now: int) -> Iterator[Found]:
        """
        What is to be told now; much of it may have been told.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        changed = {company for company, _ in self._billed.refresh(now)}
        for consumed in self._consumed(changed, now):
            for rule in self._rules:
                for notice in crossed(consumed, rule, now=now):
                    yield rule, notice
                if "calls" in rule.kinds:
                    for notice in calls(consumed, rule, self._notices.known, now=now):
                        yield rule, notice
        yield from self._over_quotas(now)
        if not self._next_look - HAPPENINGS_SECONDS <= now < self._next_look:
            self._next_look = now + HAPPENINGS_SECONDS
            yield from self._happened(now)

    def _over_quotas(self, now: int) -> Iterator[Found]:
        rules = [rule for rule in self._rules if "quota_near" in rule.kinds]
        if not rules:
            return
        for per in sorted({quota.per for quota in self._quotas}):
            consumption = self._followed[per]
            pairs = consumption.refresh(now) if per != "period" else consumption.used.keys()
            for quota in self._quotas:
                if quota.per == per:
                    for company, meter in list(pairs):
                        if meter == quota.meter.name:
                            yield from self._over(quota, company, consumption, rules, now)

    def _over(
        self, quota: Quota, company: str, consumption: Consumption, rules: Iterable[Notify], now: int
    ) -> Iterator[Found]:
        limit = quota.limit(company) if callable(quota.limit) else quota.limit
        if limit is None:
            return
        used = {quota.meter.name: consumption.used.get((company, quota.meter.name), 0)}
        consumed = Consumed(company, consumption.periods.of(company, now), used, ())
        for rule in rules:
            if rule.meter in (None, quota.meter):
                for notice in over_quota(consumed, quota, limit, rule, now=now):
                    yield rule, notice

    def _happened(self, now: int) -> Iterator[Found]:
        looks: dict[str, Callable[[Notify], Iterable[Notice]]] = {
            "overdue": lambda _: overdue(self._database, self._notices, now=now),
            "rejected": lambda _: rejected(self._database, now=now),
            "waiting": lambda rule: waiting(self._database, now=now, days=rule.days),
            "invoice_upcoming": lambda rule: self._upcoming(rule, now),
        }
        for rule in self._rules:
            look = looks.get(rule.kinds[0])
            for notice in () if look is None else look(rule):
                yield rule, notice

    def _upcoming(self, rule: Notify, now: int) -> Iterator[Notice]:
        ending = {
            company
            for company in {company for company, _ in self._billed.used}
            if now >= self._billed.periods.of(company, now).end - rule.days * DAY
        }
        for consumed in self._consumed(ending, now):
            currency = next((price.currency for price in consumed.prices), None)
            if currency is None:
                continue
            cost = spent(consumed.prices, consumed.used, currency)
            yield consumed.notice(
                "invoice_upcoming",
                "invoice",
                f"The next invoice of {consumed.company} is near",
                f"The usage of {consumed.company} costs {cost} {currency.upper()} so far in this billing period.",
                now=now,
                amount=str(cost),
                currency=currency,
                due_at=consumed.period.end,
            )

    def _consumed(self, companies: set[str], now: int) -> Iterator[Consumed]:
        if not companies:
            return
        used: dict[str, dict[str, int]] = {company: {} for company in companies}
        for (company, meter), quantity in self._billed.used.items():
            if company in used:
                used[company][meter] = quantity
        with self._database.snapshot() as connection:
            prices = self._spending.prices_of(connection, companies)
        for company in sorted(companies):
            yield Consumed(company, self._billed.periods.of(company, now), used[company], prices[company])
