"""
What events say of the past of a subscription, and what became of its usage then.

The current state of an object is requested from Stripe, which keeps no history. If a price was changed twice before a
webhook was followed, only the events know of the price between; so of these events the signed body is used, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import stripe

from meterkit.accounts.models import Item, PastSubscription, Proration, Subscription
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.transport import PAGE_SIZE

PERIOD = ("current_period_start", "current_period_end")
"""Fields of an item, and of the subscription in old versions of the API."""

LONGEST = 255
"""Characters of an id that are kept."""

CLOCKS_SECONDS = 60
"""Most seconds between a change and the invoice item that Stripe made for it."""


def told_by(event: dict[str, Any]) -> str:
    """
    Return what a snapshot event says of the items of its subscription, as JSON; empty if that is not all of them.

    Events have the API version of their endpoint, so the fields are looked for where old ones have them, too.
    """
    try:
        about = event["data"]["object"]
        if about["object"] != "subscription" or about["items"].get("has_more"):
            return ""
        previous = (event["data"].get("previous_attributes") or {}).get("items")
        pause = about.get("pause_collection")
        told = {
            "items": [_item_in(each, about) for each in about["items"]["data"]],
            "before": None if previous is None else [_price_in(each) for each in previous["data"]],
            "status": _checked(about["status"]),
            "pause": None if not pause else _checked(pause["behavior"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    return json.dumps(told, sort_keys=True)


def past_of(subscription: Subscription, told: Iterable[tuple[int, str]], catalog: Catalog) -> list[PastSubscription]:
    """
    Return *subscription* as it was after each of its events.

    Args:
        subscription: Current state.
        told: What each event says, as `told_by` returns it, with its Unix second.
        catalog: Catalog of the account's prices.

    Raises:
        stripe.StripeError: A price or a meter could not be read from Stripe.
    """
    return [_past(subscription, at, json.loads(text), catalog) for at, text in told]


def prorations_of(client: stripe.StripeClient, customer: str, since: int) -> list[Proration] | None:
    """
    Return the invoice items that Stripe has made because items of subscriptions were changed.

    Args:
        client: Client of stripe-python.
        customer: Id of the Stripe customer.
        since: Unix second of the first change that matters.

    Returns:
        None if the key may not read invoice items.

    Raises:
        stripe.StripeError: Stripe did not respond, or refused.
    """
    try:
        listed = client.v1.invoice_items.list({"customer": customer, "limit": PAGE_SIZE})
        return list(_prorations(listed.auto_paging_iter(), since))
    except stripe.PermissionError:
        return None


def _prorations(items: Iterable[stripe.InvoiceItem], since: int) -> Iterator[Proration]:
    for each in items:  # the newest first
        if each.date < since - CLOCKS_SECONDS:
            return
        details: Any = getattr(each.parent, "subscription_details", None)
        price: Any = getattr(each.pricing, "price_details", None)
        if each.proration and details is not None and price is not None:
            yield Proration(str(details.subscription_item), str(getattr(price.price, "id", price.price)), each.date)


def _past(subscription: Subscription, at: int, told: dict[str, Any], catalog: Catalog) -> PastSubscription:
    known = {(each.id, _price_id(each)): each for each in subscription.items}
    items = []
    for identity, price, quantity, since, start, end in told["items"]:
        item = known.get((identity, price)) or _item(subscription, identity, price, catalog)
        items.append(
            replace(item, quantity=None if item.meter else quantity, since=since, period_start=start, period_end=end)
        )
    return PastSubscription(
        at=at,
        state=replace(
            subscription, items=tuple(items), status=told["status"], pause=told["pause"], checked_at=at, ended_at=None
        ),
        before=None if told["before"] is None else dict(told["before"]),
    )


def _item(subscription: Subscription, identity: str, price: str, catalog: Catalog) -> Item:
    known = catalog.price(price, subscription.currency)
    meter = (known.get("recurring") or {}).get("meter")
    return Item(
        id=identity,
        subscription=subscription.id,
        customer=subscription.customer,
        event_name=catalog.event_name(meter) if meter else None,
        quantity=None,
        period_start=0,
        period_end=0,
        price=json.dumps(known, sort_keys=True),
        meter=meter,
    )


def _price_id(item: Item) -> str:
    return str(json.loads(item.price)["id"])


def _item_in(item: dict[str, Any], subscription: dict[str, Any]) -> list[Any]:
    """Return id, price, quantity, time of creation and billing period of an item in an event."""
    period: list[Any] = [item.get(name, subscription.get(name)) for name in PERIOD]
    quantity = int(item.get("quantity") or 0)
    numbers = [quantity, int(item["created"]), *(int(each) for each in period)]
    if any(not 0 <= each < 1 << 60 for each in numbers):
        raise ValueError
    return [*_price_in(item), *numbers]


def _price_in(item: dict[str, Any]) -> list[str]:
    return [_checked(item["id"]), _checked((item.get("price") or item["plan"])["id"])]


def _checked(text: Any) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST or not text.isprintable():
        raise ValueError
    return text
