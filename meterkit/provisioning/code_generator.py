"""
Generate the code for the meters and prices of an existing account.

Texts from Stripe are untrusted: they get into the code only as literals, and into comments without line breaks.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import stripe

from meterkit.errors import ConfigurationError
from meterkit.metering.meter import CUSTOMER_KEY, VALUE_KEY, Meter
from meterkit.pricing.price import Price, Tier
from meterkit.pricing.stripe_price import costs_the_same, price_of
from meterkit.provisioning.prices import EXPANDED, replaced_by
from meterkit.provisioning.provisioner import flaws_of, keys_of
from meterkit.provisioning.writer import lookup_key_of
from meterkit.stripe_api.outcomes import naming_failures
from meterkit.stripe_api.transport import PAGE_SIZE, plain

WIDTH = 88
"""Line width: the default of common formatters."""

PLACEHOLDER_PATH = "/say-what-counts"
"""Path of an imported meter, so that it does not count every request until a real path is filled in."""

Known = Mapping[str, Any]


def code_of(client: stripe.StripeClient) -> str:
    """
    Return the code of a module that builds a kit with the account's meters and prices.

    Raises:
        StripeFailedError: Stripe failed or refused.
    """
    v1 = client.v1
    with naming_failures("import"):
        meters = list(v1.billing.meters.list({"limit": PAGE_SIZE, "status": "active"}).auto_paging_iter())
        listed = v1.prices.list({"active": True, "limit": PAGE_SIZE, "expand": EXPANDED}).auto_paging_iter()
        prices = [plain(price) for price in listed]
    left_out: list[str] = []
    known: dict[str, Meter] = {}
    for found in reversed(meters):
        customer_key, value_key = keys_of(found)
        try:
            meter = Meter(found.event_name, path=PLACEHOLDER_PATH, customer_key=customer_key, value_key=value_key)
        except ConfigurationError as error:
            left_out.append(f"the meter {found.id}: {error}")
            continue
        flaws = flaws_of(found, meter)
        if flaws:
            left_out.append(f"the meter {meter.name!r}: its {'; its '.join(flaws)}")
        else:
            known[found.id] = meter
    names: dict[str, str] = {}
    for meter in known.values():
        names[meter.name] = _variable(meter.name, set(names.values()))
    keys = {meter.name: _keys(meter) for meter in known.values()}
    return _module(names, keys, _converted(prices, known, left_out), left_out)


def _converted(prices: list[dict[str, Any]], meters: dict[str, Meter], left_out: list[str]) -> list[Price]:
    """Return the prices that can be expressed in code; add the others to *left_out*, with the reason."""
    replaced = {each: price["id"] for price in prices for each in replaced_by(price)}
    taken = {price["lookup_key"] for price in prices}
    converted: list[Price] = []
    # Those with a lookup key first, then by age: provisioning finds those by their key, and the others by their cost.
    for known in sorted(prices, key=lambda each: (each["lookup_key"] is None, each["created"], each["id"])):
        try:
            price = _price(known, meters, replaced)
        except ConfigurationError as error:
            left_out.append(f"the price {known['id']}: {error}")
            continue
        if known["lookup_key"] is None and _any_costs(known, price, converted):
            left_out.append(f"the price {known['id']}: another price of its meter costs the same")
            continue
        key = known["lookup_key"] or _free(lookup_key_of(price), taken)
        taken.add(key)
        converted.append(price if key == lookup_key_of(price) else _with_key(key, price))
    return converted


def _price(known: Known, meters: dict[str, Meter], replaced: dict[str, str]) -> Price:
    recurring = known["recurring"] or {}
    if recurring.get("usage_type") != "metered":
        raise ConfigurationError("it is not metered")
    if recurring.get("meter") not in meters:
        raise ConfigurationError("its meter is not active, or was left out")
    if known["id"] in replaced and known["lookup_key"] is None:
        raise ConfigurationError(f"{replaced[known['id']]} has replaced it")
    if recurring.get("interval_count", 1) != 1:
        raise ConfigurationError(f"it is billed every {recurring['interval_count']} {recurring['interval']}s")
    if len(known.get("currency_options") or ()) > 1:
        raise ConfigurationError(f"it has amounts in several currencies: {', '.join(known['currency_options'])}")
    price = price_of(known, meters[recurring["meter"]])
    if not costs_the_same(known, price):
        raise ConfigurationError("it is billed in a way that meterkit does not support")
    return price


def _any_costs(known: Known, price: Price, converted: list[Price]) -> bool:
    return any(costs_the_same(known, each) for each in converted if each.meter == price.meter)


def _free(key: str, taken: set[str]) -> str:
    """Return *key*, numbered if another price has it; provisioning sets it on the price that costs the same."""
    return next(
        each for each in (key, *(f"{key}:{number}" for number in range(2, len(taken) + 3))) if each not in taken
    )


def _with_key(key: str, price: Price) -> Price:
    return Price(
        price.meter,
        price.scheme,
        price.tiers,
        size=price.size,
        round=price.round,
        currency=price.currency,
        interval=price.interval,
        lookup_key=key,
    )


def _keys(meter: Meter) -> list[str]:
    """Return the arguments for the keys of a meter's events that are not Stripe's own."""
    found = []
    if meter.customer_key != CUSTOMER_KEY:
        found.append(f"customer_key={_literal(meter.customer_key)}")
    if meter.value_key != VALUE_KEY:
        found.append(f"value_key={_literal(meter.value_key)}")
    return found


def _module(names: dict[str, str], keys: dict[str, list[str]], prices: list[Price], left_out: list[str]) -> str:
    comments = [_comment(f"Left out: {each}") for each in left_out]
    if not names:
        return "\n".join(["# No active meter in this account can be expressed in code.", *comments, ""])
    tiered = any(price.scheme in ("graduated", "volume") for price in prices)
    imported = ["Meter", "MeterKit", *(["Price"] if prices else []), *(["Tier"] if tiered else [])]
    lines = [f"from meterkit import {', '.join(imported)}", ""]
    lines += [*comments, ""] if comments else []
    lines += ["# No requests count for these meters until you replace their path=.", ""]
    for name, variable in names.items():
        path = f"path={_literal(PLACEHOLDER_PATH)},  # or route=; and method=, status=, value="
        own = [f"    {each}," for each in keys[name]]
        lines += [f"{variable} = Meter(", f"    {_literal(name)},", f"    {path}", *own, ")"]
    lines += ["", "kit = MeterKit(", "    meters=[", *(f"        {variable}," for variable in names.values()), "    ],"]
    if prices:
        lines += [
            "    prices=[",
            *(line for price in prices for line in _code(price, names[price.meter.name])),
            "    ],",
        ]
    return "\n".join([*lines, ")", ""])


def _code(price: Price, meter: str) -> list[str]:
    arguments = [meter]
    if price.scheme in ("per_unit", "package"):
        arguments.append(_amount(price.tiers[0].unit_price))
    else:
        arguments += [line for tier in price.tiers for line in _tier(tier)]
    if price.scheme == "package":
        arguments += [f"size={price.size}", f"round={_literal(price.round)}"]
    arguments += [f"currency={_literal(price.currency)}", f"interval={_literal(price.interval)}"]
    if price.lookup_key is not None:
        arguments.append(f"lookup_key={_literal(price.lookup_key)}")
    inner = [f"            {each}" + ("" if each.endswith(("(", ",")) else ",") for each in arguments]
    return [f"        Price.{price.scheme}(", *inner, "        ),"]


def _tier(tier: Tier) -> list[str]:
    """Return the code of a tier, in one line unless that would be too long."""
    arguments = [] if tier.up_to is None else [f"up_to={tier.up_to:_}"]
    arguments.append(f"unit_price={_amount(tier.unit_price)}")
    if tier.flat_price is not None:
        arguments.append(f"flat_price={_amount(tier.flat_price)}")
    line = f"Tier({', '.join(arguments)})"
    if len(line) + 13 <= WIDTH:
        return [line]
    return ["Tier(", *(f"    {argument}," for argument in arguments), "),"]


def _amount(amount: Any) -> str:
    return f'"{Decimal(amount):f}"'


def _literal(text: str) -> str:
    """Return a Python string literal, in double quotes where formatters prefer them."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if '"' not in literal else literal


def _comment(text: str) -> str:
    return "# " + "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))


def _variable(event_name: str, taken: set[str]) -> str:
    name = re.sub(r"\W", "_", event_name.lower(), flags=re.ASCII).strip("_") or "meter"
    if name[0].isdigit() or keyword.iskeyword(name) or name == "kit":
        name = f"meter_{name}"
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
