"""The line items of a Checkout session, and what is to be paid at once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog import prices
from meterkit.sandbox.invoicing.invoice_lines import parts
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import METADATA, Array, Choice, Integer, Number, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.money import rounded

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


def build(account: Account, sent: list[dict[str, Any]], *, trial: bool) -> list[Record]:
    """
    Return the line items of a session.

    Args:
        account: Account of the session.
        sent: Parsed parameter `line_items`.
        trial: Whether the subscription begins with a trial, so nothing is to be paid at once.

    Raises:
        ApiError: 400 for a price that cannot be subscribed to, or a wrong quantity.

    """
    return [_item(account, params, place, trial=trial) for place, params in enumerate(sent)]


def _item(account: Account, params: dict[str, Any], place: int, *, trial: bool) -> Record:
    price = _price(account, params, place)
    metered = price["recurring"]["usage_type"] == "metered"
    if metered and "quantity" in params:
        raise invalid(
            "Quantity should not be specified where usage_type is `metered`. Remove quantity from "
            f"`line_items[{place}]`",
            param=f"line_items[{place}][quantity]",
        )
    if not metered and "quantity" not in params:
        raise invalid(
            f"Quantity is required. Add `quantity` to `line_items[{place}]`",
            param=f"line_items[{place}][quantity]",
            code="parameter_missing",
        )
    product = account.tables["product"][price["product"]]
    amount = 0
    if not metered and not trial:
        charged = parts(price, product, Decimal(params["quantity"]))
        amount = sum(rounded(part.amount, account.switches.rounding) for part in charged)
    return {
        "id": fresh_id("li_1", 23),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": product["name"],
        "discounts": [],
        "metadata": merged({}, params.get("metadata")),
        "price": price,
        "quantity": params.get("quantity"),
        "taxes": [],
    }


def _price(account: Account, params: dict[str, Any], place: int) -> Record:
    param = f"line_items[{place}][price]"
    if ("price" in params) == ("price_data" in params):
        raise invalid("You must specify either `price` or `price_data` for each line item.", param=param)
    if "price_data" in params:
        return prices.create(account, Call("/v1/prices", "", params["price_data"]))
    price = account.get("price", params["price"], param=param)
    if not price["active"]:
        raise invalid(
            f"The price specified is inactive. This field only accepts active prices: {price['id']}", param=param
        )
    if price["recurring"] is None:
        # Stripe adds one-off prices to the first invoice.
        raise invalid("This sandbox accepts only recurring prices in a Checkout session.", param=param)
    return price
