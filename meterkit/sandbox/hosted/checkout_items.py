"""The line items of a Checkout session, and what is to be paid at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import customers, subscriptions
from meterkit.sandbox.catalog import prices
from meterkit.sandbox.catalog.price_amounts import amount_of
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.params import METADATA, Array, Choice, Integer, Number, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.fork import fork

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

MOST_ITEMS = 20
_PRICE_DATA: dict[str, Rule] = {
    "currency": Text(3, required=True),
    "product": Text(),
    "product_data": Object(
        {"description": Text(), "metadata": METADATA, "name": Text(required=True), "unit_label": Text(12)}
    ),
    "recurring": Object(
        {"interval": Choice(("day", "week", "month", "year"), required=True), "interval_count": Integer(1)},
        required=True,
    ),
    "unit_amount": Integer(0),
    "unit_amount_decimal": Number(),
}
LINE_ITEMS = Array(
    Object({"metadata": METADATA, "price": Text(), "price_data": Object(_PRICE_DATA), "quantity": Integer(0)}),
    longest=MOST_ITEMS,
)


def build(account: Account, sent: list[dict[str, Any]]) -> list[Record]:
    """
    Return the line items of a session; `price_up` writes their amounts.

    Raises:
        ApiError: 400 for an item without a price or without a quantity.

    """
    return [_item(account, params, place) for place, params in enumerate(sent)]


def subscription_items(items: list[Record]) -> list[dict[str, Any]]:
    """Return line items as the parameter `items` of a subscription."""
    return [
        {"price": item["price"]["id"], **({} if item["quantity"] is None else {"quantity": item["quantity"]})}
        for item in items
    ]


def price_up(account: Account, session: Record, params: dict[str, Any], customer: str | None) -> None:
    """
    Write what is to be paid at once into a session and its line items.

    It is the first invoice of the subscription, made in a fork of the account.

    Args:
        account: Account of the session.
        session: Session, with its line items.
        params: Parameters of the subscription.
        customer: Id of the customer, or None for one that does not exist yet.

    Raises:
        ApiError: 400 if there cannot be such a subscription.

    """
    forked = fork(account, customer or "")
    identity = customer or customers.create(forked, Call("", "", {}))["id"]
    known = set(forked.tables["invoice"])
    try:
        subscription = subscriptions.start(forked, {**params, "customer": identity})
    except ApiError as error:
        names = [
            each if each is None else each.replace("items[", "line_items[") for each in (error.message, error.param)
        ]
        raise invalid(str(names[0]), param=names[1], code=error.code) from None
    made = [invoice for key, invoice in forked.tables["invoice"].items() if key not in known]
    invoice: Record = made[0] if made else {"_lines": [], "subtotal": 0, "total": 0, "total_discount_amounts": []}
    for item in session["line_items"]["data"]:
        lines = [line for line in invoice["_lines"] if _is_for(line, item)]
        amount = sum(line["amount"] for line in lines)
        off = sum(each["amount"] for line in lines for each in line["discount_amounts"])
        item.update(
            amount_discount=off,
            amount_subtotal=amount,
            amount_total=amount - off,
            currency=subscription["currency"],
        )
    session.update(
        amount_subtotal=invoice["subtotal"],
        amount_total=invoice["total"],
        currency=subscription["currency"],
        payment_status="unpaid" if invoice["total"] else "no_payment_required",
        total_details={
            "amount_discount": sum(each["amount"] for each in invoice["total_discount_amounts"]),
            "amount_shipping": 0,
            "amount_tax": 0,
            "breakdown": None,
        },
    )


def add_up(session: Record) -> None:
    """Write what is to be paid once into a session and its line items."""
    items = session["line_items"]["data"]
    for place, item in enumerate(items):
        price = item["price"]
        if price["recurring"] is not None:
            raise invalid(
                "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or "
                "use only one-time prices.",
                param=f"line_items[{place}][price]",
            )
        amount = amount_of(price, item["quantity"])
        item.update(amount_subtotal=amount, amount_total=amount)
    if len({item["currency"] for item in items}) > 1:
        raise invalid("All prices on a Checkout Session must have the same currency.", param="line_items")
    total = sum(item["amount_total"] for item in items)
    session.update(
        amount_subtotal=total,
        amount_total=total,
        currency=items[0]["currency"],
        payment_status="unpaid" if total else "no_payment_required",
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0, "breakdown": None},
    )


def _is_for(line: Record, item: Record) -> bool:
    pricing = line["pricing"]
    return pricing is not None and pricing["price_details"]["price"] == item["price"]["id"]


def _item(account: Account, params: dict[str, Any], place: int) -> Record:
    if ("price" in params) == ("price_data" in params):
        raise invalid(
            "You must specify either `price` or `price_data` for each line item.", param=f"line_items[{place}][price]"
        )
    if "price_data" in params:
        price = prices.create(account, Call("/v1/prices", "", params["price_data"]))
    else:
        price = account.get("price", params["price"], param=f"line_items[{place}][price]")
    metered = price["recurring"] is not None and price["recurring"]["usage_type"] == "metered"
    if not metered and "quantity" not in params:
        raise invalid(
            f"Quantity is required. Add `quantity` to `line_items[{place}]`",
            param=f"line_items[{place}][quantity]",
            code="parameter_missing",
        )
    return {
        "id": fresh_id("li_1", 23),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": 0,
        "amount_tax": 0,
        "amount_total": 0,
        "currency": price["currency"],
        "description": account.tables["product"][price["product"]]["name"],
        "discounts": [],
        "metadata": merged({}, params.get("metadata")),
        "price": price,
        "quantity": params.get("quantity"),
        "taxes": [],
    }
