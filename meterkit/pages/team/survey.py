"""What all companies owe so far, who is near a limit, overdue or blocked: one pass over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from itertools import islice
from typing import NamedTuple

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.accounts.period_usage import used_by
from meterkit.accounts.standing import OverdueInvoice, standings
from meterkit.core import threads
from meterkit.core.periods import DAY
from meterkit.forecast.costs import CostForecasts
from meterkit.forecast.paces import Paces
from meterkit.governance.blocked_requests import BlockedRequests, stopped
from meterkit.ledger.bulk import BATCH
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import Share
from meterkit.pricing.cost import CostCalculator, Spending
from meterkit.pricing.price import EXACT, Price

NEAR = Decimal("0.8")
"""Part of a tier, a quota or a cap from which on a company is near it."""

SHOWN = 100
"""Most companies that are listed of a kind."""

BLOCKED_DAYS = 7
"""Days of blocked requests that are added up."""

CALLED = 1_000
"""Most companies for which a ``limit=`` function is called here; of others, what governance was told."""

PAUSE_SECONDS = 0.002
"""Pause between two batches of companies, in which requests get the interpreter."""


class Near(NamedTuple):
    """
    A company that is near a limit, or has reached it.

    Attributes:
        company: Company id.
        limit: Which limit it is.
        share: What it has used of it.
    """

    company: str
    limit: str
    share: Share


class Owed(NamedTuple):
    """
    What a company owes for its usage in the running billing period.

    Attributes:
        company: Company id.
        amount: Amount in whole currency.
        currency: Three-letter currency code.
    """

    company: str
    amount: Decimal
    currency: str


@dataclass
class Survey:
    """
    What was found.

    Attributes:
        companies: Number of companies with usage in their current billing period.
        so_far: What they owe for it, by currency.
        expected: What they will owe when their periods end if they go on like this, by currency.
        unforeseen: Number of companies for which there is no forecast: what they owe so far is all that is expected.
        unknown: Number of companies whose amount cannot be told.
        by_plan: Number of companies and what they owe so far, by plan and currency.
        most: Those who owe most, at most `SHOWN`.
        near: Those who are nearest to a limit, at most `SHOWN`.
        near_in_all: Number of limits that companies are near to.
        overdue: Overdue invoices by company, the oldest first.
        blocked: Blocked requests of the last days by company and reason, the most first, at most `SHOWN`.
    """

    companies: int = 0
    so_far: dict[str, Decimal] = field(default_factory=dict)
    expected: dict[str, Decimal] = field(default_factory=dict)
    unforeseen: int = 0
    unknown: int = 0
    by_plan: dict[tuple[str, str], tuple[int, Decimal]] = field(default_factory=dict)
    most: list[Owed] = field(default_factory=list)
    near: list[Near] = field(default_factory=list)
    near_in_all: int = 0
    overdue: dict[str, list[OverdueInvoice]] = field(default_factory=dict)
    blocked: list[tuple[str | None, str, int]] = field(default_factory=list)


def survey(sources: Sources) -> Survey:
    """
    Look at all companies. Takes seconds for a hundred thousand; for a background thread.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    now, pause = sources.now, threads.original("time", "sleep")
    found = Survey()
    kinds = {"period", *(limits.quota.per for limits in sources.limits)}
    usage = {kind: sources.usage()[kind] for kind in sorted(kinds)}
    for each in usage.values():
        each.refresh(now)
    billed = usage["period"]
    by_company = billed.of_companies({company for company, _ in billed.pairs()})
    found.companies = len(by_company)
    plans = sources.plan_names()
    calculator = CostCalculator(sources.prices, sources.meters, used_since=used_by)
    near: list[Near] = []
    with localcontext(EXACT):
        for batch in _batches(by_company):
            used = {company: by_company[company] for company in batch}
            spent = _spent(sources, calculator, billed.periods, used, currency="", now=now)
            later = _later(sources, calculator, billed.periods, used, spent, now=now)
            for company, spending in spent.items():
                _add_money(found, company, spending, plans.get(company, sources.default_plan), later[company])
                near += _near_tiers(company, spending.prices, used[company])
            near += _near_cap(sources, calculator, billed.periods, used, now)
            pause(PAUSE_SECONDS)
    for number, limits in enumerate(sources.limits):
        of_kind = usage[limits.quota.per]
        pairs = [pair for pair in of_kind.pairs() if pair[1] == limits.quota.meter.name]
        for company, meter in pairs:
            limit = limits.get(company) if len(pairs) <= CALLED else sources.known_limit(number, company)
            if limit is not None:
                share = Share(Decimal(of_kind.used.get((company, meter), 0)), Decimal(limit))
                near += _if_near(company, f"quota of {meter} per {limits.quota.per}", share)
    near.sort(key=lambda each: (-each.share.percent, each.company, each.limit))
    found.near, found.near_in_all = near[:SHOWN], len(near)
    found.most.sort(key=lambda each: (-each.amount, each.company))
    del found.most[SHOWN:]
    with sources.database().snapshot() as connection:
        found.overdue = standings(connection, now=now).overdue
    found.blocked = _blocked(stopped(sources.database(), since=now - now % DAY - (BLOCKED_DAYS - 1) * DAY))
    return found


