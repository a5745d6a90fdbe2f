"""Checks of what a plan is made of. Each takes the value, and *what* it is of, for the error message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from meterkit.core.validation import MAX_QUANTITY
from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.price import Price, decimals_of, money

MOST_ITEMS = 20
"""Stripe: most prices of one subscription."""

MOST_TRIAL_DAYS = 730
"""Stripe: longest trial, in days."""

_FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}")
_INTERVALS = ("day", "week", "month", "year")
_MIXED = frozenset(("month", "year"))  # Stripe: each interval is a multiple of the shortest; these are what is sold


def checked_prices_of(given: Any, what: str) -> tuple[Price, ...]:
    """Return prices of a plan: at most one for each meter, and none with a lookup key."""
    if isinstance(given, Price | str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{what} must be a list of Price; {given!r:.200} is not a list")
    prices = tuple(given)
    meters: set[str] = set()
    for price in prices:
        if not isinstance(price, Price):
            raise ConfigurationError(f"{what} must be a list of Price; {price!r:.200} is not a Price")
        if price.lookup_key is not None:
            raise ConfigurationError(
                f"{what} has a price with lookup_key={price.lookup_key!r:.60}: a plan makes the lookup keys of its "
                "prices; remove it. meterkit provision gives the key to a price in Stripe that costs the same and has "
                "none"
            )
        if price.meter.name in meters:
            raise ConfigurationError(
                f"{what} has two prices of {price.meter}, so each unit would be billed twice: keep one, or make a "
                "second plan"
            )
        meters.add(price.meter.name)
    return prices


def checked_currency(code: Any, what: str) -> str:
    """Return a currency code in lower case."""
    if not isinstance(code, str) or len(code) != 3 or not code.isalpha() or not code.isascii():
        raise ConfigurationError(f"{what} must be three letters such as 'usd', not {code!r:.100}")
    return code.lower()


def check_intervals(interval: Any, what: str, *, fee: Any, prices: Iterable[Price]) -> None:
    """Check that fee and prices fit on one subscription."""
    if interval not in _INTERVALS:
        raise ConfigurationError(f"{what}: interval= must be one of {', '.join(_INTERVALS)}, not {interval!r:.100}")
    intervals = {price.interval for price in prices} | ({interval} if fee is not None else set())
    if len(intervals) > 1 and not intervals <= _MIXED:
        raise ConfigurationError(
            f"{what}: fee and prices are billed every {', every '.join(sorted(intervals))}; on one subscription, only "
            "month and year go together. Give them one interval="
        )


def checked_includes(given: Any, what: str, prices: Iterable[Price]) -> dict[Meter, int]:
    """Return the included units by meter, each of which has one of *prices*."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{what}: includes= must be a dict such as {{calls: 10_000}}, not {given!r:.200}")
    by_meter = {price.meter: price for price in prices}
    for meter, units in given.items():
        if meter not in by_meter:
            raise ConfigurationError(
                f"{what}: includes= has {meter!s:.120}, which has no price in the plan: add its price beyond the "
                "included units, or limit it with limits=[Quota(...)]"
            )
        if type(units) is not int or not 0 < units <= MAX_QUANTITY:
            raise ConfigurationError(f"{what}: includes= of {meter} must be a positive int, not {units!r:.100}")
        scheme = by_meter[meter].scheme
        if scheme in ("volume", "package"):
            raise ConfigurationError(
                f"{what}: includes= of {meter} cannot be combined with a {scheme} price, whose units cannot be free in "
                "part: use Price.per_unit or Price.graduated, or write the free units as a tier of your own"
            )
    return dict(given)


def check_trial(days: Any, what: str) -> None:
    """Check the days of a trial; None for none."""
    if days is not None and (type(days) is not int or not 0 < days <= MOST_TRIAL_DAYS):
        raise ConfigurationError(
            f"{what}: trial_days= must be 1 to {MOST_TRIAL_DAYS} days (Stripe's limit), or left out for no trial; "
            f"not {days!r:.100}. A plan that costs nothing for ever needs no trial: leave out fee= and prices="
        )


def checked_features(given: Any, what: str) -> frozenset[str]:
    """Return the names of features."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{what}: features= must be a set of names such as {{'export'}}, not {given!r:.200}")
    found = list(given)
    for feature in found:
        if not isinstance(feature, str) or not _FEATURE.fullmatch(feature):
            raise ConfigurationError(
                f"{what}: a feature must be a name such as 'export' (letters, digits, '_', '.', ':', '-', at most 80), "
                f"not {feature!r:.100}"
            )
    return frozenset(found)


def checked_fee(given: Any, currency: str, what: str) -> Decimal | None:
    """Return a fee in whole currency; None for none."""
    if given is None:
        return None
    fee = money(given, what)
    if fee != round(fee, decimals_of(currency)):
        raise ConfigurationError(
            f"{what} {given} is not a whole number of {currency.upper()}'s smallest unit; round it"
        )
    return fee


def check_amounts(prices: tuple[Price, ...], what: str, *, currency: str, fee: Any) -> None:
    """Check that fee and prices make up one subscription."""
    others = sorted({price.currency for price in prices} - {currency})
    if others:
        raise ConfigurationError(
            f"{what}: prices in {', '.join(others)} among those in {currency}: a subscription has one currency. Put "
            f"them into currencies={{{others[0]!r}: Amounts(prices=[...])}}"
        )
    number = len(prices) + (fee is not None)
    if number > MOST_ITEMS:
        raise ConfigurationError(
            f"{what} has {number} prices and fees, and a subscription in Stripe at most {MOST_ITEMS}: split the plan, "
            "or bill several things by one meter"
        )
