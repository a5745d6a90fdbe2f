"""Payment intents: one attempt after another to take the money for an invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Span, Text, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "payment_intent"


def build(account: Account, invoice: Record) -> Record:
    """Store the payment intent of an invoice, and return it; nothing was charged yet."""
    nothing = dict.fromkeys(
        (
            "allowed_payment_method_types", "amount_details", "application", "application_fee_amount",
            "automatic_payment_methods", "canceled_at", "cancellation_reason", "customer_account", "description",
            "excluded_payment_method_types", "hooks", "last_payment_error", "latest_charge", "managed_payments",
            "next_action", "on_behalf_of", "payment_details", "payment_method", "payment_method_configuration_details",
            "payment_record", "presentment_details", "processing", "receipt_email", "review", "shipping", "source",
            "statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group",
        )
    )  # fmt: skip
    identity = account.new_id(KIND)
    return account.add(
        {
            **nothing,
            "id": identity,
            "object": KIND,
            "amount": invoice["amount_remaining"],
            "amount_capturable": 0,
            "amount_received": 0,
            "capture_method": "automatic",
            "client_secret": f"{identity}_secret_{fresh_id('', 25)}",
            "confirmation_method": "automatic",
            "created": account.now,
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "livemode": account.switches.livemode,
            "metadata": {},
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "setup_future_usage": "off_session",
            "status": "requires_payment_method",
        }
    )


def process(account: Account, intent: Record, method: Record | None) -> None:
    """Begin a payment that takes days: a bank debit."""
    intent.update(status="processing", last_payment_error=None, **_with(method))
    account.announce("payment_intent.processing", intent)


def succeed(account: Account, intent: Record, method: Record | None) -> None:
    """Take the money."""
    intent.update(
        status="succeeded",
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=None,
        **_with(method),
    )
    account.announce("payment_intent.succeeded", intent)


def fail(account: Account, intent: Record, method: Record | None) -> None:
    """Note that the money could not be taken; another payment method may be tried."""
    debit = intent["status"] == "processing" or (method is not None and method["type"] != "card")
    error = {
        "advice_code": None,
        "charge": None,
        "code": "payment_intent_payment_attempt_failed" if debit else "card_declined",
        "decline_code": None if debit else "generic_decline",
        "doc_url": "https://docs.stripe.com/error-codes",
        "message": "The payment failed." if debit else "Your card was declined.",
        "param": None,
        "payment_method": None if method is None else dict(method),
        "type": "invalid_request_error" if debit else "card_error",
    }
    intent.update(status="requires_payment_method", last_payment_error=error, payment_method=None)
    account.announce("payment_intent.payment_failed", intent)


def cancel(account: Account, intent: Record, reason: str) -> None:
    """End a payment intent whose invoice was closed in another way."""
    intent.update(status="canceled", canceled_at=account.now, cancellation_reason=reason)
    account.announce("payment_intent.canceled", intent)


def retrieve(account: Account, call: Call) -> Record:
    """Return one payment intent."""
    return account.get(KIND, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return payment intents, newest first."""
    records = [
        intent
        for intent in reversed(account.all(KIND))
        if call.params.get("customer") in (None, intent["customer"])
        and within(intent["created"], call.params.get("created"))
    ]
    return page(call, records, "payment_intent")


def _with(method: Record | None) -> Record:
    return {} if method is None else {"payment_method": method["id"], "payment_method_types": [method["type"]]}


ROUTES = [
    Route("GET", "/v1/payment_intents", list_all, {**PAGE, "created": Span(), "customer": Text()}),
    Route("GET", "/v1/payment_intents/{id}", retrieve),
]
