"""Meter events and their cancellation: where usage comes in."""

from __future__ import annotations

import re
import secrets
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

from meterkit.sandbox import alerts, thin
from meterkit.sandbox.errors import ApiError, invalid, no_such
from meterkit.sandbox.meters import listening
from meterkit.sandbox.params import Choice, Dictionary, Integer, Object, Text
from meterkit.sandbox.routes import Call, Route
from meterkit.sandbox.usage import MeterEvent

if TYPE_CHECKING:
    from meterkit.sandbox.account import Account, Record

OLDEST = 35 * 24 * 3600
FUTURE = 5 * 60
MOST_DIGITS = 15
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
_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)


class Wrong(NamedTuple):
    """
    What is wrong with a meter event.

    Attributes:
        code: Of Stripe's asynchronous errors.
        message: As the first version says it at once.
        at_once: The code with which the second version says it at once, where that is another.

    """

    code: str
    message: str
    at_once: str = ""


class _Bad(Exception):  # noqa: N818 - a verdict on a payload; whether it becomes an error is the switch's business
    def __init__(self, code: str, message: str, at_once: str) -> None:
        super().__init__(code, message)
        self.wrong = Wrong(code, message, at_once)


def create(account: Account, call: Call) -> Record:
    """Take one event, or say at once why not."""
    params = call.params
    identifier = params.get("identifier") or secrets.token_hex(16)
    timestamp = params.get("timestamp", account.now)
    event_name, payload = params["event_name"], params["payload"]
    try:
        event = _check(account, event_name, payload, identifier, timestamp)
    except ApiError:
        if account.switches.rejected_consumes_identifier:
            account.usage.consume(event_name, _customer(account, event_name, payload), identifier)
        raise
    account.usage.keep(event)
    if event.error_code is None:
        alerts.look(account, event)
    return {
        "object": "billing.meter_event",
        "created": account.now,
        "event_name": event_name,
        "identifier": identifier,
        "livemode": account.switches.livemode,
        "payload": payload,
        "timestamp": timestamp,
    }


def slot(account: Account, call: Call) -> tuple[str, str]:
    """The meter and customer for which only one call may be in flight."""
    name = call.params["event_name"]
    return name, _customer(account, name, call.params["payload"])


def adjust(account: Account, call: Call) -> Record:
    """Cancel an event that was received within the last 24 hours."""
    identifier = call.params["cancel"]["identifier"]
    effective_at = account.usage.cancel(call.params["event_name"], identifier)
    if effective_at is None:
        raise invalid(
            f"No cancelable meter event found with identifier {identifier}. Only events received within the past "
            "24 hours can be canceled.",
            param="cancel[identifier]",
        )
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


def _customer(account: Account, event_name: str, payload: dict[str, str]) -> str:
    meter = listening(account, event_name)
    key = meter["customer_mapping"]["event_payload_key"] if meter is not None else "stripe_customer_id"
    return payload.get(key, "")


def judge(
    account: Account, event_name: str, payload: dict[str, str], identifier: str, timestamp: int
) -> tuple[MeterEvent, Wrong | None]:
    """A meter event as it would be kept, and what is wrong with it. Whether it is a repetition is not looked at."""
    meter = listening(account, event_name)
    customer = _customer(account, event_name, payload)
    value, wrong = Decimal(0), _wrong_time(account.now, timestamp)
    if meter is None:
        known = [each for each in account.all("billing.meter") if each["event_name"] == event_name]
        meter_id = known[-1]["id"] if known else ""
        message = f'No active meter found for event name "{event_name}".'
        wrong = Wrong("archived_meter" if known else "no_meter", message)
        return MeterEvent(event_name, identifier, customer, value, timestamp, account.now, meter_id, wrong.code), wrong
    try:
        value = _payload(account, meter, payload)
    except _Bad as bad:
        wrong = wrong or bad.wrong
    record = account.find("customer", customer)
    if wrong is None and (record is None or record.get("deleted")):
        wrong = Wrong("meter_event_customer_not_found", f"No such customer: '{customer}'")
    code = None if wrong is None else wrong.code
    return MeterEvent(event_name, identifier, customer, value, timestamp, account.now, meter["id"], code), wrong


def _check(account: Account, event_name: str, payload: dict[str, str], identifier: str, timestamp: int) -> MeterEvent:
    """The first version's answer: what is wrong is told at once, unless a switch says otherwise."""
    event, wrong = judge(account, event_name, payload, identifier, timestamp)
    if wrong is not None:
        switches = account.switches
        if wrong.code.startswith("timestamp"):
            raise invalid(wrong.message, param="timestamp")
        if wrong.code in ("no_meter", "archived_meter"):
            raise invalid(wrong.message)
        if wrong.code == "meter_event_customer_not_found":
            if switches.unknown_customer == "sync":
                raise no_such("customer", event.customer, param="payload[stripe_customer_id]")
        elif switches.bad_payload == "sync":
            raise invalid(wrong.message, param="payload")
    if account.usage.remembers(event_name, event.customer, identifier):
        raise ApiError(
            400,
            f"An event already exists with identifier {identifier}.",
            headers={"Stripe-Should-Retry": "false"},
        )
    if wrong is not None:
        thin.note(account, event.meter, wrong.code, wrong.message, identifier)
    return event


def _wrong_time(now: int, timestamp: int) -> Wrong | None:
    if timestamp < now - OLDEST:
        return Wrong(
            "timestamp_too_far_in_past",
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {now - OLDEST}.",
        )
    if timestamp > now + FUTURE:
        return Wrong(
            "timestamp_in_future",
            "The event timestamp cannot be more than 5 minutes in the future. "
            f"Expected a timestamp less than or equal to {now + FUTURE}.",
        )
    return None


def _payload(account: Account, meter: Record, payload: dict[str, str]) -> Decimal:
    key = meter["customer_mapping"]["event_payload_key"]
    if not payload.get(key):
        raise _Bad(
            "meter_event_no_customer_defined",
            f"Customer mapping key {key} not found in payload.",
            "payload_no_customer_defined",
        )
    key = meter["value_settings"]["event_payload_key"]
    text = payload.get(key)
    if meter["default_aggregation"]["formula"] == "count":
        return Decimal(1)
    if text is None:
        raise _Bad("meter_event_invalid_value", f"Value key {key} not found in payload.", "payload_no_value_defined")
    return _number(text, exponents=account.switches.exponents)


def _number(text: str, *, exponents: bool) -> Decimal:
    try:
        number = Decimal(text) if exponents or _PLAIN.fullmatch(text) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise _Bad(
            "meter_event_invalid_value",
            f"The value in the event payload must be a number. Received {text}.",
            "payload_invalid_value",
        )
    if len(number.as_tuple().digits) > MOST_DIGITS:
        raise _Bad(
            "meter_event_value_too_many_digits",
            f"The value in the event payload can have at most {MOST_DIGITS} digits. Received {text}.",
            "payload_invalid_value",
        )
    return number


EVENTS = Route("POST", "/v1/billing/meter_events", create, CREATE)
ROUTES = [EVENTS, Route("POST", "/v1/billing/meter_event_adjustments", adjust, CANCEL)]
