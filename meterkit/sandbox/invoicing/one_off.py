"""Invoices that belong to no subscription: what is bought once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.catalog.price_amounts import amount_of
from meterkit.sandbox.invoicing import invoice_items, invoices
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import METADATA, Boolean, Choice, Rule, Text, merged
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.account import Account, Record

CREATE: dict[str, Rule] = {
    "auto_advance": Boolean(),
    "collection_method": Choice(("charge_automatically",)),
    "currency": Text(3),
    "customer": Text(required=True),
    "description": Text(1500),
    "metadata": METADATA,
    "pending_invoice_items_behavior": Choice(("exclude", "include")),
}


def issue(
    account: Account,
    customer: Record,
    bought: Iterable[tuple[Record, int, str]],
    *,
    currency: str,
    method: Record | None,
    metadata: dict[str, Any] | None,
) -> Record:
    """
    Make an invoice, finalise it, and charge it.

    Args:
        account: Account of the customer.
        customer: Customer who pays.
        bought: Price, quantity and description of each line.
        currency: Currency of the prices.
        method: Payment method, or None for the one on file.
        metadata: Metadata of the invoice.

    """
    invoice = _draft(account, customer, currency=currency, metadata=metadata)
    invoice["default_payment_method"] = None if method is None else method["id"]
    for price, quantity, description in bought:
        amount = amount_of(price, quantity)
        about = {"description": description, "invoice": invoice["id"], **invoice_items.priced(price, quantity)}
        account.add(invoice_items.pending(account, customer["id"], amount, currency, **about))
    account.add(invoice)
    invoices.refresh(account, invoice)
    account.announce("invoice.created", invoice)
    invoices.finalize(account, invoice)
    return invoice


def create(account: Account, call: Call) -> Record:
    """Create a draft. Unless it is to advance by itself, it stays one until it is finalised."""
    params = call.params
    customer = account.get("customer", params["customer"], param="customer")
    currency = str(params.get("currency") or customer["currency"] or "usd").lower()
    invoice = _draft(account, customer, currency=currency, metadata=params.get("metadata"))
    invoice.update(auto_advance=params.get("auto_advance", False), description=params.get("description"))
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = account.now + account.switches.invoice_grace
    account.add(invoice)
    if params.get("pending_invoice_items_behavior") == "include":
        invoice_items.take_pending(account, invoice)
    invoices.refresh(account, invoice)
    account.announce("invoice.created", invoice)
    return invoice


def delete(account: Account, call: Call) -> Record:
    """Delete a draft that belongs to no subscription."""
    invoice = account.get("invoice", call.id)
    if invoice["status"] != "draft" or invoice["_subscription"]:
        raise invalid("You can only delete draft invoices that are not created by a subscription.")
    for item in account.all("invoiceitem"):
        if item["invoice"] == invoice["id"]:
            del account.tables["invoiceitem"][item["id"]]
    account.announce("invoice.deleted", invoice)
    del account.tables["invoice"][invoice["id"]]
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


def _draft(account: Account, customer: Record, *, currency: str, metadata: dict[str, Any] | None) -> Record:
    """Return the record of a draft without lines, without storing it."""
    nobody = {
        "id": "",
        "billing_mode": {"type": "classic"},
        "collection_method": "charge_automatically",
        "currency": currency,
        "customer": customer["id"],
        "days_until_due": None,
        "discounts": [],
        "items": {"data": []},
        "metadata": {},
        "pause_collection": None,
        "test_clock": customer["test_clock"],
    }
    invoice = invoices.draft(account, nobody, (), reason="manual", period=(account.now, account.now))
    invoice.update(metadata=merged({}, metadata), parent=None, automatically_finalizes_at=None)
    return invoice


ROUTES = [
    Route("POST", "/v1/invoices", create, CREATE),
    Route("DELETE", "/v1/invoices/{id}", delete),
]
