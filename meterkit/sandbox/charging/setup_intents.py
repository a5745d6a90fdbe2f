"""Setup intents: a payment method is saved for later, and nothing is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Span, Text, merged, within
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

KIND = "setup_intent"


def build(account: Account, customer: str | None, params: dict[str, Any]) -> Record:
    """Store a new setup intent, and return it; it waits for a payment method."""
    nothing = dict.fromkeys(
        (
            "allowed_payment_method_types", "application", "attach_to_self", "automatic_payment_methods",
            "cancellation_reason", "customer_account", "excluded_payment_method_types", "flow_directions",
            "last_setup_error", "latest_attempt", "managed_payments", "mandate", "next_action", "on_behalf_of",
            "payment_method", "payment_method_configuration_details", "single_use_mandate",
        )
    )  # fmt: skip
    identity = account.new_id(KIND)
    return account.add(
        {
            **nothing,
            "id": identity,
            "object": KIND,
            "client_secret": f"{identity}_secret_{fresh_id('', 25)}",
            "created": account.now,
            "customer": customer,
            "description": params.get("description"),
            "livemode": account.switches.livemode,
            "metadata": merged({}, params.get("metadata")),
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            "usage": "off_session",
        }
    )


def succeed(account: Account, intent: Record, method: Record, customer: str | None) -> None:
    """Save a payment method."""
    intent.update(
        status="succeeded", payment_method=method["id"], payment_method_types=[method["type"]], customer=customer
    )
    account.announce("setup_intent.succeeded", intent)


def retrieve(account: Account, call: Call) -> Record:
    """Return one setup intent."""
    return account.get(KIND, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return setup intents, newest first."""
    params = call.params
    records = [
        intent
        for intent in reversed(account.all(KIND))
        if params.get("customer") in (None, intent["customer"])
        and params.get("payment_method") in (None, intent["payment_method"])
        and within(intent["created"], params.get("created"))
    ]
    return page(call, records, "setupintent")


ROUTES = [
    Route(
        "GET",
        "/v1/setup_intents",
        list_all,
        {**PAGE, "created": Span(), "customer": Text(), "payment_method": Text()},
    ),
    Route("GET", "/v1/setup_intents/{id}", retrieve),
]
