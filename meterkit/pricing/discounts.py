"""Discounts of a subscription and its items, as Stripe takes them off an invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, TypeAlias

from meterkit.pricing.price import EXACT, rounded, whole

Part: TypeAlias = "tuple[Decimal, str | None, str | None]"
"""Amount of a line in whole currency, the id of its subscription item, and the id of its product."""


def discounted(
    parts: Sequence[Part], discounts: Iterable[Mapping[str, Any]], currency: str
) -> tuple[Decimal, list[str]]:
    """
    Return the sum of the discounts in whole currency, and why it cannot be told; nothing if it can.

    Args:
        parts: Lines of the invoice.
        discounts: Discounts that hold, in Stripe's order, as `meterkit.accounts.models.Subscription` has them. Those of
            items come first, and each applies to what the ones before it have left.
        currency: Three-letter currency code of the invoice.
    """
    unknown: list[str] = []
    total = Decimal(0)
    with localcontext(EXACT):
        left = [amount for amount, _, _ in parts]
        for discount in sorted(discounts, key=lambda each: each["item"] is None):
            chosen = [place for place, part in enumerate(parts) if _applies(discount, part)]
            base = sum((left[place] for place in chosen), Decimal(0))
            if base <= 0:
                continue
            amount = _amount(discount, base, currency)
            if amount is None:
                unknown.append("a discount is neither a percentage nor an amount in the currency of the subscription")
                continue
            total += amount
            for place in chosen:
                left[place] -= left[place] * amount / base
    return total, unknown


def _applies(discount: Mapping[str, Any], part: Part) -> bool:
    _, item, product = part
    if discount["item"] is not None and discount["item"] != item:
        return False
    return discount["products"] is None or product in discount["products"]


def _amount(discount: Mapping[str, Any], base: Decimal, currency: str) -> Decimal | None:
    if discount["percent_off"] is not None:
        return rounded(base * Decimal(str(discount["percent_off"])) / 100, currency)
    if discount["amount_off"] is not None and discount["currency"] == currency:
        return min(base, whole(discount["amount_off"], currency))
    return None
