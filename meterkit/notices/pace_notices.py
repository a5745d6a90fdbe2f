"""
Notices that a limit will be reached before its period ends, if usage goes on like this.

Looking ahead needs the daily sums of weeks, so it is bounded: each company is looked at once an hour, if its usage has
changed, some hundred companies after each flush; and only those that have used a part of the limit already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from meterkit.accounts.period_usage import Pair, PeriodUsage, UsageByPeriod
from meterkit.core.periods import Period, instant
from meterkit.forecast.costs import CostForecasts
from meterkit.forecast.forecast import Cap
from meterkit.forecast.paces import Paces
from meterkit.forecast.projection import Projection
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.notices.notice import Notice
from meterkit.notices.rules import Notify
from meterkit.notices.usage_notices import PERIODS, CompanyUsage
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.price import digits, rounded

ROUND_SECONDS = 3600
"""Interval at which a company is looked at whose usage goes on."""

AT_ONCE = 200
"""Most companies that are looked at after a flush; the others follow after the next ones."""

MOST_REMEMBERED = 100_000
"""Notices that a process remembers to be in the ledger already."""

WARNED_FROM = Decimal("0.1")
"""Part of a limit that must be used before there is a notice: of less, a few busy days say too little."""


class _Limited(NamedTuple):
    """A number of units that a company may reach."""

    rule: Notify
    company: str
    meter: str
    subject: str
    name: str  # as in "reaches its quota of calls"
    per: str
    period: Period
    used: int
    limit: int

    @property
    def usage(self) -> CompanyUsage:
        """The usage that it limits."""
        return CompanyUsage(self.company, self.period, {self.meter: self.used}, ())


class _Budget(NamedTuple):
    """An amount that companies may reach."""

    rule: Notify
    subject: str
    name: str
    amount: Decimal
    currency: str
    is_cap: bool


def is_under_way(used: int | Decimal, limit: int | Decimal) -> bool:
    """Return whether so much of *limit* is used that a company may be warned of reaching it, and not all."""
    return WARNED_FROM * limit <= used < limit


def warned_at(projection: Projection, limit: int) -> int | None:
    """Return the Unix second at which *limit* will be reached, if it is time to warn of that; otherwise None."""
    is_due = is_under_way(projection.used, limit) and projection.cautious >= limit
    return projection.reaches(limit) if is_due else None


class PaceNotices:
    """
    Finds the notices of `Notify.pace`. Not safe for several threads.

    Args:
        database: Database of the ledger.
        rules: Rules of the kit; those of other kinds are ignored.
        usage: Usage of this process's ledger, by kind of period.
        limits: Limit caches of the quotas.
        meters: Meters of the kit, by name.
        calculator: Computes what usage costs.
        cap: Spending cap of the kit, or None.
    """

    def __init__(
        self,
        database: Database,
        rules: Iterable[Notify],
        *,
        usage: UsageByPeriod,
        limits: Iterable[LimitCache],
        meters: Mapping[str, Meter],
        calculator: CostCalculator,
        cap: Cap | None,
    ) -> None:
        self._database = database
        self._meters = meters
        self._calculator = calculator
        rules = [rule for rule in rules if "pace" in rule.kinds]
        self._of_quotas = [rule for rule in rules if rule.units is None and rule.amount is None]
        self._of_units = [rule for rule in rules if rule.units is not None]
        self._limits = [each for each in limits if each.quota.per != "day"] if self._of_quotas else []
        self._budgets = [
            _Budget(rule, f"{rule.currency}:{rule.amount}", "its budget", rule.amount, rule.currency, is_cap=False)
            for rule in rules
            if rule.amount is not None
        ]
        if cap is not None:
            subject = f"cap:{cap.currency}:{cap.amount}"
            self._budgets += [
                _Budget(rule, subject, "the spending cap", *cap, is_cap=True)
                for rule in self._of_quotas
                if rule.meter is None
            ]
        kinds = {"period", *(each.quota.per for each in self._limits)} if rules else set()
        self._usage: dict[str, PeriodUsage] = {kind: usage[kind] for kind in sorted(kinds)}
        self._changes = {kind: each.changes() for kind, each in self._usage.items()}
        self._pending: dict[str, dict[Pair, int]] = {}
        self._waiting: list[str] = []
        self._next_round = 0
        self._found: set[tuple[int, str]] = set()  # what is written already: rule and key
        self._finding: set[tuple[int, str]] = set()

    def find(self, now: int) -> list[tuple[Notify, Notice]]:
        """
        Return the notices that are due about the companies that are looked at now, until `settle` is called.

        Args:
            now: Current time, Unix seconds.

        Raises:
            LedgerError: The ledger could not be read; find again.
        """
        if not self._usage:
            return []
        if not self._waiting:
            if self._next_round - ROUND_SECONDS <= now < self._next_round:
                return []
            for usage in self._usage.values():
                usage.refresh(now)
            self._pending = {kind: changes.pending() for kind, changes in self._changes.items()}
            self._waiting = sorted({company for pairs in self._pending.values() for company, _ in pairs})
            self._next_round = now + ROUND_SECONDS
        companies = self._waiting[:AT_ONCE]
        if not companies:
            return []
        with self._database.snapshot() as connection:
            paces = Paces(connection, companies, self._meters, now=now)
            found = [
                *self._reaching_units(paces, companies, now),
                *self._reaching_amounts(connection, paces, companies, now),
            ]
        self._finding = {(id(rule), notice.key) for rule, notice in found}
        return found

    def settle(self) -> None:
        """Mark what the latest `find` returned as written: this process does not look for it again."""
        if len(self._found) > MOST_REMEMBERED:
            self._found.clear()
        self._found |= self._finding
        self._finding = set()
        del self._waiting[:AT_ONCE]
        if not self._waiting:
            for kind, pairs in self._pending.items():
                self._changes[kind].settle(pairs)
            self._pending = {}

    def _reaching_units(self, paces: Paces, companies: list[str], now: int) -> Iterator[tuple[Notify, Notice]]:
        limited = (each for each in self._limited(companies, now) if is_under_way(each.used, each.limit))
        found = [each for each in limited if self._is_new(each.rule, each.usage, each.subject)]
        for each in found:
            projection = paces.project(each.company, each.meter, each.used, end=each.period.end)
            reached_at = None if projection is None else warned_at(projection, each.limit)
            if projection is None or reached_at is None:
                continue
            about: dict[str, str | int] = {
                "meter": each.meter,
                "used": each.used,
                "limit": each.limit,
                "expected": projection.expected,
            }
            yield (
                each.rule,
                _notice(
                    each.usage,
                    each.subject,
                    name=each.name,
                    used=f"used {each.used:,} {each.meter}",
                    limit=f"{each.limit:,}",
                    expected=f"{projection.expected:,}",
                    per=each.per,
                    reached_at=reached_at,
                    now=now,
                    about=about,
                ),
            )

    def _limited(self, companies: list[str], now: int) -> Iterator[_Limited]:
        """Yield every limit in units that one of *companies* has used something of."""

        def limited(
            rule: Notify, company: str, meter: str, per: str, limit: int, *, subject: str, name: str
        ) -> _Limited:
            usage = self._usage[per]
            period = usage.periods.of(company, now, meter)
            return _Limited(
                rule, company, meter, subject, name, per, period, usage.used.get((company, meter), 0), limit
            )

        for limits in self._limits:
            meter, per = limits.quota.meter.name, limits.quota.per
            rules = [rule for rule in self._of_quotas if rule.meter in (None, limits.quota.meter)]
            for company in companies if rules else ():
                limit = limits.get(company) if (company, meter) in self._usage[per].used else None
                for rule in rules if limit is not None else ():
                    subject, name = f"{meter}:{per}:{limit}", f"its quota of {meter}"
                    yield limited(rule, company, meter, per, limit or 0, subject=subject, name=name)
        for rule in self._of_units:
            assert rule.meter is not None
            assert rule.units is not None
            meter, subject = rule.meter.name, f"{rule.meter.name}:{rule.units}"
            for company in companies:
                yield limited(
                    rule, company, meter, "period", rule.units, subject=subject, name=f"{rule.units:,} {meter}"
                )

    def _reaching_amounts(
        self, connection: sa.Connection, paces: Paces, companies: list[str], now: int
    ) -> Iterator[tuple[Notify, Notice]]:
        if not self._budgets:
            return
        billed = self._usage["period"]
        used, periods = billed.of_companies(companies), billed.periods
        for currency in sorted({budget.currency for budget in self._budgets}):
            budgets = [budget for budget in self._budgets if budget.currency == currency]
            spent = self._calculator.spending(
                connection,
                used,
                currency,
                now=now,
                period_of=lambda company, meter: periods.of(company, now, meter),
            )
            near = {
                company: [
                    budget
                    for budget in budgets
                    if _is_near(budget, spending.possible, spending.amount)
                    and self._is_new(
                        budget.rule, CompanyUsage(company, periods.of(company, now), {}, ()), budget.subject
                    )
                ]
                for company, spending in spent.items()
            }
            near = {company: several for company, several in near.items() if several}
            costs = CostForecasts(
                connection,
                self._calculator,
                paces,
                {company: used[company] for company in near},
                periods=periods,
                currency=currency,
                now=now,
                so_far=spent,
            )
            for budget in budgets:
                due = [each for each, few in near.items() if budget in few and costs.cautious(each) >= budget.amount]
                for company, reached_at in costs.reached(dict.fromkeys(due, budget.amount)).items():
                    period = periods.of(company, now)
                    yield budget.rule, _of_amount(company, period, costs, budget, reached_at, now=now)

    def _is_new(self, rule: Notify, usage_of: CompanyUsage, subject: str) -> bool:
        """Return whether this process has not found that notice yet."""
        return (id(rule), usage_of.key("pace", subject)) not in self._found


def _is_near(budget: _Budget, possible: Decimal, amount: Decimal | None) -> bool:
    """Return whether a company may be warned of *budget*: of a cap by what the usage costs at most, as it blocks."""
    so_far = possible if budget.is_cap else amount
    return so_far is not None and is_under_way(so_far, budget.amount)


def _of_amount(
    company: str, period: Period, costs: CostForecasts, budget: _Budget, reached_at: int, *, now: int
) -> Notice:
    unit, so_far = budget.currency.upper(), digits(costs.so_far[company].possible)
    expected = digits(rounded(costs.later(company).possible, budget.currency))
    about = {"amount": so_far, "limit": digits(budget.amount), "currency": budget.currency, "expected": expected}
    limit = f"{digits(budget.amount)} {unit}"
    return _notice(
        CompanyUsage(company, period, {}, ()),
        budget.subject,
        name=f"{budget.name} of {limit}",
        used=f"spent {so_far} {unit}",
        limit=limit,
        expected=f"{expected} {unit}",
        per="period",
        reached_at=reached_at,
        now=now,
        about=about,
    )


def _notice(
    usage_of: CompanyUsage,
    subject: str,
    *,
    name: str,
    used: str,
    limit: str,
    expected: str,
    per: str,
    reached_at: int,
    now: int,
    about: Mapping[str, str | int],
) -> Notice:
    company, day = usage_of.company, instant(reached_at)[:10]
    title = f"At this pace, {company} reaches {name} on {day}"
    text = (
        f"{company} has {used} of {limit} {PERIODS[per]}. At the pace of the last weeks, it reaches that limit on "
        f"{day}, and comes to about {expected} by the end of {instant(usage_of.period.end - 1)[:10]}."
    )
    return usage_of.notice("pace", subject, title, text, now=now, **about, reached_at=reached_at)
