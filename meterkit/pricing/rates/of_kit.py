"""The tables of a kit, and the meters of the amounts that they make of usage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.plan import Plan
from meterkit.pricing.price import Price
from meterkit.pricing.rates.table import RateTable


def read_once(given: Any) -> Any:
    """Return an argument of the kit as a list, so that it can be read again; what is none stays as it is."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, Price | Plan | str) else given


def rates_of(prices: Any, plans: Any, meters: Mapping[str, Meter]) -> dict[str, RateTable]:
    """
    Return the tables of each ``Price.by(...)`` in ``prices=`` and ``plans=``, by the name of the meter that they rate.

    Args:
        prices: Argument of the kit, which is checked elsewhere.
        plans: Argument of the kit, which is checked elsewhere.
        meters: Meters of the kit, by name.

    Raises:
        ConfigurationError: A meter has two, or another price besides; or it is not the kit's.
    """
    given = _prices(prices, plans)
    found: dict[str, RateTable] = {}
    for rates in (price.rates for price in given if price.rates is not None):
        if meters.get(rates.meter.name) != rates.meter:
            raise ConfigurationError(f"there is a Price.by for {rates.meter}, which is not in meters=; add it there")
        if found.setdefault(rates.meter.name, rates) != rates:
            raise ConfigurationError(
                f"{rates.meter} has two different Price.by: usage is rated when it is counted, and at one price. Keep "
                "one, or declare a meter for each"
            )
    for price in given:
        if price.rates is None and price.meter.name in found:
            raise ConfigurationError(
                f"{price.meter} has a Price.by, and another price besides: its units are rated, and not reported "
                "themselves. Keep one of the prices"
            )
    return found


def with_amounts(meters: Mapping[str, Meter], rates: Mapping[str, RateTable]) -> dict[str, Meter]:
    """
    Return *meters* and the meters of the amounts that *rates* makes of their usage.

    Raises:
        ConfigurationError: A meter has the name or the event name of such a meter.
    """
    found = dict(meters)
    event_names = {meter.event_name for meter in meters.values()}
    for each in rates.values():
        amounts = each.amounts
        if amounts.name in found or amounts.event_name in event_names:
            raise ConfigurationError(
                f"there is a meter called {amounts.name!r}, which is the name of the amounts of {each.meter}; rename it"
            )
        found[amounts.name] = amounts
    return found


def _prices(prices: Any, plans: Any) -> list[Price]:
    given = [each for each in prices if isinstance(each, Price)] if isinstance(prices, list) else []
    for plan in plans if isinstance(plans, list) else ():
        if isinstance(plan, Plan):
            given += [price for currency in plan.sold_in for price in plan.prices_in(currency)]
    return given
