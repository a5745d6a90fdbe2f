"""Subscription items: one price each, with its current billing period."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.charges import rhythm
from meterkit.sandbox.invoicing import discounts
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Boolean, Integer, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record

MOST_ITEMS = 20
_SHARED: dict[str, Rule] = {
    "billing_thresholds": Object({"usage_gte": Integer(1, required=True)}, nullable=True),
    "discounts": discounts.PARAM,
    "metadata": METADATA,
    "price": Text(),
    "quantity": Integer(0),
}
ITEM = Object({**_SHARED, "price": Text(required=True)})
CHANGE = Object({**_SHARED, "clear_usage": Boolean(), "deleted": Boolean(), "id": Text()})


def chosen_prices(account: Account, items: Sequence[dict[str, Any]]) -> list[Record]:
    """
    Return the prices of a new subscription's items.

    Raises:
        ApiError: 400 if an item cannot have its price.

    """
    if len(items) > MOST_ITEMS:
        raise invalid(f"A subscription can have at most {MOST_ITEMS} items.", param="items")
    return [price_of(account, item, f"items[{place}]") for place, item in enumerate(items)]


def check_together(prices: Sequence[Record], currency: str, mode: str) -> None:
    """
    Check that prices can be combined in one subscription.

    Raises:
        ApiError: 400 if they cannot; its `param` names the price by its place.

    """
    if len(prices) > MOST_ITEMS:
        raise invalid(f"A subscription can have at most {MOST_ITEMS} items.", param="items")
    for place, price in enumerate(prices):
        param = f"items[{place}][price]"
        if any(price["id"] == other["id"] for other in prices[:place]):
            raise invalid(f"Cannot add multiple subscription items with the same plan: {price['id']}", param=param)
        if currency not in price["currency_options"]:
            raise invalid(
                f"The price specified only supports `{'`, `'.join(price['currency_options'])}`. This doesn't match the "
                f"expected currency: `{currency}`.",
                param=param,
            )
        if mode == "classic" and rhythm(price) != rhythm(prices[0]):
            raise invalid(
                "All prices of a subscription with `billing_mode=classic` must have the same billing interval.",
                param=param,
            )


def new_item(
    account: Account, subscription: str, price: Record, params: dict[str, Any], period: tuple[int, int]
) -> Record:
    """Return the record of an item, without storing it."""
    metered = price["recurring"]["usage_type"] == "metered"
    return {
        "id": account.new_id("subscription_item"),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": params.get("billing_thresholds"),
        "created": account.now,
        "current_period_end": period[1],
        "current_period_start": period[0],
        "current_trial": None,
        "discounts": [],
        "metadata": merged({}, params.get("metadata")),
        "plan": plan_of(price),
        "price": price,  # not a copy: an item shows the current state of its price
        "quantity": None if metered else params.get("quantity", 1),
        "subscription": subscription,
        "tax_rates": [],
        "_since": period[0],
        "_billed": 0,
        "_used": Decimal(0),
    }


def retrieve(account: Account, call: Call) -> Record:
    """Return one subscription item."""
    return account.get("subscription_item", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return the items of one subscription."""
    subscription = account.get("subscription", call.params["subscription"], param="subscription")
    return page(call, subscription["items"]["data"], "subscription item")


def price_of(account: Account, item: dict[str, Any], name: str) -> Record:
    """
    Return the price of an item.

    Args:
        account: Account with the prices.
        item: Parameters of the item.
        name: Name of the item in errors, for example `items[0]`; "" if the parameters are those of the request.

    Raises:
        ApiError: 400 if a subscription item cannot have that price, or not with a quantity.

    """
    param = f"{name}[price]" if name else "price"
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
        meter = account.tables["billing.meter"][price["recurring"]["meter"]]
        if "quantity" in item:
            raise no_quantity(name)
        if meter["status"] != "active":
            raise invalid(f"The meter {meter['id']} is inactive.", param=param)
    return price


def no_quantity(name: str) -> ApiError:
    """Return the error for the quantity of a metered item."""
    remove = f"quantity from `{name}`" if name else "quantity"
    return invalid(
        f"Quantity should not be specified where usage_type is `metered`. Remove {remove}",
        param=f"{name}[quantity]" if name else "quantity",
    )


def plan_of(price: Record) -> Record:
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
