"""Subscription items: one price each, with its current billing period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Integer, Object, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record

MOST_ITEMS = 20
ITEM = Object({"price": Text(required=True), "quantity": Integer(0), "metadata": METADATA})


def chosen_prices(account: Account, items: Sequence[dict[str, Any]]) -> list[Record]:
    """
    Return the prices of a new subscription's items.

    Raises:
        ApiError: 400 if the prices cannot be combined in one subscription.

    """
    if len(items) > MOST_ITEMS:
        raise invalid(f"A subscription can have at most {MOST_ITEMS} items.", param="items")
    prices = [_price(account, item, place) for place, item in enumerate(items)]
    first = prices[0]
    for place, price in enumerate(prices):
        if price in prices[:place]:
            raise invalid(
                f"Cannot add multiple subscription items with the same plan: {price['id']}",
                param=f"items[{place}][price]",
            )
        if price["currency"] != first["currency"]:
            raise invalid("All prices of a subscription must have the same currency.", param=f"items[{place}][price]")
        if _rhythm(price) != _rhythm(first):
            # Flexible billing mode can mix intervals; this sandbox cannot.
            raise invalid(
                "All prices of a subscription must have the same billing interval.", param=f"items[{place}][price]"
            )
    return prices


def new_item(
    account: Account, subscription: str, price: Record, params: dict[str, Any], period: tuple[int, int]
) -> Record:
    """Return the record of an item, without storing it."""
    metered = price["recurring"]["usage_type"] == "metered"
    return {
        "id": account.new_id("subscription_item"),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": account.now,
        "current_period_end": period[1],
        "current_period_start": period[0],
        "current_trial": None,
        "discounts": [],
        "metadata": merged({}, params.get("metadata")),
        "plan": _plan(price),
        "price": price,  # not a copy: an item shows the current state of its price
        "quantity": None if metered else params.get("quantity", 1),
        "subscription": subscription,
        "tax_rates": [],
    }


def retrieve(account: Account, call: Call) -> Record:
    """Return one subscription item."""
    return account.get("subscription_item", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return the items of one subscription."""
    subscription = account.get("subscription", call.params["subscription"], param="subscription")
    return page(call, subscription["items"]["data"], "subscription item")


def _price(account: Account, item: dict[str, Any], place: int) -> Record:
    param = f"items[{place}][price]"
    price = account.get("price", item["price"], param=param)
    if price["recurring"] is None:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            param=param,
        )
    if not price["active"]:
        raise invalid(
            f"The price specified is inactive. This field only accepts active prices: {price['id']}", param=param
        )
    if price["recurring"]["meter"] is not None:
        _check_metered(account, price, item, place)
    return price


def _check_metered(account: Account, price: Record, item: dict[str, Any], place: int) -> None:
    if "quantity" in item:
        raise _no_quantity(place)
    meter = account.tables["billing.meter"][price["recurring"]["meter"]]
    if meter["status"] != "active":
        raise invalid(f"The meter {meter['id']} is inactive.", param=f"items[{place}][price]")


def _no_quantity(place: int) -> ApiError:
    return invalid(
        f"Quantity should not be specified where usage_type is `metered`. Remove quantity from `items[{place}]`",
        param=f"items[{place}][quantity]",
    )


def _rhythm(price: Record) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def _plan(price: Record) -> Record:
    """Return the price as a plan, its predecessor, which items still contain."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": price["livemode"],
        "metadata": {},
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": price["transform_quantity"],
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


ROUTES = [
    Route("GET", "/v1/subscription_items", list_all, {**PAGE, "subscription": Text(required=True)}),
    Route("GET", "/v1/subscription_items/{id}", retrieve),
]
