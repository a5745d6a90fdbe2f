"""A bill: its lines, discounts and total, what it assumes and what is not known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, localcontext
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from meterkit.core.periods import Period
from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Line, Price, decimals_of, rounded, whole
from meterkit.pricing.stripe_price import price_of

Part: TypeAlias = "tuple[Decimal, str | None, str | None]"
"""Amount of a line in whole currency, the id of its subscription item, and the id of its product."""


class Usage(Protocol):
    """What was used, by a customer or by a company."""

    def between(self, event_name: str, start: int, end: int) -> int:
        """Return the quantity used between two Unix seconds, *end* excluded."""

    def received(self, event_name: str, start: int, end: int) -> int:
        """Return the part of it that Stripe had received by *end*."""


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """
    One line of an invoice.

    Attributes:
        price: Id of the Stripe price.
        event_name: Event name of the meter; None for a licensed price, which is billed in advance.
        quantity: Units on this line; 0 for a flat fee, and for what was billed before.
        unit_price: Price of one unit or one package, or the flat fee, in whole currency.
        amount: Line total in whole currency, rounded to the minor unit.
        tier: Number of the tier, from 1; 0 if the price has no tiers.
        note: What is special about the line: usage at a former price, or what was billed before; empty for most.
    """

    price: str
    event_name: str | None
    quantity: int
    unit_price: Decimal
    amount: Decimal
    tier: int
    note: str = ""


@dataclass(slots=True)
class Bill:
    """
    An invoice, as far as it is known.

    Attributes:
        currency: Three-letter currency code.
        period: Billing period of the usage.
        lines: Invoice lines, before discounts.
        discount: Sum of the discounts, in whole currency.
        unknown: Why the amounts cannot be told, one sentence each; empty if they can.
        assumed: What the amounts rest on, one sentence each.
        free: Why nothing of it is charged; empty if it is.
        uncertain: The part of the lines that is billed only if an assumption holds, in whole currency.
    """

    currency: str
    period: Period
    lines: list[PreviewLine] = field(default_factory=list)
    discount: Decimal = Decimal(0)
    unknown: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    free: str = ""
    uncertain: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """Sum of the lines less the discounts, in whole currency."""
        with localcontext(EXACT):
            return sum((line.amount for line in self.lines), Decimal(0)) - self.discount


def lines_of(item: Any, quantity: int) -> list[PreviewLine]:
    """Return what *quantity* units of a row of items cost."""
    price = price_id(item)
    return [_line(price, item.event_name, line) for line in price_in(item).lines(quantity)]


def _line(price: str, event_name: str | None, line: Line) -> PreviewLine:
    return PreviewLine(price, event_name, line.quantity, line.price, line.amount, line.tier)


def price_in(item: Any) -> Price:
    """Return the price of a row of items."""
    return parsed_price(item.price, item.event_name or "licensed")


@lru_cache(maxsize=1000)
def parsed_price(text: str, event_name: str) -> Price:
    """
    Return the price in Stripe's JSON *text*.

    Raises:
        ConfigurationError: It cannot be computed here; the message names it and says why.
    """
    known = json.loads(text)
    try:
        return price_of(known, Meter(event_name))
    except (ConfigurationError, KeyError) as error:
        raise ConfigurationError(f"Stripe's price {known.get('id')} cannot be computed here: {error}") from error


@lru_cache(maxsize=1000)
def _identity(text: str) -> tuple[str, str]:
    known = json.loads(text)
    return known["id"], known["currency"]


def price_id(item: Any) -> str:
    """Return the id of the Stripe price of a row of items."""
    return _identity(item.price)[0]


def currency_of(item: Any) -> str:
    """Return the currency in which the price of a row of items is known."""
    return _identity(item.price)[1]


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
