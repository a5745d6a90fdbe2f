"""Invoices that belong to no subscription: what is bought once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.invoicing import invoice_items, invoices
from meterkit.sandbox.protocol.params import merged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterkit.sandbox.state.account import Account, Record


def amount_of(price: Record, quantity: int) -> int:
    """Return what so many of a price cost, in the currency's minor unit."""
    return int((Decimal(price["unit_amount_decimal"]) * quantity).to_integral_value())


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
    invoice["default_payment_method"] = None if method is None else method["id"]
    for price, quantity, description in bought:
        item = invoice_items.pending(
            account,
            customer["id"],
            amount_of(price, quantity),
            currency,
            description=description,
            invoice=invoice["id"],
            pricing={
                "price_details": {"price": price["id"], "product": price["product"]},
                "type": "price_details",
                "unit_amount_decimal": price["unit_amount_decimal"],
            },
            quantity=quantity,
            quantity_decimal=str(quantity),
        )
        account.add(item)
    account.add(invoice)
    invoices.refresh(account, invoice)
    account.announce("invoice.created", invoice)
    invoices.finalize(account, invoice)
    return invoice
