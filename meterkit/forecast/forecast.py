"""What is said of the rest of a company's period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from meterkit.core.periods import Period
from meterkit.pricing.price import digits, rounded


class Cap(NamedTuple):
    """
    A spending cap.

    Attributes:
        amount: Amount in whole currency.
        currency: Three-letter currency code.
    """

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ExpectedUsage:
    """
    What a company will have used of a meter when its billing period ends, in the meter's unit.

    Attributes:
        meter: Name of the meter.
        period: Period of the usage.
        used: Quantity so far.
        expected: Quantity at the end of the period, if usage goes on like this; None if that is unknown.
        low: Lower end of the range that holds the quantity in four of five cases, or None.
        high: Upper end of it, or None.
        unknown: Why there is no forecast, one sentence; empty if there is one.
    """

    meter: str
    period: Period
    used: int
    expected: int | None
    low: int | None
    high: int | None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedCost:
    """
    What the usage of a company's billing period will cost, in whole currency; without fees, discounts and tax.

    Attributes:
        currency: Three-letter code of the currency.
        so_far: Cost of the usage so far; None if it cannot be told.
        expected: Cost at the end of the period, if usage goes on like this; None if that is unknown.
        low: Cost at the lower ends of the ranges of the meters, or None.
        high: Cost at the upper ends of them, or None.
        unknown: Why there is no forecast, one sentence each; empty if there is one.
    """

    currency: str
    so_far: Decimal | None
    expected: Decimal | None
    low: Decimal | None
    high: Decimal | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpectedLimit:
    """
    A quota of a month or billing period, or the spending cap, and when it is reached at this pace.

    Attributes:
        kind: ``quota`` or ``spending_cap``.
        meter: Name of the quota's meter; None for the spending cap.
        per: Kind of period: ``period`` or ``month``.
        period: The current one.
        limit: Units of the quota, or amount of the cap in whole currency.
        currency: Three-letter code of the cap's currency; empty for a quota.
        used: What is used of it so far, in the unit of *limit*.
        expected: What will be used of it at the end of the period; None if that is unknown.
        reached_at: Unix second at which it is reached at this pace, that of the forecast if it already is; None if it
            is not reached in the period, or that is unknown.
    """

    kind: Literal["quota", "spending_cap"]
    meter: str | None
    per: str
    period: Period
    limit: int | Decimal
    currency: str
    used: int | Decimal
    expected: int | Decimal | None
    reached_at: int | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What is expected of a company until its billing period ends.

    Attributes:
        company: Company id.
        as_of: Unix second up to which usage is known.
        period: Billing period of the company.
        usage: Expected usage of each meter that it has used in the period.
        cost: Expected cost; None if the company has no prices.
        limits: Quotas and cap, with when they are reached.
    """

    company: str
    as_of: int
    period: Period
    usage: tuple[ExpectedUsage, ...]
    cost: ExpectedCost | None
    limits: tuple[ExpectedLimit, ...]


def as_json(forecast: Forecast) -> dict[str, Any]:
    """Return *forecast* ready for ``json.dumps``: times as ISO 8601 in UTC, amounts as digits."""
    found = asdict(forecast)
    cost = forecast.cost
    return {
        "company": forecast.company,
        "as_of": _instant(forecast.as_of),
        "period": _period(forecast.period),
        "usage": [{**each, "period": _period(Period(*each["period"]))} for each in found["usage"]],
        "cost": None if cost is None else _cost(cost),
        "limits": [_limit(each) for each in forecast.limits],
    }


def _cost(cost: ExpectedCost) -> dict[str, Any]:
    amounts = {name: getattr(cost, name) for name in ("so_far", "expected", "low", "high")}
    return {
        "currency": cost.currency,
        **{name: None if each is None else digits(rounded(each, cost.currency)) for name, each in amounts.items()},
        "unknown": list(cost.unknown),
    }


def _limit(limit: ExpectedLimit) -> dict[str, Any]:
    def written(value: int | Decimal | None) -> int | str | None:
        return digits(rounded(value, limit.currency)) if isinstance(value, Decimal) else value

    found: Mapping[str, Any] = {name: written(getattr(limit, name)) for name in ("limit", "used", "expected")}
    return {
        "kind": limit.kind,
        "meter": limit.meter,
        "per": limit.per,
        "period": _period(limit.period),
        "currency": limit.currency or None,
        **found,
        "reached_at": None if limit.reached_at is None else _instant(limit.reached_at),
    }


def _period(period: Period) -> dict[str, str]:
    return {"start": _instant(period.start), "end": _instant(period.end)}


def _instant(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
