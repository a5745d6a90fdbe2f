"""Convert prices from and to Stripe's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Money, Price, Tier, decimals_of, digits, whole


def price_of(known: Mapping[str, Any], meter: Meter) -> Price:
    """
    Return Stripe's price as a `Price`.

    Args:
        known: Stripe's price as JSON, including its tiers; amounts are in the minor unit.
        meter: Meter whose usage is priced; for a licensed price, one named after its product.

    Raises:
        ConfigurationError: The price cannot be expressed as a `Price`.
    """
    currency = str(known["currency"])
    options = {"currency": currency, "interval": str((known.get("recurring") or {}).get("interval", "month"))}
    if known.get("billing_scheme") == "tiered":
        tiers = [_tier(tier, currency) for tier in known.get("tiers") or ()]
        graduated = known.get("tiers_mode") == "graduated"
        return (Price.graduated if graduated else Price.volume)(meter, *tiers, **options)
    unit_price = _whole(known.get("unit_amount_decimal"), currency)
    if unit_price is None:
        raise ConfigurationError(f"price {known.get('id')} has no fixed amount: customers choose what they pay")
    package = known.get("transform_quantity")
    if package:
        return Price.package(meter, unit_price, size=package["divide_by"], round=package["round"], **options)
    return Price.per_unit(meter, unit_price, **options)


def _tier(tier: Mapping[str, Any], currency: str) -> Tier:
    return Tier(
        up_to=tier.get("up_to"),
        unit_price=_whole(tier.get("unit_amount_decimal"), currency) or Decimal(0),
        flat_price=_whole(tier.get("flat_amount_decimal"), currency),
    )


def _whole(minor: Any, currency: str) -> Decimal | None:
    """Return an amount of minor units in whole currency; None for None."""
    return None if minor is None else whole(minor, currency)


def params_of(price: Price) -> dict[str, Any]:
    """Return the parameters with which Stripe creates *price*; the caller adds meter, product and lookup key."""
    params: dict[str, Any] = {
        "currency": price.currency,
        "recurring": {"interval": price.interval, "usage_type": "metered"},
        "billing_scheme": "per_unit" if price.scheme in ("per_unit", "package") else "tiered",
    }
    if params["billing_scheme"] == "tiered":
        params["tiers_mode"] = price.scheme
        params["tiers"] = [_params_of_tier(tier, price.currency) for tier in price.tiers]
        return params
    params["unit_amount_decimal"] = minor(price.tiers[0].unit_price, price.currency)
    if price.scheme == "package":
        params["transform_quantity"] = {"divide_by": price.size, "round": price.round}
    return params


def costs_the_same(known: Mapping[str, Any], price: Price) -> bool:
    """Return whether Stripe's price charges the same as *price*; meter and product are not compared."""
    recurring = known.get("recurring") or {}
    if recurring.get("usage_type") != "metered" or recurring.get("interval_count", 1) != 1:
        return False
    try:
        found = price_of(known, price.meter)
    except ConfigurationError:
        return False
    return _terms(found) == _terms(price)


def _terms(price: Price) -> tuple[Any, ...]:
    tiers = tuple((tier.up_to, Decimal(tier.unit_price), tier.flat_price) for tier in price.tiers)
    return price.scheme, tiers, price.size, price.round, price.currency, price.interval


def _params_of_tier(tier: Tier, currency: str) -> dict[str, Any]:
    params = {
        "up_to": "inf" if tier.up_to is None else tier.up_to,
        "unit_amount_decimal": minor(tier.unit_price, currency),
    }
    if tier.flat_price is not None:
        params["flat_amount_decimal"] = minor(tier.flat_price, currency)
    return params


def minor(amount: Money, currency: str) -> str:
    """Return an amount in the minor unit as Stripe accepts it: without an exponent or trailing zeros."""
    text = digits(Decimal(amount).scaleb(decimals_of(currency), EXACT))
    return text.rstrip("0").rstrip(".") if "." in text else text
