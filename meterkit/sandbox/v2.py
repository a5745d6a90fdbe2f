"""The second version of the API: meter events one by one or in a stream, its sessions, and thin events. All in JSON."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from meterkit.sandbox import alerts, thin
from meterkit.sandbox.account import fresh_id
from meterkit.sandbox.errors import ApiError, no_such
from meterkit.sandbox.meter_events import CANCEL, Wrong, judge
from meterkit.sandbox.moments import Moment, rfc3339
from meterkit.sandbox.params import Array, Dictionary, Object, Text
from meterkit.sandbox.routes import Call, Route
from meterkit.sandbox.usage import MeterEvent

if TYPE_CHECKING:
    from meterkit.sandbox.account import Account, Record

SESSION_SECONDS = 15 * 60
MOST_EVENTS = 100
STREAM_PATH = "/v2/billing/meter_event_stream"
EVENT = {
    "event_name": Text(100, required=True),
    "payload": Dictionary(100, 100, 100, required=True),
    "identifier": Text(100),
    "timestamp": Moment(),
}


def create(account: Account, call: Call) -> Record:
    """Take one event, or say at once why not; whether the customer exists is found out later."""
    event, wrong = _read(account, call.params)
    if wrong is not None and wrong.code != "meter_event_customer_not_found":
        raise refused(wrong.message, wrong.at_once or wrong.code)
    if account.usage.remembers(event.event_name, event.customer, event.identifier):
        raise refused(f"An event already exists with identifier {event.identifier}.", "duplicate_meter_event")
    _keep(account, event, wrong)
    return {
        "object": "v2.billing.meter_event",
        "created": rfc3339(account.now),
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": account.switches.livemode,
        "payload": call.params["payload"],
        "timestamp": rfc3339(event.timestamp),
    }


def stream(account: Account, call: Call) -> Record:
    """Take up to 100 events, whatever they are: what is wrong with them is told later, and repetitions are dropped."""
    for params in call.params["events"]:
        event, wrong = _read(account, params)
        if not account.usage.remembers(event.event_name, event.customer, event.identifier):
            _keep(account, event, wrong)
    return {}


def open_session(account: Account, _: Call) -> Record:
    """A token for the stream."""
    token = f"token_{secrets.token_urlsafe(24)}"
    account.sessions[token] = account.now + SESSION_SECONDS
    return {
        "id": fresh_id("mtr_evt_sess_"),
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": rfc3339(account.now),
        "expires_at": rfc3339(account.now + SESSION_SECONDS),
        "livemode": account.switches.livemode,
    }


def adjust(account: Account, call: Call) -> Record:
    """Cancel an event that was received within the last 24 hours."""
    identifier = call.params["cancel"]["identifier"]
    effective_at = account.usage.cancel(call.params["event_name"], identifier)
    if effective_at is None:
        raise refused(f"No cancelable meter event has the identifier {identifier}.", "invalid_cancel_configuration")
    record: Record = {
        "id": fresh_id("mtr_event_adj_"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": rfc3339(account.now),
        "event_name": call.params["event_name"],
        "livemode": account.switches.livemode,
        "status": "pending",
        "type": "cancel",
    }
    account.adjustments.append({**record, "_effective_at": effective_at})
    return record


def event(account: Account, call: Call) -> Record:
    """One thin event, with its data."""
    record = account.find("v2.core.event", call.id)
    if record is None:
        raise no_such("event", call.id)
    return record


def events(account: Account, _: Call) -> Record:
    """All thin events, newest first."""
    data = [thin.body_of(each) for each in reversed(account.all("v2.core.event"))]
    return {"data": data, "next_page_url": None, "previous_page_url": None}


def slot(account: Account, call: Call) -> tuple[str, str]:
    """The meter and customer for which only one call may be in flight."""
    found, _ = _read(account, call.params)
    return found.event_name, found.customer


def admit(account: Account, path: str, token: str) -> None:
    """
    Let a session's token to the stream, and nothing else there; and let it nowhere else.

    Raises:
        ApiError: 401.

    """
    if path != STREAM_PATH:
        raise ApiError(401, "Invalid API Key provided: a session's token is good for the stream only.", stored=False)
    if account.sessions.get(token, 0) <= account.now:
        raise ApiError(
            401,
            "The session has expired: create another.",
            type="temporary_session_expired",
            code="billing_meter_event_session_expired",
            stored=False,
        )


def refused(message: str, code: str) -> ApiError:
    """A request of v2 that was understood and refused."""
    return ApiError(400, message, code=code, headers={"Stripe-Should-Retry": "false"})


def _read(account: Account, params: Record) -> tuple[MeterEvent, Wrong | None]:
    timestamp = int(params["timestamp"].timestamp()) if "timestamp" in params else account.now
    identifier = params.get("identifier") or secrets.token_hex(16)
    return judge(account, params["event_name"], params["payload"], identifier, timestamp)


def _keep(account: Account, found: MeterEvent, wrong: Wrong | None) -> None:
    account.usage.keep(found)
    if wrong is None:
        alerts.look(account, found)
    else:
        meter = None if wrong.code in thin.NO_METER else found.meter
        thin.note(account, meter, wrong.code, wrong.message, found.identifier)


EVENTS = Route("POST", "/v2/billing/meter_events", create, EVENT)
ROUTES = [
    EVENTS,
    Route("POST", STREAM_PATH, stream, {"events": Array(Object(EVENT), MOST_EVENTS, shortest=1, required=True)}),
    Route("POST", "/v2/billing/meter_event_session", open_session),
    Route("POST", "/v2/billing/meter_event_adjustments", adjust, CANCEL),
    Route("GET", "/v2/core/events/{id}", event),
    Route("GET", "/v2/core/events", events),
]
