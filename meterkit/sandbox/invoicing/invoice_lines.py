"""Invoice lines: a quantity and a price become descriptions and amounts, rounded once per line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog.price_amounts import in_currency
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.money import line_amount, shown, text

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
        trial: Whether the period is a trial, which costs nothing.
        share: Part of the price that a shortened period costs; None for a whole period.
        used: Usage, if it is known and does not follow the meter any more.
        previously: What earlier invoices of the same period have billed of it, in minor units.

    """

    subscription: str
    item: str
    price: str
    start: int
    end: int
    quantity: int | None
    trial: bool = False
    share: Fraction | None = None
    used: Decimal | None = None
    previously: int = 0


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
    if charge.used is not None:
        return charge.used
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


def parts_of(account: Account, customer: str, currency: str, charge: Charge, *, lagging: bool) -> list[Part]:
    """Return the lines of a charge; *lagging* leaves out usage that is still being processed."""
    price = in_currency(account.tables["price"][charge.price], currency)
    product = account.tables["product"][price["product"]]
    if charge.trial:
        return [Part(f"Trial period for {product['name']}", Decimal(charge.quantity or 0), Decimal(0), Decimal(0))]
    if charge.share is not None:
        return [prorated(account, currency, charge)]
    found = parts(price, product, quantity_of(account, customer, charge, lagging=lagging))
    if charge.previously:
        before = Decimal(-charge.previously)
        found.append(Part("Amount previously billed", Decimal(1), before, before))
    return found


def prorated(account: Account, currency: str, charge: Charge, *, unused: bool = False) -> Part:
    """Return the one line of a licence for a part of its period: a charge, or a credit for the unused part."""
    price = in_currency(account.tables["price"][charge.price], currency)
    product = account.tables["product"][price["product"]]
    share, quantity = charge.share or Fraction(1), charge.quantity or 0
    whole = sum((part.amount for part in parts(price, product, Decimal(quantity))), Decimal(0))
    amount = whole * share.numerator / share.denominator * (-1 if unused else 1)
    what = "Unused" if unused else "Remaining"
    description = f"{what} time on {licence(product, quantity)} after {day(charge.start)}"
    return Part(description, Decimal(quantity), amount / (quantity or 1), amount)


def unit_text(unit: Decimal) -> str:
    """Return the price of a unit with at most twelve decimals."""
    return text(round(unit, 12)) if unit.as_tuple().exponent < -12 else text(unit)  # type: ignore[operator]


def licence(product: Record, quantity: int) -> str:
    """Return a licensed product as prorations name it, with its quantity unless that is 1."""
    name: str = product["name"]
    return name if quantity == 1 else f"{quantity} \N{MULTIPLICATION SIGN} {name}"


def day(moment: int) -> str:
    """Return a day as prorations name it: `16 Jan 2026`."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%d %b %Y")


def line_items(account: Account, invoice: Record, *, lagging: bool) -> list[Record]:
    """Return all lines of an invoice, computed from the current usage."""
    return [
        _line(account, invoice, charge, part, place)
        for charge in invoice["_charges"]
        for place, part in enumerate(
            parts_of(account, invoice["customer"], invoice["currency"], charge, lagging=lagging)
        )
    ]


def _line(account: Account, invoice: Record, charge: Charge, part: Part, place: int) -> Record:
    price = account.tables["price"][charge.price]
    amount = line_amount(part.amount, invoice["currency"], account.switches)
    # A line keeps its id while its quantity changes.
    identity = invoice["_line_ids"].setdefault((charge.item, charge.price, charge.start, place), fresh_id("il_1", 23))
    return {
        "id": identity,
        "object": "line_item",
        "amount": amount,
        "currency": invoice["currency"],
        "description": part.description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": list(invoice["_item_discounts"].get(charge.item, ())),
        "invoice": invoice["id"],
        "livemode": invoice["livemode"],
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": charge.share is not None,
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
            "unit_amount_decimal": unit_text(part.unit),
        },
        "quantity": int(part.quantity),
        "quantity_decimal": text(part.quantity),
        "subscription": charge.subscription or None,
        "subtotal": amount,
        "taxes": [],
    }
