"""Meter events of v1, and their cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.metering.event_checks import Offer, Problem, accept, customer_of, examine, random_identifier
from meterkit.sandbox.protocol.errors import ApiError, invalid, no_such
from meterkit.sandbox.protocol.params import Choice, Dictionary, Integer, Object, Text
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record
    from meterkit.sandbox.state.usage import MeterEvent

CREATE = {
    "event_name": Text(100, required=True),
    "payload": Dictionary(100, 100, 100, required=True),
    "identifier": Text(100),
    "timestamp": Integer(),
}
CANCEL = {
    "type": Choice(("cancel",), required=True),
    "event_name": Text(100, required=True),
    "cancel": Object({"identifier": Text(100, required=True)}, required=True),
}


def create(account: Account, call: Call) -> Record:
    """Accept one event, or refuse it at once."""
    params = call.params
    offer = Offer(
        params["event_name"],
        params["payload"],
        params.get("identifier") or random_identifier(),
        params.get("timestamp", account.now),
    )
    event, problem = examine(account, offer)
    try:
        if problem is not None:
            _refuse(account, event, problem)
        check_new(account, event)
    except ApiError:
        if account.switches.rejected_consumes_identifier:
            account.usage.consume(event.event_name, event.customer, event.identifier)
        raise
    accept(account, event, problem)
    return {
        "object": "billing.meter_event",
        "created": account.now,
        "event_name": offer.event_name,
        "identifier": offer.identifier,
        "livemode": account.switches.livemode,
        "payload": offer.payload,
        "timestamp": offer.timestamp,
    }


def check_new(account: Account, event: MeterEvent, code: str | None = None) -> None:
    """
    Check that no recent event has the same identifier.

    Raises:
        ApiError: 400; v1 has no code for it.

    """
    if account.usage.remembers(event.event_name, event.customer, event.identifier):
        raise ApiError(
            400,
            f"An event already exists with identifier {event.identifier}.",
            code=code,
            headers={"Stripe-Should-Retry": "false"},
        )


def slot(account: Account, call: Call) -> tuple[str, str]:
    """Return the event name and the customer for which only one call may be in flight."""
    name = call.params["event_name"]
    return name, customer_of(account, name, call.params["payload"])


def adjust(account: Account, call: Call) -> Record:
    """Cancel an event that was received within the last 24 hours."""
    identifier = call.params["cancel"]["identifier"]
    effective_at = account.usage.cancel(call.params["event_name"], identifier)
    if effective_at is None:
        raise invalid(not_cancelable(identifier), param="cancel[identifier]")
    record: Record = {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": call.params["event_name"],
        "livemode": account.switches.livemode,
        "status": "pending",
        "type": "cancel",
        "_effective_at": effective_at,
    }
    account.adjustments.append(record)
    return record


def not_cancelable(identifier: str) -> str:
    """Return the message about an event that cannot be cancelled."""
    return (
        f"No cancelable meter event found with identifier {identifier}. Only events received within the past "
        "24 hours can be canceled."
    )


def _refuse(account: Account, event: MeterEvent, problem: Problem) -> None:
    """Raise the error of v1, unless a switch says that it is found later."""
    switches = account.switches
    if problem.code in ("no_meter", "archived_meter"):
        raise invalid(f'No active meter found for event name "{event.event_name}".')
    if problem.code.startswith("timestamp"):
        raise invalid(problem.message, param="timestamp")
    if problem.code == "meter_event_customer_not_found":
        if switches.unknown_customer == "sync":
            raise no_such("customer", event.customer, param="payload[stripe_customer_id]")
    elif switches.bad_payload == "sync":
        raise invalid(problem.message, param="payload")


EVENTS = Route("POST", "/v1/billing/meter_events", create, CREATE)
ROUTES = [EVENTS, Route("POST", "/v1/billing/meter_event_adjustments", adjust, CANCEL)]
