"""Invoice lines: a quantity and a price become descriptions and amounts, rounded once per line."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.money import rounded, shown, text

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record


@dataclass(frozen=True)
class Charge:
    """
    The charge for one subscription item and one period.

    Attributes:
        subscription: Id of the subscription; "" in a preview of one that does not exist.
        item: Id of the subscription item.
        price: Id of the price.
        start: Unix second at which the period begins.
        end: Unix second at which the period ends, exclusive.
        quantity: Licensed quantity; None for the usage that the meter counted in the period.

    """

    subscription: str
    item: str
    price: str
    start: int
    end: int
    quantity: int | None


@dataclass(frozen=True)
class Part:
    """
    One line of a charge: a quantity in one tier, or a tier's flat fee.

    Attributes:
        description: Text of the line.
        quantity: Number of units; 0 for a flat fee.
        unit: Exact price of one unit, in minor units.
        amount: Amount in minor units, before rounding.

    """

    description: str
    quantity: Decimal
    unit: Decimal
    amount: Decimal


def quantity_of(account: Account, customer: str, charge: Charge, *, lagging: bool) -> Decimal:
    """Return the quantity of a charge; usage corrected below zero is 0."""
    if charge.quantity is not None:
        return Decimal(charge.quantity)
    price = account.tables["price"][charge.price]
    meter = account.tables["billing.meter"][price["recurring"]["meter"]]
    used = account.usage.total(meter, customer, start=charge.start, end=charge.end, lagging=lagging)
    return max(used, Decimal(0))


def parts(price: Record, product: Record, quantity: Decimal) -> list[Part]:
    """Return the lines for a quantity at a price, with Stripe's texts and in its order."""
    label = f"{_count(quantity, product)}{product['name']}"
    every = _every(price["recurring"])
    if price["billing_scheme"] == "tiered":
        tiered = _graduated if price["tiers_mode"] == "graduated" else _volume
        return tiered(price, product, quantity)
    unit = Decimal(price["unit_amount_decimal"])
    at = shown(unit, price["currency"])
    package = price["transform_quantity"]
    if package is None:
        return [Part(f"{label} (at {at} / {every})", quantity, unit, quantity * unit)]
    packages, rest = divmod(quantity, package["divide_by"])
    if rest and package["round"] == "up":
        packages += 1
    description = f"{label} (at {at} per {package['divide_by']} units / {every})"
    return [Part(description, quantity, unit, packages * unit)]


def _graduated(price: Record, product: Record, quantity: Decimal) -> list[Part]:
    lines: list[Part] = []
    below = Decimal(0)
    for number, tier in enumerate(price["tiers"], start=1):
        # The first tier always applies: zero usage still pays its flat fee. The others start above their lower bound.
        if number > 1 and quantity <= below:
            break
        top = quantity if tier["up_to"] is None else min(quantity, Decimal(tier["up_to"]))
        lines += _tier_parts(price, product, number, top - below)
        below = top if tier["up_to"] is None else Decimal(tier["up_to"])
    return lines


def _volume(price: Record, product: Record, quantity: Decimal) -> list[Part]:
    bounds = [tier["up_to"] for tier in price["tiers"][:-1]]  # the last one has no bound
    return _tier_parts(price, product, 1 + sum(quantity > bound for bound in bounds), quantity)


def _tier_parts(price: Record, product: Record, number: int, quantity: Decimal) -> list[Part]:
    """Return the unit line of a tier and, if it has a flat amount (even 0), its flat line."""
    tier = price["tiers"][number - 1]
    every = _every(price["recurring"])

    def at(amount: Decimal) -> str:
        return f"{product['name']} (Tier {number} at {shown(amount, price['currency'])} / {every})"

    unit = Decimal(tier["unit_amount_decimal"] or 0)
    lines = [Part(f"{_count(quantity, product)}{at(unit)}", quantity, unit, quantity * unit)]
    if tier["flat_amount_decimal"] is not None:
        flat = Decimal(tier["flat_amount_decimal"])
        lines.append(Part(at(flat), Decimal(0), flat, flat))
    return lines


def _count(quantity: Decimal, product: Record) -> str:
    label = f" {product['unit_label']}" if product["unit_label"] else ""
    return f"{text(quantity)}{label} \N{MULTIPLICATION SIGN} "


def _every(recurring: dict[str, Any]) -> str:
    count, interval = recurring["interval_count"], recurring["interval"]
    return str(interval) if count == 1 else f"every {count} {interval}s"


def line_items(account: Account, invoice: Record, *, lagging: bool) -> list[Record]:
    """Return all lines of an invoice, computed from the current usage."""
    lines: list[Record] = []
    for charge in invoice["_charges"]:
        price = account.tables["price"][charge.price]
        product = account.tables["product"][price["product"]]
        quantity = quantity_of(account, invoice["customer"], charge, lagging=lagging)
        for place, part in enumerate(parts(price, product, quantity)):
            lines.append(_line(account, invoice, charge, part, place))
    return lines


def _line(account: Account, invoice: Record, charge: Charge, part: Part, place: int) -> Record:
    price = account.tables["price"][charge.price]
    amount = rounded(part.amount, account.switches.rounding)
    # A line keeps its id while its quantity changes.
    identity = invoice["_line_ids"].setdefault((charge.item, charge.start, place), fresh_id("il_1", 23))
    return {
        "id": identity,
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": part.description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": invoice["livemode"],
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": charge.subscription or None,
                "subscription_item": charge.item,
            },
            "type": "subscription_item_details",
        },
        "period": {"end": charge.end, "start": charge.start},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": text(part.unit),
        },
        "quantity": int(part.quantity),
        "quantity_decimal": text(part.quantity),
        "subscription": charge.subscription or None,
        "subtotal": amount,
        "taxes": [],
    }
