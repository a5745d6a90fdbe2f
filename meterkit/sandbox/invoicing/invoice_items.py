"""Invoice items: one-off amounts that wait for the customer's next invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog.price_amounts import amount_of
from meterkit.sandbox.protocol.errors import invalid, missing_parameter
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Boolean, Integer, Object, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.money import smallest

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

MOST_ITEMS = 250
"""Stripe: items of an invoice at most (changelog of its API, 2016-02-22)."""

CREATE: dict[str, Rule] = {
    "amount": Integer(),
    "currency": Text(3),
    "customer": Text(required=True),
    "description": Text(500, nullable=True),
    "discountable": Boolean(),
    "invoice": Text(),
    "metadata": METADATA,
    "period": Object({"start": Integer(required=True), "end": Integer(required=True)}),
    "pricing": Object({"price": Text(required=True)}),
    "quantity": Integer(0),
    "subscription": Text(),
}


def create(account: Account, call: Call) -> Record:
    """Create an item for the next invoice of a customer, or of one of its subscriptions."""
    params = call.params
    account.get("customer", params["customer"], param="customer")
    if "subscription" in params:
        subscription = account.get("subscription", params["subscription"], param="subscription")
        if subscription["status"] == "canceled":
            raise invalid("You cannot add an invoice item to a canceled subscription.", param="subscription")
    amount, currency, description, pricing = _charged(account, params)
    if "invoice" in params:
        _check_draft(account, params, currency)
    record = pending(
        account,
        params["customer"],
        amount,
        currency,
        description=params.get("description", description),
        metadata=merged({}, params.get("metadata")),
        discountable=params.get("discountable", amount >= 0),
        invoice=params.get("invoice"),
        _subscription=params.get("subscription"),
        **pricing,
    )
    if "period" in params:
        record["period"] = {"end": params["period"]["end"], "start": params["period"]["start"]}
    account.announce("invoiceitem.created", account.add(record))
    return record


def _charged(account: Account, params: dict[str, Any]) -> tuple[int, str, str | None, Record]:
    """Return the amount, the currency, the description and the pricing of an item that was asked for."""
    if "pricing" in params:
        if "amount" in params:
            raise invalid("You may only specify one of these parameters: amount, pricing.", param="amount")
        price = account.get("price", params["pricing"]["price"], param="pricing[price]")
        quantity = params.get("quantity", 1)
        if price["recurring"] is not None or not price["active"]:
            kind = "is not active" if not price["active"] else "has `type=recurring`"
            raise invalid(f"The price specified {kind}. This field only accepts active prices with `type=one_time`.")
        name = account.tables["product"][price["product"]]["name"]
        return amount_of(price, quantity), price["currency"], name, priced(price, quantity)
    for name in ("amount", "currency"):
        if name not in params:
            raise missing_parameter(name)
    currency = params["currency"].lower()
    if params["amount"] % smallest(currency) and account.switches.last_digit != "kept":
        raise invalid(f"Amounts in `{currency}` must be evenly divisible by {smallest(currency)}.", param="amount")
    return params["amount"], currency, None, {}


def priced(price: Record, quantity: int) -> Record:
    """Return the fields of an item that is so many of a price."""
    return {
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
    }


def _check_draft(account: Account, params: dict[str, Any], currency: str) -> None:
    """Refuse an invoice that takes no further items."""
    invoice = account.get("invoice", params["invoice"], param="invoice")
    if invoice["customer"] != params["customer"]:
        raise invalid("The invoice belongs to another customer.", param="invoice")
    if invoice["status"] != "draft":
        raise invalid(
            "This invoice is no longer editable. You can only add items to draft invoices.",
            code="invoice_not_editable",
            param="invoice",
        )
    if currency != invoice["currency"]:
        raise invalid("The currency of the item must be that of the invoice.", param="currency")
    if sum(item["invoice"] == invoice["id"] for item in account.all("invoiceitem")) >= MOST_ITEMS:
        raise invalid(f"An invoice can have at most {MOST_ITEMS} items.", param="invoice")


def pending(account: Account, customer: str, amount: int, currency: str, **fields: Any) -> Record:
    """Return the record of an item that waits for an invoice, without storing it."""
    return {
        "id": account.new_id("invoiceitem"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": account.now,
        "description": None,
        "discountable": True,
        "discounts": [],
        "frozen_fields": None,
        "invoice": None,
        "invoicing_rules": None,
        "livemode": account.switches.livemode,
        "metadata": {},
        "net_amount": amount,
        "parent": None,
        "period": {"end": account.now, "start": account.now},
        "pricing": None,
        "proration": False,
        "proration_details": None,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": account.tables["customer"][customer]["test_clock"],
        "_subscription": None,
        "_item": None,
        **fields,
    }


def retrieve(account: Account, call: Call) -> Record:
    """Return one item."""
    return account.get("invoiceitem", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return items, newest first."""
    params = call.params
    records = [
        each
        for each in reversed(account.all("invoiceitem"))
        if params.get("customer") in (None, each["customer"])
        and params.get("invoice") in (None, each["invoice"])
        and params.get("pending") in (None, each["invoice"] is None)
    ]
    return page(call, records, "invoice item")


def take_pending(account: Account, invoice: Record) -> None:
    """Add the pending items to a draft."""
    for item in account.all("invoiceitem"):
        fits = (item["customer"], item["currency"]) == (invoice["customer"], invoice["currency"])
        if fits and item["invoice"] is None and item["_subscription"] in (None, invoice["_subscription"]):
            item["invoice"] = invoice["id"]


def lines(account: Account, invoice: Record) -> list[Record]:
    """Return the lines of an invoice that are items."""
    return [_line(invoice, item) for item in account.all("invoiceitem") if item["invoice"] == invoice["id"]]


def _line(invoice: Record, item: Record) -> Record:
    return {
        "id": invoice["_line_ids"].setdefault(item["id"], fresh_id("il_1", 23)),
        "object": "line_item",
        "amount": item["amount"],
        "currency": item["currency"],
        "description": item["description"],
        "discount_amounts": [],
        "discountable": item["discountable"],
        "discounts": item["discounts"],
        "invoice": invoice["id"],
        "livemode": invoice["livemode"],
        "metadata": item["metadata"],
        "parent": _parent(item),
        "period": item["period"],
        "pretax_credit_amounts": [],
        "pricing": item["pricing"],
        "quantity": item["quantity"],
        "quantity_decimal": item["quantity_decimal"],
        "subscription": item["_subscription"],
        "subtotal": item["amount"],
        "taxes": [],
    }


def _parent(item: Record) -> Record:
    shared = {
        "invoice_item": item["id"],
        "proration": item["proration"],
        "proration_details": {"credited_items": None},
        "subscription": item["_subscription"],
    }
    if item["_item"] is not None:
        return {
            "invoice_item_details": None,
            "subscription_item_details": {**shared, "subscription_item": item["_item"]},
            "type": "subscription_item_details",
        }
    return {"invoice_item_details": shared, "subscription_item_details": None, "type": "invoice_item_details"}


ROUTES = [
    Route("POST", "/v1/invoiceitems", create, CREATE),
    Route("GET", "/v1/invoiceitems", list_all, {**PAGE, "customer": Text(), "invoice": Text(), "pending": Boolean()}),
    Route("GET", "/v1/invoiceitems/{id}", retrieve),
]
