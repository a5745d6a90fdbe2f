"""
Edges: from the meters and prices that a Stripe account has to the code that says the same.

What stands in Stripe was written by somebody: it gets into the code as literals, and into comments without line breaks.
"""

from __future__ import annotations

import json
import keyword
import re
from decimal import Decimal
from typing import Any

import stripe

from meterkit.errors import ConfigurationError
from meterkit.meter import Meter
from meterkit.pricing import Price, Tier
from meterkit.stripe_price import costs_the_same, price_of
from meterkit.stripe_writes import lookup_key_of
from meterkit.transport import plain
from meterkit.verdict import naming_failures

PAGE = 100
"""Stripe: a page of a list has 100 objects at most."""


def code_of(client: stripe.StripeClient) -> str:
    """
    A module that makes a kit with the account's meters and prices.

    Raises:
        StripeFailedError: Stripe did not answer, or refuses.
    """
    v1 = client.v1
    with naming_failures("import"):
        meters = list(v1.billing.meters.list({"limit": PAGE, "status": "active"}).auto_paging_iter())
        listed = v1.prices.list({"active": True, "limit": PAGE, "expand": ["data.tiers"]}).auto_paging_iter()
        prices = [plain(price) for price in listed]
    names: dict[str, str] = {}
    lines: list[str] = []
    left_out: list[str] = []
    for meter in reversed(meters):
        why = _why_not(meter)
        if why:
            left_out.append(f"the meter {meter.event_name}: {why}")
            continue
        name = names[meter.id] = _variable(meter.event_name, set(names.values()))
        lines.append(f"{name} = Meter({_literal(meter.event_name)})  # add path=, route=, value=: what counts")
    sold: list[str] = []
    taken: set[str] = set()
    for price in reversed(prices):
        code, why = _price(price, names, {meter.id: meter.event_name for meter in meters}, taken)
        if why:
            left_out.append(f"the price {price['id']}: {why}")
        else:
            sold.append(code)
    return _module(lines, list(names.values()), sold, left_out)


def _why_not(meter: Any) -> str:
    if not meter.event_name.isprintable():
        return "its event name is unprintable"
    if meter.default_aggregation.formula != "sum":
        return f"its formula is {meter.default_aggregation.formula}, and meterkit reports sums"
    if meter.event_time_window:
        return f"it keeps one event for each {meter.event_time_window}, and would lose those of other processes"
    return ""


def _price(known: Any, names: dict[str, str], event_names: dict[str, str], taken: set[str]) -> tuple[str, str]:
    """Its code, or why there is none."""
    recurring = known["recurring"] or {}
    if recurring.get("usage_type") != "metered":
        return "", "it is not metered"
    if recurring["meter"] not in names:
        return "", "its meter is not active, or left out"
    meter = Meter(event_names[recurring["meter"]])
    try:
        price = price_of(known, meter)
    except ConfigurationError as error:
        return "", str(error)
    if not costs_the_same(known, price):
        return "", f"it is billed every {recurring.get('interval_count')} {recurring.get('interval')}s"
    if known["lookup_key"] is not None and known["lookup_key"] != lookup_key_of(price):
        key = known["lookup_key"]
    else:
        key = None
    if (key or lookup_key_of(price)) in taken:
        return (
            "",
            "another has its meter, currency and interval: give it a lookup key in Stripe, and import again",
        )
    taken.add(key or lookup_key_of(price))
    return _code(price, names[recurring["meter"]], key), ""


def _code(price: Price, meter: str, lookup_key: str | None) -> str:
    if price.scheme == "per_unit":
        arguments = [meter, _amount(price.tiers[0].unit_price)]
    elif price.scheme == "package":
        arguments = [meter, _amount(price.tiers[0].unit_price), f"size={price.size}", f'round="{price.round}"']
    else:
        arguments = [meter, *map(_tier, price.tiers)]
    arguments += [f'currency="{price.currency}"', f'interval="{price.interval}"']
    if lookup_key is not None:
        arguments.append(f"lookup_key={_literal(lookup_key)}")
    return "\n".join([f"Price.{price.scheme}(", *(f"    {argument}," for argument in arguments), "),"])


def _tier(tier: Tier) -> str:
    arguments = [] if tier.up_to is None else [f"up_to={tier.up_to}"]
    arguments.append(f"unit_price={_amount(tier.unit_price)}")
    if tier.flat_price is not None:
        arguments.append(f"flat_price={_amount(tier.flat_price)}")
    return f"Tier({', '.join(arguments)})"


def _amount(amount: Any) -> str:
    return f'"{Decimal(amount):f}"'


def _literal(text: str) -> str:
    return json.dumps(text)  # a string of Python's, too, with double quotes


def _variable(event_name: str, taken: set[str]) -> str:
    name = re.sub(r"\W", "_", event_name.lower(), flags=re.ASCII).strip("_") or "meter"
    if name[0].isdigit() or keyword.iskeyword(name) or name in ("kit", "Meter", "MeterKit", "Price", "Tier"):
        name = f"meter_{name}"
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _module(lines: list[str], meters: list[str], prices: list[str], left_out: list[str]) -> str:
    comments = [f"# Left out: {' '.join(each.split())}" for each in left_out]
    sold = "\n".join("        " + line for price in prices for line in price.splitlines())
    prices_argument = f"    prices=[\n{sold}\n    ],\n" if prices else ""
    imported = "Meter, MeterKit, Price, Tier" if prices else "Meter, MeterKit"
    body = "\n".join([*comments, *([""] if comments else []), *lines])
    return (
        f"from meterkit import {imported}\n\n{body}\n\n"
        f"kit = MeterKit(\n    meters=[{', '.join(meters)}],\n{prices_argument})\n"
    )