def _batches(companies: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(sorted(companies))
    while batch := list(islice(rest, BATCH)):
        yield batch


def _spent(
    sources: Sources,
    calculator: CostCalculator,
    periods: Periods | Calendar,
    used: Mapping[str, Mapping[str, int]],
    *,
    currency: str,
    now: int,
) -> dict[str, Spending]:
    with sources.database().snapshot() as connection:
        return calculator.spending(
            connection, used, currency, now=now, period_of=lambda company, meter: periods.of(company, now, meter)
        )


def _later(
    sources: Sources,
    calculator: CostCalculator,
    periods: Periods | Calendar,
    used: Mapping[str, Mapping[str, int]],
    spent: Mapping[str, Spending],
    *,
    now: int,
) -> dict[str, Decimal | None]:
    """Return what each company will owe when its period ends; None if that is unknown."""
    with sources.database().snapshot() as connection:
        paces = Paces(connection, used, sources.meters, now=now)
        costs = CostForecasts(connection, calculator, paces, used, periods=periods, currency="", now=now, so_far=spent)
        return {company: None if costs.unknown(company) else costs.later(company).amount for company in used}


def _add_money(found: Survey, company: str, spending: Spending, plan: str, later: Decimal | None) -> None:
    currency = next((price.currency for price in spending.prices), None)
    if currency is None:
        return
    if spending.amount is None:
        found.unknown += 1
        return
    amount = spending.amount
    found.so_far[currency] = found.so_far.get(currency, Decimal(0)) + amount
    found.expected[currency] = found.expected.get(currency, Decimal(0)) + (amount if later is None else later)
    found.unforeseen += later is None
    number, sum_ = found.by_plan.get((plan, currency), (0, Decimal(0)))
    found.by_plan[plan, currency] = number + 1, sum_ + amount
    if amount:
        found.most.append(Owed(company, amount, currency))


def _near_tiers(company: str, prices: Iterable[Price], used: Mapping[str, int]) -> Iterable[Near]:
    for price in prices:
        quantity = used.get(price.meter.name, 0)
        ends = ((number, tier.up_to) for number, tier in enumerate(price.tiers, 2) if tier.up_to is not None)
        following = next(((number, up_to) for number, up_to in ends if quantity <= up_to), None)
        if following is not None:
            number, up_to = following
            share = Share(Decimal(quantity), Decimal(up_to))
            yield from _if_near(company, f"tier {number} of {price.meter.name}", share)


def _near_cap(
    sources: Sources,
    calculator: CostCalculator,
    periods: Periods | Calendar,
    used: Mapping[str, Mapping[str, int]],
    now: int,
) -> Iterable[Near]:
    rules = sources.governance
    if rules is None or rules.spending_cap is None:
        return
    cap = Decimal(rules.spending_cap)
    for company, spending in _spent(sources, calculator, periods, used, currency=rules.currency, now=now).items():
        yield from _if_near(company, f"spending cap in {rules.currency.upper()}", Share(spending.possible, cap))


def _if_near(company: str, limit: str, share: Share) -> list[Near]:
    return [Near(company, limit, share)] if share.used >= NEAR * share.limit else []


def _blocked(rows: Iterable[BlockedRequests]) -> list[tuple[str | None, str, int]]:
    sums: dict[tuple[str | None, str], int] = {}
    for row in rows:
        sums[row.company, row.reason] = sums.get((row.company, row.reason), 0) + row.count
    most = sorted(sums.items(), key=lambda each: (-each[1], each[0][0] or "", each[0][1]))
    return [(company, reason, count) for (company, reason), count in most[:SHOWN]]
