"""What the usage of companies costs so far, and at the end of their periods."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Calendar, Periods
from meterkit.core.periods import Period
from meterkit.forecast.forecast import ExpectedCost
from meterkit.forecast.paces import Paces
from meterkit.forecast.projection import Projection
from meterkit.pricing.cost import CostCalculator, Spending

Used: TypeAlias = Mapping[str, Mapping[str, int]]
"""Quantity by company and name of the meter."""

Which: TypeAlias = Literal["expected", "low", "high"]


class CostForecasts:
    """
    What the usage of some companies costs, in one currency. It computes for all of them at once what is asked for one.

    Args:
        connection: Connection to the ledger, which stays open.
        calculator: Computes what usage costs.
        paces: How the companies use the meters.
        used: Quantity so far in the running periods.
        periods: Those periods.
        currency: Three-letter currency code; empty for that of each company's first price.
        now: Current time, Unix seconds.
        so_far: What the usage so far costs, if it is known already.

    Attributes:
        so_far: What the usage so far costs, by company.
    """

    def __init__(
        self,
        connection: sa.Connection,
        calculator: CostCalculator,
        paces: Paces,
        used: Used,
        *,
        periods: Periods | Calendar,
        currency: str,
        now: int,
        so_far: Mapping[str, Spending] | None = None,
    ) -> None:
        self._connection = connection
        self._calculator = calculator
        self._paces = paces
        self._used = used
        self._periods = periods
        self._currency = currency
        self._now = now
        self.so_far = self._spending(used) if so_far is None else so_far
        self._projections: dict[str, dict[str, Projection | None]] = {}
        self._later: dict[Which, dict[str, Spending]] = {}

    def currency(self, company: str) -> str:
        """Return the currency of the amounts of *company*; empty if it has no price."""
        return self._currency or next((price.currency for price in self.so_far[company].prices), "")

    def unknown(self, company: str) -> tuple[str, ...]:
        """Return why it is unknown what *company* will have used, one sentence for each meter with a price."""
        found = self._projections_of(company)
        return tuple(self._paces.unknown(company, meter) for meter, each in found.items() if each is None)

    def later(self, company: str, which: Which = "expected") -> Spending:
        """Return what the expected usage costs, or that at one end of its range; unknown usage stays what it is."""
        if which not in self._later:
            self._later[which] = self._spending(
                {each: self._with(each, {m: getattr(p, which) for m, p in self._known(each)}) for each in self._used}
            )
        return self._later[which][company]

    def cautious(self, company: str) -> Decimal:
        """Return the amount that a warning takes: halfway between the expected cost and that at the lower ends."""
        return (self.later(company).possible + self.later(company, "low").possible) / 2

    def cost(self, company: str) -> ExpectedCost | None:
        """Return what the period of *company* will cost; None if it has no price."""
        currency = self.currency(company)
        if not currency:
            return None
        so_far = self.so_far[company]
        spent = [self.later(company, "expected"), self.later(company, "low"), self.later(company, "high")]
        amounts = [each.amount for each in spent if each.amount is not None]
        unknown = list(self.unknown(company))
        for each in (so_far, *spent):
            unknown += [] if each.amount is not None else each.unknown or ["the price was changed in the period"]
        if unknown:
            return ExpectedCost(currency, so_far.amount, None, None, None, tuple(dict.fromkeys(unknown)))
        # By a volume price, more units may cost less.
        return ExpectedCost(currency, so_far.amount, amounts[0], min(amounts), max(amounts))

    def reached(self, amounts: Mapping[str, Decimal]) -> dict[str, int]:
        """
        Return the Unix second at which the usage of each company is expected to cost its amount.

        Now if it already does. Those that do not before the end of their period, or for which that is unknown, are left
        out.

        Args:
            amounts: Amount by company, in whole currency.
        """
        found = {company: self._now for company, amount in amounts.items() if self.so_far[company].possible >= amount}
        moments: dict[str, list[int]] = {}
        for company, amount in amounts.items():
            if company in found or self.unknown(company) or self.later(company).possible < amount:
                continue
            moments[company] = sorted({moment for _, each in self._known(company) for moment, _ in each.path})
        before = dict.fromkeys(moments, 0)  # where the amount is not yet reached
        until = {company: len(each) - 1 for company, each in moments.items()}  # where it is
        while steps := {each: (before[each] + until[each]) // 2 for each in moments if until[each] - before[each] > 1}:
            for company, cost in self._costs_at({each: moments[each][at] for each, at in steps.items()}).items():
                (until if cost >= amounts[company] else before)[company] = steps[company]
        less = self._costs_at({company: each[before[company]] for company, each in moments.items()})
        more = self._costs_at({company: each[until[company]] for company, each in moments.items()})
        for company, each in moments.items():
            begin, end = each[before[company]], each[until[company]]
            rise, needed = more[company] - less[company], amounts[company] - less[company]
            found[company] = (
                end if rise <= 0 else begin + int((end - begin) * min(rise, max(Decimal(0), needed)) / rise)
            )
        return found

    def _costs_at(self, moments: Mapping[str, int]) -> dict[str, Decimal]:
        """Return what each company's usage is expected to cost at a Unix second of its own."""
        used = {
            company: self._with(company, {meter: each.at(moment) for meter, each in self._known(company)})
            for company, moment in moments.items()
        }
        return {company: each.possible for company, each in self._spending(used).items()} if used else {}

    def _spending(self, used: Used) -> dict[str, Spending]:
        return self._calculator.spending(
            self._connection, used, self._currency, now=self._now, period_of=self._period_of
        )

    def _period_of(self, company: str, meter: str) -> Period:
        return self._periods.of(company, self._now, meter)

    def _projections_of(self, company: str) -> dict[str, Projection | None]:
        """Return the projection of each meter that has a price."""
        if company not in self._projections:
            currency = self.currency(company)
            priced = {price.meter.name for price in self.so_far[company].prices if price.currency == currency}
            self._projections[company] = {
                meter: self._paces.project(company, meter, used, end=self._period_of(company, meter).end)
                for meter, used in self._used[company].items()
                if meter in priced
            }
        return self._projections[company]

    def _known(self, company: str) -> list[tuple[str, Projection]]:
        return [(meter, each) for meter, each in self._projections_of(company).items() if each is not None]

    def _with(self, company: str, later: Mapping[str, int]) -> dict[str, int]:
        return {**self._used[company], **later}
