"""Customers: who pays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meterkit.sandbox.billing.cancellation import end_now
from meterkit.sandbox.charging import payment_methods
from meterkit.sandbox.invoicing import balances
from meterkit.sandbox.protocol.errors import invalid, no_such
from meterkit.sandbox.protocol.lists import DEFAULT_LIMIT, page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Integer, Object, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import CLOCK, fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

CURRENCY = "usd"  # of the account: that of a balance which is set before the customer has a currency
_ADDRESS = Object(
    dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), Text(nullable=True)), nullable=True
)
FIELDS = {
    "address": _ADDRESS,
    "balance": Integer(),
    "description": Text(nullable=True),
    "email": Text(512, nullable=True),
    "invoice_settings": Object({"default_payment_method": Text(required=True, nullable=True)}),
    "metadata": METADATA,
    "name": Text(256, nullable=True),
    "phone": Text(20, nullable=True),
}


def create(account: Account, call: Call) -> Record:
    """Create a customer."""
    record: Record = {
        "id": account.new_id("customer"),
        "object": "customer",
        "address": None,
        "balance": 0,
        "business_name": None,
        "cash_balance": None,
        "created": account.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "individual_name": None,
        "invoice_prefix": fresh_id("", 8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": account.switches.livemode,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": _clock(account, call),
    }
    record.update({key: value for key, value in call.params.items() if key in FIELDS and key != "invoice_settings"})
    record["metadata"] = merged({}, call.params.get("metadata"))
    balance, record["balance"] = record["balance"], 0
    account.add(record)
    given, settings = call.params.get("payment_method"), call.params.get("invoice_settings", {})
    method = None if given is None else _attached(account, given, record["id"])
    if settings:
        chosen = settings["default_payment_method"]
        is_given = method is not None and chosen == given
        record["invoice_settings"] |= _default(account, method["id"] if method and is_given else chosen, record["id"])
    account.announce("customer.created", record)
    _set_balance(account, record, balance, "initial")
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one customer; a deleted one is returned as a stub."""
    record = account.find("customer", call.id)
    if record is None:
        raise no_such("customer", call.id)
    return _tombstone(record) if record.get("deleted") else record


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record = account.get("customer", call.id)
    values = {key: value for key, value in call.params.items() if key in FIELDS}
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "invoice_settings" in values:
        chosen = values["invoice_settings"].get("default_payment_method")
        values["invoice_settings"] = {**record["invoice_settings"], **_default(account, chosen, record["id"])}
    balance = values.pop("balance", record["balance"])
    account.change(record, "customer.updated", **values)
    _set_balance(account, record, balance, "adjustment")
    return record


def delete(account: Account, call: Call) -> Record:
    """Delete a customer; its subscriptions end at once."""
    record = account.get("customer", call.id)
    for subscription in account.all("subscription"):
        if subscription["customer"] == call.id and subscription["status"] != "canceled":
            end_now(account, subscription)
    account.announce("customer.deleted", record)
    record["deleted"] = True
    return _tombstone(record)


def list_all(account: Account, call: Call) -> Record:
    """Return customers, newest first, filtered by exact email; those of a test clock only if it is named."""
    email = call.params.get("email")
    records = [
        customer
        for customer in reversed(account.all("customer"))
        if customer["test_clock"] == call.params.get("test_clock")
        and email in (None, customer["email"])
        and within(customer["created"], call.params.get("created"))
    ]
    return page(call, records, "customer")


def search(account: Account, call: Call) -> Record:
    """
    Return customers by a value of their metadata, newest first; of Stripe's query language, there is nothing else.

    Stripe finds a new customer up to a minute later; here it is found at once.
    """
    query = call.params["query"]
    asked = re.fullmatch(r"""metadata\[(["'])(?P<key>.+)\1\]:(["'])(?P<value>.*)\3""", query)
    if asked is None:
        raise invalid(f"The sandbox knows only queries like metadata['key']:'value', not {query!r}.", param="query")
    key, value = (re.sub(r"\\(.)", r"\1", asked[name]) for name in ("key", "value"))
    found = [each for each in reversed(account.all("customer")) if each["metadata"].get(key) == value]
    limit = call.params.get("limit", DEFAULT_LIMIT)
    return {
        "object": "search_result",
        "data": found[:limit],
        "has_more": len(found) > limit,
        "next_page": None,
        "url": call.path,
    }


def _set_balance(account: Account, record: Record, balance: int, kind: str) -> None:
    change = balance - record["balance"]
    if change:
        balances.add(account, record["id"], change, record["currency"] or CURRENCY, kind)


def _attached(account: Account, method: str, customer: str) -> Record:
    return payment_methods.attach(account, Call("", method, {"customer": customer}))


def _default(account: Account, chosen: str | None, customer: str) -> Record:
    """Return the setting of a default payment method, which must be the customer's."""
    if chosen is None:
        return {"default_payment_method": None}
    param = "invoice_settings[default_payment_method]"
    method = payment_methods.named(account, chosen, param=param, customer=customer)
    return {"default_payment_method": method["id"]}


def _clock(account: Account, call: Call) -> str | None:
    clock = call.params.get("test_clock")
    return None if clock is None else str(account.get(CLOCK, clock, param="test_clock")["id"])


def _tombstone(record: Record) -> Record:
    return {"id": record["id"], "object": "customer", "deleted": True}


ROUTES = [
    Route("POST", "/v1/customers", create, {**FIELDS, "payment_method": Text(), "test_clock": Text()}),
    Route("GET", "/v1/customers", list_all, {**PAGE, "email": Text(512), "created": Span(), "test_clock": Text()}),
    Route("GET", "/v1/customers/search", search, {"query": Text(5000, required=True), "limit": Integer(1, 100)}),
    Route("GET", "/v1/customers/{id}", retrieve),
    Route("POST", "/v1/customers/{id}", update, FIELDS),
    Route("DELETE", "/v1/customers/{id}", delete),
]
