"""What the items of a subscription cost: usage in arrears, licences in advance, and parts of a period."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from meterkit.sandbox.invoicing.invoice_lines import Charge
from meterkit.sandbox.state.periods import before, following

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Record


def items_of(subscription: Record) -> list[Record]:
    """Return the items of a subscription."""
    items: list[Record] = subscription["items"]["data"]
    return items


def rhythm(price: Record) -> tuple[str, int]:
    """Return the interval of a recurring price, and how many of them make up a period."""
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def period_end(subscription: Record, price: Record, moment: int) -> int:
    """Return the Unix second at which the period of a price that runs at *moment* ends."""
    interval, count = rhythm(price)
    return following(subscription["billing_cycle_anchor"], interval, count, moment)


def used_from(item: Record) -> int:
    """Return the Unix second from which an item's usage counts: its period's start, or a later change of its price."""
    return int(max(item["current_period_start"], item["_since"]))


def arrears(subscription: Record, items: Sequence[Record], *, until: int) -> list[Charge]:
    """Return the charges of metered items for the current period."""
    return [
        Charge(
            subscription["id"],
            item["id"],
            item["price"]["id"],
            used_from(item),
            until,
            None,
            previously=item["_billed"],
        )
        for item in items
        if item["quantity"] is None and used_from(item) < until
    ]


def advance(subscription: Record, items: Sequence[Record]) -> list[Charge]:
    """Return the charges of licensed items for the period that begins, or for what is left of it."""
    return [
        Charge(
            subscription["id"],
            item["id"],
            item["price"]["id"],
            item["current_period_start"],
            item["current_period_end"],
            item["quantity"],
            trial=subscription["status"] == "trialing",
            share=None if subscription["status"] == "trialing" else _share(subscription, item),
        )
        for item in items
        if item["quantity"] is not None
    ]


def part_of(subscription: Record, price: Record, start: int, end: int) -> Fraction:
    """Return which part of a whole period of a price lies between two times of that period."""
    interval, count = rhythm(price)
    begun = before(subscription["billing_cycle_anchor"], interval, count, end)
    return Fraction(end - start, end - begun)


def _share(subscription: Record, item: Record) -> Fraction | None:
    share = part_of(subscription, item["price"], item["current_period_start"], item["current_period_end"])
    return None if share == 1 else share
