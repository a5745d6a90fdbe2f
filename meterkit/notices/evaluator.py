"""
Evaluate all rules after a flush.

A change stays pending until the notices that follow from it are written: an attempt that fails, because the ledger is
locked or application code raises, loses none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from meterkit.accounts.period_usage import Pair, PeriodUsage, UsageByPeriod, used_by
from meterkit.core.periods import DAY
from meterkit.forecast.forecast import Cap
from meterkit.governance.limits.limit_cache import LimitCache
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.notices.account_notices import (
    credits_to_give,
    lost_invoice_items,
    overdue,
    paid,
    rejected,
    unbilled_usage,
    waiting,
)
from meterkit.notices.notice import Notice
from meterkit.notices.pace_notices import PaceNotices
from meterkit.notices.rules import Notify
from meterkit.notices.store import NoticeStore
from meterkit.notices.usage_notices import MAX_CALLS, CompanyUsage, calls, crossed, over_quota
from meterkit.notices.wallet_notices import expiring_grants, failed_top_ups, low_balances
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.price import Price, digits

Found: TypeAlias = "tuple[Notify, Notice]"

ACCOUNT_SECONDS = 60
"""Interval at which rules that do not depend on usage are evaluated: invoices, rejected events, limits, period ends."""

UNBILLED_SECONDS = 3600
"""Interval at which usage is looked for that no price bills: usage is reported hourly, and the look is not cheap."""


class RuleEvaluator:
    """
    Evaluates all rules. Not safe for several threads.

    Args:
        database: Database of the ledger.
        rules: Rules to evaluate.
        usage: Usage of this process's ledger, by kind of period.
        limits: Limit caches of the quotas that rules may be about.
        meters: Meters of the kit, by name.
        prices: Prices of the kit, for companies without a known subscription.
        notices: Store of written notices.
        is_free: Function that returns whether a company's usage is free by a rule of the kit; None if nobody's is.
        cap: Spending cap that rules may be about, or None.
    """

    def __init__(
        self,
        database: Database,
        rules: Iterable[Notify],
        *,
        usage: UsageByPeriod,
        limits: Iterable[LimitCache],
        meters: Mapping[str, Meter],
        prices: Iterable[Price],
        notices: NoticeStore,
        is_free: Callable[[str], bool] | None = None,
        cap: Cap | None = None,
    ) -> None:
        self._database = database
        self._rules = tuple(rules)
        self._quota_rules = [rule for rule in self._rules if "quota_near" in rule.kinds]
        all_limits = tuple(limits)
        self._limits = all_limits if self._quota_rules else ()
        self._spending = CostCalculator(prices, meters, used_since=used_by)
        amounts = [rule for rule in self._rules if "threshold" in rule.kinds and rule.amount is not None]
        self._currencies = sorted({rule.currency for rule in amounts})
        self._notices = notices
        self._is_free = is_free
        self._billed = usage["period"]
        kinds: set[str] = {"period", *(each.quota.per for each in self._limits)}
        self._usage = {kind: usage[kind] for kind in sorted(kinds)}
        self._changes = {kind: each.changes() for kind, each in self._usage.items()}
        self._pace = PaceNotices(
            database, self._rules, usage=usage, limits=all_limits, meters=meters, calculator=self._spending, cap=cap
        )
        self._evaluated: dict[str, dict[Pair, int]] = {}
        self._next_accounts = self._evaluated_next_accounts = 0
        self._next_unbilled = self._evaluated_next_unbilled = 0

    def evaluate(self, now: int) -> list[Found]:
        """
        Return the notices that are due; many may have been written before.

        They are returned again until `settle` is called.

        Args:
            now: Current time, Unix seconds.

        Raises:
            LedgerError: The ledger could not be read; evaluate again.
        """
        for usage in self._usage.values():
            usage.refresh(now)
        pending: dict[str, dict[Pair, int]] = {kind: changes.pending() for kind, changes in self._changes.items()}
        is_due = not self._next_accounts - ACCOUNT_SECONDS <= now < self._next_accounts
        found: list[Found] = []
        unfinished: set[str] = set()
        for usage_of in self._of_companies({company for company, _ in pending["period"]}, self._currencies, now):
            found += self._of_usage(usage_of, unfinished, now)
        for limits in self._limits:
            usage = self._usage[limits.quota.per]
            for company, meter in usage.pairs() if is_due else pending[limits.quota.per]:
                if meter == limits.quota.meter.name:
                    found += self._over(limits, company, usage, now)
        if is_due:
            found += self._of_accounts(now)
        found += self._pace.find(now)
        is_due_unbilled = is_due and not self._next_unbilled - UNBILLED_SECONDS <= now < self._next_unbilled
        if is_due_unbilled:
            found += self._of_unbilled(now)
        pending["period"] = {pair: each for pair, each in pending["period"].items() if pair[0] not in unfinished}
        self._evaluated = pending
        self._evaluated_next_accounts = now + ACCOUNT_SECONDS if is_due else self._next_accounts
        self._evaluated_next_unbilled = now + UNBILLED_SECONDS if is_due_unbilled else self._next_unbilled
        return found

    def settle(self) -> None:
        """Mark everything that the latest `evaluate` returned as written."""
        for kind, done in self._evaluated.items():
            self._changes[kind].settle(done)
        self._evaluated = {}
        self._pace.settle()
        self._next_accounts = self._evaluated_next_accounts
        self._next_unbilled = self._evaluated_next_unbilled

    def _of_usage(self, usage_of: CompanyUsage, unfinished: set[str], now: int) -> Iterator[Found]:
        for rule in self._rules:
            for notice in crossed(usage_of, rule, now=now):
                yield rule, notice
            if "calls" in rule.kinds:
                found = list(calls(usage_of, rule, self._notices.known, now=now))
                yield from ((rule, notice) for notice in found)
                if len(found) == MAX_CALLS:
                    unfinished.add(usage_of.company)  # the others follow

    def _over(self, limits: LimitCache, company: str, usage: PeriodUsage, now: int) -> Iterator[Found]:
        quota, limit = limits.quota, limits.get(company)
        if limit is None:
            return
        used = {quota.meter.name: usage.used.get((company, quota.meter.name), 0)}
        usage_of = CompanyUsage(company, usage.periods.of(company, now, quota.meter.name), used, ())
        for rule in self._quota_rules:
            if rule.meter in (None, quota.meter):
                for notice in over_quota(usage_of, quota, limit, rule, now=now):
                    yield rule, notice

    def _of_accounts(self, now: int) -> Iterator[Found]:
        kinds: dict[str, Callable[[Notify], Iterable[Notice]]] = {
            "overdue": lambda _: overdue(self._database, self._notices, now=now),
            "invoice_paid": lambda _: paid(self._database, now=now),
            "rejected": lambda _: rejected(self._database, now=now),
            "waiting": lambda rule: waiting(self._database, now=now, days=rule.days),
            "invoice_upcoming": lambda rule: self._upcoming(rule, now),
            "balance_low": lambda rule: low_balances(self._database, rule, now=now),
            "grant_expiring": lambda rule: expiring_grants(self._database, now=now, days=rule.days),
            "top_up_failed": lambda _: failed_top_ups(self._database, now=now),
        }
        for rule in self._rules:
            find = kinds.get(rule.kinds[0])
            for notice in () if find is None else find(rule):
                yield rule, notice

    def _of_unbilled(self, now: int) -> list[Found]:
        rules = [rule for rule in self._rules if "unbilled" in rule.kinds]
        if not rules:
            return []
        notices = [*unbilled_usage(self._database, now=now, is_free=self._is_free)]
        notices += lost_invoice_items(self._database, now=now)
        notices += credits_to_give(self._database, now=now)
        return [(rule, notice) for rule in rules for notice in notices]

    def _upcoming(self, rule: Notify, now: int) -> Iterator[Notice]:
        ending = {
            company
            for company in {company for company, _ in self._billed.pairs()}
            if now >= self._billed.periods.of(company, now).end - rule.days * DAY
        }
        for usage in self._of_companies(ending, [""], now):
            currency = next((price.currency for price in usage.prices), None)
            amount = usage.costs[""]
            if currency is None or amount is None:
                continue
            cost = digits(amount)
            yield usage.notice(
                "invoice_upcoming",
                "invoice",
                f"Upcoming invoice for {usage.company}",
                f"The usage of {usage.company} in this billing period costs {cost} {currency.upper()} so far.",
                now=now,
                amount=cost,
                currency=currency,
                due_at=usage.period.end,
            )

    def _of_companies(self, companies: set[str], currencies: Iterable[str], now: int) -> Iterator[CompanyUsage]:
        """Yield each company's usage, with its cost in each of *currencies*; that in "" is in its own."""
        if not companies:
            return
        periods, used = self._billed.periods, self._billed.of_companies(companies)
        with self._database.snapshot() as connection:
            found = {
                currency: self._spending.spending(
                    connection,
                    used,
                    currency,
                    now=now,
                    period_of=lambda company, meter: periods.of(company, now, meter),
                )
                for currency in currencies
            }
            prices = self._spending.prices_of(connection, companies)
        for company in sorted(companies):
            costs = {currency: spent[company].amount for currency, spent in found.items()}
            yield CompanyUsage(company, periods.of(company, now), used[company], prices[company], costs)
