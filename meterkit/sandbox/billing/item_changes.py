"""Changes to the items of a subscription within a period: what was used or paid so far, and what follows."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import prorations
from meterkit.sandbox.billing.charges import items_of, period_end, rhythm
from meterkit.sandbox.billing.cycles import bill, restart
from meterkit.sandbox.billing.subscription_items import (
    CHANGE,
    ITEM,
    check_together,
    new_item,
    no_quantity,
    plan_of,
    price_of,
)
from meterkit.sandbox.invoicing import discounts
from meterkit.sandbox.protocol.errors import ApiError, invalid, missing_parameter, no_such
from meterkit.sandbox.protocol.params import Boolean, Choice, Integer, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.fork import fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.state.account import Account, Record

FIELDS: dict[str, Rule] = {
    "proration_behavior": Choice(("always_invoice", "create_prorations", "none")),
    "proration_date": Integer(0),
}
_UPDATED = {name: rule for name, rule in CHANGE.fields.items() if name not in ("clear_usage", "deleted", "id")}


@dataclass
class _Change:
    """One change: of an item to a price, a new item (`item` is None), or a removal (`price` is None)."""

    item: Record | None
    price: Record | None
    params: dict[str, Any]

    @property
    def leaves(self) -> bool:
        """Whether an item stops to be billed as it is billed now."""
        if self.item is None:
            return False
        quantity = self.params.get("quantity", self.item["quantity"])
        return self.price is not self.item["price"] or quantity != self.item["quantity"]


def apply(
    account: Account,
    subscription: Record,
    changes: Sequence[dict[str, Any]],
    options: dict[str, Any],
    *,
    name: str = "items",
    anew: bool = False,
) -> list[Record]:
    """
    Add, change and remove items.

    In flexible billing mode, the usage of a metered price that is left becomes an invoice item; in classic mode it is
    not billed. A new metered price bills what is used from now on. Licensed prices are prorated.

    Args:
        account: Account of the subscription.
        subscription: Subscription that has not ended.
        changes: `items` as in the request: with `id` for an existing one.
        options: `proration_behavior` and `proration_date`, if they were sent.
        name: Name of the changes in errors; "" if the parameters are those of the request.
        anew: Whether new periods begin now for all items.

    Returns:
        The items that were added or changed.

    """
    previous = {"items": copy.deepcopy(subscription["items"])}
    rhythms = {rhythm(item["price"]) for item in items_of(subscription)}
    planned = [_planned(account, subscription, each, name and f"{name}[{n}]") for n, each in enumerate(changes)]
    after = _check(subscription, planned)
    trial = subscription["status"] == "trialing"
    # A subscription whose interval changes as a whole is billed anew from now on.
    anew = not trial and (anew or (len(after) == 1 and after != rhythms))
    prorates = options.get("proration_behavior") != "none"
    moment = options.get("proration_date", account.now)
    left = [each.item for each in planned if each.leaves]
    untouched = [item for item in items_of(subscription) if not any(item is each for each in left)]
    touched = []
    for each in planned:
        leaves = each.leaves
        if each.item is not None and leaves and prorates:
            _leave(account, subscription, each.item, moment, same_price=each.price is each.item["price"])
        if each.price is None:
            _remove(subscription, each.item or {})
            continue
        item = _enter(account, subscription, each, each.price)
        touched.append(item)
        if prorates and not anew and (each.item is None or leaves):
            prorations.charge(account, subscription, item, max(moment, item["current_period_start"]))
    if anew:
        restart(account, subscription, reason="subscription_update", credited=untouched if prorates else [])
    else:
        account.announce("customer.subscription.updated", subscription, previous)
        _invoice(account, subscription, options)
    return touched


def leave_all(account: Account, subscription: Record) -> None:
    """Bill the usage of all items up to now, and credit what is left of their periods."""
    for item in items_of(subscription):
        _leave(account, subscription, item, account.now, same_price=False)


def create(account: Account, call: Call) -> Record:
    """Add an item to a subscription."""
    params, subscription = _split(call), account.get("subscription", call.params["subscription"], param="subscription")
    (item,) = _apply(account, subscription, params, call)
    return item


def update(account: Account, call: Call) -> Record:
    """Change the price, the quantity or the metadata of an item."""
    item = account.get("subscription_item", call.id)
    _apply(account, account.get("subscription", item["subscription"]), {**_split(call), "id": call.id}, call)
    return item


def delete(account: Account, call: Call) -> Record:
    """Remove an item from its subscription, which must keep another one."""
    item = account.get("subscription_item", call.id)
    _apply(account, account.get("subscription", item["subscription"]), {"id": call.id, "deleted": True}, call)
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def _planned(account: Account, subscription: Record, params: dict[str, Any], name: str) -> _Change:
    if "id" not in params:
        if "price" not in params:
            raise missing_parameter(f"{name}[price]" if name else "price")
        return _Change(None, price_of(account, params, name), params)
    item = next((item for item in items_of(subscription) if item["id"] == params["id"]), None)
    if item is None:
        raise no_such("subscription_item", params["id"], param=f"{name}[id]" if name else "id")
    if params.get("deleted"):
        return _Change(item, None, params)
    price = item["price"]
    if "price" in params and params["price"] != price["id"]:
        price = price_of(account, params, name)
    elif "quantity" in params and item["quantity"] is None:
        raise no_quantity(name)
    return _Change(item, price, params)


def _check(subscription: Record, planned: Sequence[_Change]) -> set[tuple[str, int]]:
    """Check the items that there will be, and return the intervals of their prices."""
    by_item = {each.item["id"]: each.price for each in planned if each.item is not None}
    prices = [by_item.get(item["id"], item["price"]) for item in items_of(subscription)]
    prices += [each.price for each in planned if each.item is None]
    kept = [price for price in prices if price is not None]
    if not kept:
        raise invalid("A subscription must have at least one active item.", param="items")
    check_together(kept, subscription["currency"], subscription["billing_mode"]["type"])
    return {rhythm(price) for price in kept}


def _leave(account: Account, subscription: Record, item: Record, moment: int, *, same_price: bool) -> None:
    prorations.credit(account, subscription, item, moment)
    if subscription["billing_mode"]["type"] == "flexible" and not same_price:
        prorations.bill_usage(account, subscription, item, account.now)


def _remove(subscription: Record, item: Record) -> None:
    subscription["items"]["data"] = [each for each in items_of(subscription) if each is not item]
    subscription["items"]["total_count"] -= 1
    item["deleted"] = True


def _enter(account: Account, subscription: Record, change: _Change, price: Record) -> Record:
    """Return an item as it is after the change."""
    item, now = change.item, account.now
    end = subscription["trial_end"] if subscription["status"] == "trialing" else period_end(subscription, price, now)
    if item is None:
        item = account.add(new_item(account, subscription["id"], price, change.params, (now, end)))
        items_of(subscription).append(item)
        subscription["items"]["total_count"] += 1
        _discount(account, subscription, item, change.params)
        return item
    if "metadata" in change.params:
        item["metadata"] = merged(item["metadata"], change.params["metadata"])
    if "billing_thresholds" in change.params:
        item["billing_thresholds"] = change.params["billing_thresholds"]
    if "discounts" in change.params:
        _discount(account, subscription, item, change.params)
    if price is not item["price"]:
        if rhythm(price) != rhythm(item["price"]):
            item.update(current_period_start=now, current_period_end=end)
        metered = price["recurring"]["usage_type"] == "metered"
        item.update(price=price, plan=plan_of(price), billed_until=now, _since=now, _billed=0, _used=Decimal(0))
        item["quantity"] = None if metered else change.params.get("quantity", item["quantity"] or 1)
    elif "quantity" in change.params:
        item["quantity"] = change.params["quantity"]
    return item


def _discount(account: Account, subscription: Record, item: Record, params: dict[str, Any]) -> None:
    item["discounts"] = discounts.attach(
        account,
        params.get("discounts"),
        subscription["customer"],
        subscription["currency"],
        kept=item["discounts"],
        subscription=subscription["id"],
        subscription_item=item["id"],
    )


def _invoice(account: Account, subscription: Record, options: dict[str, Any]) -> None:
    if options.get("proration_behavior") == "always_invoice" and any(
        each["invoice"] is None and each["_subscription"] == subscription["id"] for each in account.all("invoiceitem")
    ):
        moment = (account.now, account.now)
        bill(account, subscription, [], reason="subscription_update", period=moment, at_once=True)


def _apply(account: Account, subscription: Record, change: dict[str, Any], call: Call) -> list[Record]:
    """Carry out a request for one item."""
    if subscription["status"] in ("canceled", "incomplete_expired"):
        raise invalid("The items of a canceled subscription cannot be changed.", param="subscription")
    options = {name: value for name, value in call.params.items() if name in FIELDS}
    forked = fork(account, subscription["customer"])
    try:
        apply(forked, forked.get("subscription", subscription["id"]), [change], options, name="")
    except ApiError as error:
        if error.param and error.param.startswith("items["):  # of a subscription's request
            error.param = "price"
        raise
    return apply(account, subscription, [change], options, name="")


def _split(call: Call) -> dict[str, Any]:
    return {name: value for name, value in call.params.items() if name in _UPDATED}


_ITEM = "/v1/subscription_items/{id}"
ROUTES = [
    Route(
        "POST",
        "/v1/subscription_items",
        create,
        {**FIELDS, **ITEM.fields, "subscription": Text(required=True)},
    ),
    Route("POST", _ITEM, update, {**FIELDS, **_UPDATED}),
    Route("DELETE", _ITEM, delete, {**FIELDS, "clear_usage": Boolean()}),
]
