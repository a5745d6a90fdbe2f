"""Meter events of v2: single events, checked at once, or streams of up to a hundred, checked later."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.metering import error_reports
from meterkit.sandbox.metering.event_checks import Offer, Problem, accept, examine, random_identifier
from meterkit.sandbox.metering.meter_events import check_new, not_cancelable
from meterkit.sandbox.protocol.errors import ApiError
from meterkit.sandbox.protocol.params import Array, Choice, Dictionary, Object, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.protocol.timestamps import Moment, rfc3339

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

SESSION = "v2.billing.meter_event_session"
SESSION_LIFETIME = 15 * 60
EVENT: dict[str, Rule] = {
    "event_name": Text(100, required=True),
    "payload": Dictionary(100, 100, 100, required=True),
    "identifier": Text(100),
    "timestamp": Moment(),
}
CANCEL: dict[str, Rule] = {
    "type": Choice(("cancel",), required=True),
    "event_name": Text(100, required=True),
    "cancel": Object({"identifier": Text(100)}),
}


def create(account: Account, call: Call) -> Record:
    """Accept one event, or refuse it at once; only the customer is checked later."""
    offer = _offer(account, call.params)
    event, problem = examine(account, offer)
    try:
        _refuse(problem)
        check_new(account, event, "duplicate_meter_event")
    except ApiError:
        if account.switches.rejected_consumes_identifier:
            account.usage.consume(event.event_name, event.customer, event.identifier)
        raise
    accept(account, event, problem)
    return {
        "object": "v2.billing.meter_event",
        "created": rfc3339(account.now),
        "event_name": offer.event_name,
        "identifier": offer.identifier,
        "livemode": account.switches.livemode,
        "payload": offer.payload,
        "timestamp": rfc3339(call.params.get("timestamp", account.now)),
    }


def adjust(account: Account, call: Call) -> Record:
    """Cancel an event that was received within the last 24 hours."""
    identifier, event_name = call.params.get("cancel", {}).get("identifier"), call.params["event_name"]
    if identifier is None:
        raise _not_configured("To cancel an event, cancel.identifier must say which.")
    effective_at = account.usage.cancel(event_name, identifier)
    if effective_at is None:
        raise _not_configured(not_cancelable(identifier))
    record: Record = {
        "id": account.new_id("v2.billing.meter_event_adjustment"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": rfc3339(account.now),
        "event_name": event_name,
        "livemode": account.switches.livemode,
        "status": "pending",
        "type": "cancel",
        "_effective_at": effective_at,
    }
    account.adjustments.append(record)
    return record


def open_session(account: Account, call: Call) -> Record:  # noqa: ARG001 - it has no parameters
    """Return a token for the stream, valid for 15 minutes."""
    return account.add(
        {
            "id": account.new_id(SESSION),
            "object": SESSION,
            "authentication_token": f"token_{secrets.token_hex(24)}",
            "created": rfc3339(account.now),
            "expires_at": rfc3339(account.now + SESSION_LIFETIME),
            "livemode": account.switches.livemode,
            "_expires_at": account.now + SESSION_LIFETIME,
        }
    )


def check_token(account: Account, token: str) -> bool:
    """
    Return whether a session has that token.

    Raises:
        ApiError: 401 if the session has expired.

    """
    for session in account.all(SESSION):
        if session["authentication_token"] == token:
            if account.now >= session["_expires_at"]:
                raise ApiError(
                    401,
                    "The temporary session token has expired.",
                    type="temporary_session_expired",
                    code="billing_meter_event_session_expired",
                    stored=False,
                )
            return True
    return False


def stream(account: Account, call: Call) -> Record:
    """Accept all events; invalid ones are reported by a thin event, duplicates are ignored."""
    for params in call.params["events"]:
        event, problem = examine(account, _offer(account, params))
        if account.usage.remembers(event.event_name, event.customer, event.identifier):
            continue
        if problem is None:
            accept(account, event, None)
        else:
            account.usage.drop(event)
            error_reports.collect(account, event, problem.message)
    return {}


def _offer(account: Account, params: dict[str, Any]) -> Offer:
    moment = params.get("timestamp")
    return Offer(
        params["event_name"],
        params["payload"],
        params.get("identifier") or random_identifier(),
        account.now if moment is None else int(moment.timestamp() // 1),
    )


def _refuse(problem: Problem | None) -> None:
    if problem is not None and problem.code != "meter_event_customer_not_found":
        raise ApiError(400, problem.message, code=problem.sync_code)


def _not_configured(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_cancel_configuration")


EVENTS = Route("POST", "/v2/billing/meter_events", create, EVENT)
STREAM = Route(
    "POST",
    "/v2/billing/meter_event_stream",
    stream,
    {"events": Array(Object(EVENT), 100, 1, required=True)},
)
ROUTES = [
    EVENTS,
    STREAM,
    Route("POST", "/v2/billing/meter_event_adjustments", adjust, CANCEL),
    Route("POST", "/v2/billing/meter_event_session", open_session),
]
