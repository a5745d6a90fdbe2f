"""Put the forecasts of companies together: usage, what it costs, and when limits are reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Periods
from meterkit.accounts.period_usage import used_by, used_in
from meterkit.accounts.statement import Limit
from meterkit.core.periods import Period, month_of
from meterkit.forecast.costs import CostForecasts
from meterkit.forecast.forecast import Cap, ExpectedLimit, ExpectedUsage, Forecast
from meterkit.forecast.paces import Paces
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.price import Price

LimitsOf: TypeAlias = Callable[[str], Iterable[Limit]]
"""Function from a company to the limits of its quotas."""


class Forecaster:
    """
    Computes forecasts.

    Args:
        meters: Meters of the kit, by name; only these are in a forecast.
        prices: Prices of the kit, for companies without a known subscription.
        cap: Spending cap of the kit, or None.
    """

    def __init__(self, meters: Mapping[str, Meter], prices: Iterable[Price], *, cap: Cap | None = None) -> None:
        self._meters = meters
        self._calculator = CostCalculator(prices, meters, used_since=used_by)
        self._cap = cap

    def of(self, connection: sa.Connection, company: str, *, limits: Iterable[Limit], now: int) -> Forecast:
        """
        Return the forecast of one company.

        Args:
            connection: Connection to the ledger.
            company: Company id.
            limits: Limits of its quotas.
            now: Current time, Unix seconds.
        """
        periods = self._periods()
        periods.refresh(connection, now, only=company)
        return next(self._forecasts(connection, periods, [company], lambda _: limits, now))

    def of_all(
        self, connection: sa.Connection, companies: Iterable[str], *, limits_of: LimitsOf, now: int
    ) -> list[Forecast]:
        """
        Return the forecasts of several companies, in the same order.

        Args:
            connection: Connection to the ledger.
            companies: Company ids; some hundred at once, because their daily sums are kept in memory.
            limits_of: Function from a company to the limits of its quotas.
            now: Current time, Unix seconds.
        """
        periods = self._periods()
        periods.refresh(connection, now)
        return list(self._forecasts(connection, periods, list(companies), limits_of, now))

    def _periods(self) -> Periods:
        return Periods({name: meter.event_name for name, meter in self._meters.items()})

    def _forecasts(
        self, connection: sa.Connection, periods: Periods, companies: list[str], limits_of: LimitsOf, now: int
    ) -> Iterator[Forecast]:
        paces = Paces(connection, companies, self._meters, now=now)
        used: dict[str, dict[str, int]] = {company: {} for company in companies}
        for (company, meter), quantity in sorted(used_in(connection, periods, companies, now).items()):
            used[company][meter] = quantity

        def costs_in(currency: str) -> CostForecasts:
            return CostForecasts(connection, self._calculator, paces, used, periods=periods, currency=currency, now=now)

        costs = costs_in("")
        capped = None if self._cap is None else costs_in(self._cap.currency)
        reached = (
            {} if capped is None or self._cap is None else capped.reached(dict.fromkeys(companies, self._cap.amount))
        )
        for company in companies:
            limits = [
                self._quota(connection, paces, company, each, used=used[company], periods=periods, now=now)
                for each in limits_of(company)
                if each.units is not None and each.per != "day"
            ]
            if capped is not None:
                limits.append(self._capped(capped, company, periods.of(company, now), reached.get(company)))
            usage = tuple(
                _usage(paces, company, meter, quantity, periods.of(company, now, meter))
                for meter, quantity in used[company].items()
                if meter in self._meters
            )
            yield Forecast(company, now, periods.of(company, now), usage, costs.cost(company), tuple(limits))

    def _quota(
        self,
        connection: sa.Connection,
        paces: Paces,
        company: str,
        limit: Limit,
        *,
        used: Mapping[str, int],
        periods: Periods,
        now: int,
    ) -> ExpectedLimit:
        assert limit.units is not None
        if limit.per == "month":
            period = month_of(now)
            so_far = used_by(connection, company, limit.meter, period.start)
        else:
            period, so_far = periods.of(company, now, limit.meter), used.get(limit.meter, 0)
        found = paces.project(company, limit.meter, so_far, end=period.end)
        reached = None if found is None else found.reaches(limit.units)
        return ExpectedLimit(
            kind="quota",
            meter=limit.meter,
            per=limit.per,
            period=period,
            limit=limit.units,
            currency="",
            used=so_far,
            expected=None if found is None else found.expected,
            reached_at=now if so_far >= limit.units else reached,
        )

    def _capped(self, costs: CostForecasts, company: str, period: Period, reached_at: int | None) -> ExpectedLimit:
        assert self._cap is not None
        return ExpectedLimit(
            kind="spending_cap",
            meter=None,
            per="period",
            period=period,
            limit=self._cap.amount,
            currency=self._cap.currency,
            used=costs.so_far[company].possible,
            expected=None if costs.unknown(company) else costs.later(company).possible,
            reached_at=reached_at,
        )


def _usage(paces: Paces, company: str, meter: str, used: int, period: Period) -> ExpectedUsage:
    found = paces.project(company, meter, used, end=period.end)
    if found is None:
        return ExpectedUsage(meter, period, used, None, None, None, paces.unknown(company, meter))
    return ExpectedUsage(meter, period, used, found.expected, found.low, found.high)
