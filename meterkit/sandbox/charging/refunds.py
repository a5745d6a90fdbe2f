"""Refunds: the money of a payment goes back, all of it or a part. They succeed at once; there are no charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.charging import disputes, payment_intents
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import METADATA, PAGE, Choice, Integer, Rule, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "refund"
CREATE: dict[str, Rule] = {
    "amount": Integer(1),
    "metadata": METADATA,
    "payment_intent": Text(required=True),
    "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")),
}


def create(account: Account, call: Call) -> Record:
    """Give back what a payment intent has taken."""
    params = call.params
    intent = account.get(payment_intents.KIND, params["payment_intent"], param="payment_intent")
    if intent["status"] != "succeeded":
        raise invalid("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
    disputed = disputes.of_payment(account, intent)
    if disputed is not None and not disputed["is_charge_refundable"]:
        raise invalid("This charge has been charged back.", code="charge_disputed")
    refunded = sum(each["amount"] for each in account.all(KIND) if each["payment_intent"] == intent["id"])
    left = intent["amount_received"] - refunded
    amount = params.get("amount", left)
    if not left:
        raise invalid("This payment has already been refunded.", code="charge_already_refunded")
    if amount > left:
        raise invalid(f"Refund amount ({amount}) is greater than unrefunded amount ({left}).", param="amount")
    nothing = dict.fromkeys(
        (
            "balance_transaction", "charge", "customer_account", "description", "destination_details",
            "failure_balance_transaction", "failure_reason", "instructions_email", "next_action", "pending_reason",
            "presentment_details", "receipt_number", "source_transfer_reversal", "transfer_reversal",
        )
    )  # fmt: skip
    record = account.add(
        {
            **nothing,
            "id": account.new_id(KIND),
            "object": KIND,
            "amount": amount,
            "created": account.now,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "metadata": merged({}, params.get("metadata")),
            "payment_intent": intent["id"],
            "payment_method": intent["payment_method"],
            "reason": params.get("reason"),
            "status": "succeeded",
        }
    )
    account.announce("refund.created", record)
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one refund."""
    return account.get(KIND, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return refunds, newest first."""
    params = call.params
    records = [
        each
        for each in reversed(account.all(KIND))
        if params.get("payment_intent") in (None, each["payment_intent"])
        and within(each["created"], params.get("created"))
    ]
    return page(call, records, "refund")


ROUTES = [
    Route("POST", "/v1/refunds", create, CREATE),
    Route("GET", "/v1/refunds", list_all, {**PAGE, "created": Span(), "payment_intent": Text()}),
    Route("GET", "/v1/refunds/{id}", retrieve),
]
