"""The amounts of a price: a unit price or tiers, in one currency or several."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.state.money import text

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Record


def amounts(params: dict[str, Any], name: str) -> Record:
    """Return `unit_amount` and `unit_amount_decimal`, from either; the integer is None for fractions of a cent."""
    decimal = f"{name}_decimal"
    if name in params and decimal in params:
        raise invalid(f"You may only specify one of these parameters: {name}, {decimal}.", param=name)
    amount = params.get(decimal, params.get(name))
    if amount is None:
        return {name: None, decimal: None}
    if decimal in params and amount != int(amount):
        return {name: None, decimal: text(amount)}
    return {name: int(amount), decimal: str(int(amount))}


def currency_options(params: dict[str, Any], own: Record, scheme: str) -> Record:
    """
    Return the amounts by currency, including the price's own.

    Args:
        params: Parameters of the price, with `currency_options`.
        own: Amounts in the price's own currency: the fields of `amounts` and `tiers`.
        scheme: `per_unit` or `tiered`.

    """
    currency = params["currency"].lower()
    if currency in (other.lower() for other in params.get("currency_options") or {}):
        raise invalid(
            f"The currency `{currency}` is the price's own: set its amounts outside of `currency_options`.",
            param=f"currency_options[{currency}]",
        )
    return {currency: _option({}, own), **options(params.get("currency_options") or {}, scheme, own["tiers"])}


def options(given: dict[str, Any], scheme: str, own: list[Record] | None) -> Record:
    """Return `currency_options` as the API shows them; tiers must have the bounds of the price's own."""
    made: Record = {}
    for currency, each in given.items():
        try:
            if scheme == "tiered":
                found = {
                    "unit_amount": None,
                    "unit_amount_decimal": None,
                    "tiers": tiers({"tiers_mode": "any", **each}),
                }
            else:
                found = {**unit_price(each), "tiers": None}
        except ApiError as error:
            error.param = f"currency_options[{currency}]" + (f"[{error.param}]" if error.param else "")
            raise
        if [tier["up_to"] for tier in found["tiers"] or ()] != [tier["up_to"] for tier in own or ()]:
            raise invalid(
                "The tiers of all currencies must have the same `up_to`.", param=f"currency_options[{currency}][tiers]"
            )
        made[currency.lower()] = _option(each, found)
    return made


def amount_of(price: Record, quantity: int) -> int:
    """Return what so many of a one-time price cost, in the currency's minor unit."""
    return int((Decimal(price["unit_amount_decimal"]) * quantity).to_integral_value())


def in_currency(price: Record, currency: str) -> Record:
    """Return a price with its amounts in one of its currencies."""
    if currency == price["currency"]:
        return price
    option = price["currency_options"][currency]
    names = ("unit_amount", "unit_amount_decimal", "tiers")
    return {**price, "currency": currency, **{name: option[name] for name in names}}


def _option(params: dict[str, Any], found: Record) -> Record:
    return {"custom_unit_amount": None, "tax_behavior": params.get("tax_behavior", "unspecified"), **found}


def unit_price(params: dict[str, Any]) -> Record:
    """Return the amounts of a price per unit."""
    for name in ("tiers", "tiers_mode"):
        if name in params:
            raise invalid(f"`{name}` needs `billing_scheme=tiered`.", param=name)
    made = amounts(params, "unit_amount")
    if made["unit_amount_decimal"] is None:
        raise invalid(
            "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.", param="unit_amount"
        )
    return made


def tiers(params: dict[str, Any]) -> list[Record]:
    """Return the tiers of a price, in ascending order."""
    for name in ("transform_quantity", "unit_amount", "unit_amount_decimal"):
        if name in params:
            raise invalid(f"You may not specify `{name}` with `billing_scheme=tiered`.", param=name)
    for name in ("tiers", "tiers_mode"):
        if not params.get(name):
            raise invalid(f"`billing_scheme=tiered` needs `{name}`.", param=name, code="parameter_missing")
    bounds = [tier["up_to"] for tier in params["tiers"]]
    if bounds[-1] is not None or None in bounds[:-1]:
        raise invalid("The last tier, and no other, must have `up_to=inf`.", param="tiers")
    if bounds[:-1] != sorted(set(bounds[:-1])):
        raise invalid("The `up_to` of tiers must ascend.", param="tiers")
    made = [
        {**amounts(tier, "flat_amount"), **amounts(tier, "unit_amount"), "up_to": tier["up_to"]}
        for tier in params["tiers"]
    ]
    if any(tier["flat_amount_decimal"] is None and tier["unit_amount_decimal"] is None for tier in made):
        raise invalid("Each tier needs a `unit_amount` or a `flat_amount`.", param="tiers")
    return made
