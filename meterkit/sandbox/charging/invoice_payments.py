"""The payments of an invoice: which payment intent is to pay it, and whether it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.charging import payment_intents
from meterkit.sandbox.protocol.lists import listing, page
from meterkit.sandbox.protocol.params import PAGE, Choice, Object, Rule, Span, Text, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "invoice_payment"
LIST: dict[str, Rule] = {
    **PAGE,
    "created": Span(),
    "invoice": Text(),
    "payment": Object({"payment_intent": Text(), "type": Choice(("payment_intent",), required=True)}),
    "status": Choice(("canceled", "open", "paid")),
}


def open_default(account: Account, invoice: Record) -> None:
    """Create the payment of a finalised invoice, unless nothing is due."""
    if invoice["amount_remaining"] <= 0:
        return
    intent = payment_intents.build(account, invoice)
    payment = account.add(
        {
            "id": account.new_id(KIND),
            "object": KIND,
            "amount_paid": None,
            "amount_requested": invoice["amount_remaining"],
            "created": account.now,
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": invoice["livemode"],
            "payment": {
                "charge": None,
                "payment_intent": intent["id"],
                "payment_record": None,
                "type": "payment_intent",
            },
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )
    invoice["payments"] = listing(f"/v1/invoice_payments?invoice={invoice['id']}", [payment])


def intent_of(account: Account, invoice: Record) -> Record | None:
    """Return the payment intent of an invoice; None if nothing was due."""
    payment = _default(invoice)
    return None if payment is None else account.tables[payment_intents.KIND][payment["payment"]["payment_intent"]]


def is_processing(account: Account, invoice: Record) -> bool:
    """Return whether a payment is under way, as a bank debit is for days."""
    intent = intent_of(account, invoice)
    return invoice["status"] == "open" and intent is not None and intent["status"] == "processing"


def mark_paid(account: Account, invoice: Record, method: Record | None) -> None:
    """Note that the payment intent has paid the invoice."""
    payment, intent = _default(invoice), intent_of(account, invoice)
    if payment is None or intent is None:
        return
    payment_intents.succeed(account, intent, method)
    payment.update(status="paid", amount_paid=payment["amount_requested"])
    payment["status_transitions"]["paid_at"] = account.now
    account.announce("invoice_payment.paid", payment)


def mark_canceled(account: Account, invoice: Record, reason: str) -> None:
    """Note that the invoice was closed in another way than by its payment intent."""
    payment, intent = _default(invoice), intent_of(account, invoice)
    if payment is None or intent is None:
        return
    payment_intents.cancel(account, intent, reason)
    payment["status"] = "canceled"
    payment["status_transitions"]["canceled_at"] = account.now


def retrieve(account: Account, call: Call) -> Record:
    """Return one payment of an invoice."""
    return account.get(KIND, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return payments of invoices, newest first."""
    params = call.params
    intent = params.get("payment", {}).get("payment_intent")
    records = [
        payment
        for payment in reversed(account.all(KIND))
        if params.get("invoice") in (None, payment["invoice"])
        and params.get("status") in (None, payment["status"])
        and intent in (None, payment["payment"]["payment_intent"])
        and within(payment["created"], params.get("created"))
    ]
    return page(call, records, "invoice_payment")


def _default(invoice: Record) -> Record | None:
    payment: Record | None = next(iter(invoice["payments"]["data"]), None)
    return payment


ROUTES = [
    Route("GET", "/v1/invoice_payments", list_all, LIST),
    Route("GET", "/v1/invoice_payments/{id}", retrieve),
]
