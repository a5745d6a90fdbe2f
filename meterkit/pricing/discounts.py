"""Discounts of a subscription and its items, as Stripe takes them off an invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any, TypeAlias

from meterkit.pricing.price import EXACT, decimals_of, rounded, whole

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
            if discount["percent_off"] is not None:
                percent = Decimal(str(discount["percent_off"]))
                offs = [rounded(left[place] * percent / 100, currency) for place in chosen]
            elif discount["amount_off"] is not None and discount["currency"] == currency:
                offs = _spread(whole(discount["amount_off"], currency), [left[place] for place in chosen], currency)
            else:
                unknown.append("a discount is neither a percentage nor an amount in the currency of the subscription")
                continue
            for place, off in zip(chosen, offs, strict=True):
                left[place] -= off
                total += off
    return total, unknown


def _applies(discount: Mapping[str, Any], part: Part) -> bool:
    _, item, product = part
    if discount["item"] is not None and discount["item"] != item:
        return False
    return discount["products"] is None or product in discount["products"]


def _spread(amount: Decimal, amounts: Sequence[Decimal], currency: str) -> list[Decimal]:
    """Return parts of *amount* in proportion to *amounts*, at most these, that add up exactly."""
    weights = [max(each, Decimal(0)) for each in amounts]
    everything = sum(weights, Decimal(0))
    amount = min(amount, everything)
    unit = Decimal(1).scaleb(-decimals_of(currency))
    parts, given, seen = [], Decimal(0), Decimal(0)
    for weight in weights:
        seen += weight
        share = (amount * seen / everything).quantize(unit, rounding=ROUND_DOWN) if everything else Decimal(0)
        parts.append(share - given)
        given = share
    return parts
