"""Rules: a price of Stripe's, as JSON, in the words of `meterkit.pricing`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from meterkit.errors import ConfigurationError
from meterkit.meter import Meter
from meterkit.pricing import Price, Tier, decimals_of


def price_of(known: Mapping[str, Any], meter: Meter) -> Price:
    """
    The price that Stripe bills by.

    Args:
        known: Stripe's price, with its tiers; amounts are in the minor unit, as Stripe writes them.
        meter: Whose usage it prices; for a licensed price, one of the name of its product.

    Raises:
        ConfigurationError: It cannot be expressed.
    """
    currency = str(known["currency"])
    options = {"currency": currency, "interval": str((known.get("recurring") or {}).get("interval", "month"))}
    if known.get("billing_scheme") == "tiered":
        tiers = [_tier(tier, currency) for tier in known.get("tiers") or ()]
        graduated = known.get("tiers_mode") == "graduated"
        return (Price.graduated if graduated else Price.volume)(meter, *tiers, **options)
    unit_price = _whole(known.get("unit_amount_decimal"), currency)
    if unit_price is None:
        raise ConfigurationError(f"the price {known.get('id')} has no amount: its customers choose it")
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
    """An amount in whole currency; None where Stripe has none."""
    return None if minor is None else Decimal(str(minor)).scaleb(-decimals_of(currency))
