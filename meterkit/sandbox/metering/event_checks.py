"""Checks of meter events. Three endpoints accept events, and each reports errors in its own way."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from meterkit.sandbox.metering import alerts, error_reports
from meterkit.sandbox.metering.meters import active_meter, inactive_meter
from meterkit.sandbox.state.usage import MeterEvent

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

OLDEST = 35 * 24 * 3600
FUTURE = 5 * 60
MOST_DIGITS = 15
_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)


@dataclass(frozen=True)
class Offer:
    """
    A meter event as it was sent.

    Attributes:
        event_name: Event name of the meter that it is for.
        payload: Payload, with the customer and the value.
        identifier: Identifier from the sender, or a random one.
        timestamp: Unix second of the usage.

    """

    event_name: str
    payload: dict[str, str]
    identifier: str
    timestamp: int


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the endpoint decides whether it becomes an error
    """
    The reason why an event does not count.

    Attributes:
        code: Code in error reports; stripe-python lists them.
        sync_code: Code in responses of v2.
        message: Text for developers.

    """

    code: str
    sync_code: str
    message: str


def random_identifier() -> str:
    """Return a random identifier, for an event that has none."""
    return secrets.token_hex(16)


def customer_of(account: Account, event_name: str, payload: dict[str, str]) -> str:
    """Return the customer id in a payload, under the key that the meter defines; "" if there is none."""
    meter = active_meter(account, event_name)
    key = meter["customer_mapping"]["event_payload_key"] if meter is not None else "stripe_customer_id"
    return payload.get(key, "")


def examine(account: Account, offer: Offer) -> tuple[MeterEvent, Problem | None]:
    """Return the event and the first problem with it, if any; duplicates are not checked."""
    meter = active_meter(account, offer.event_name) or inactive_meter(account, offer.event_name)
    customer = customer_of(account, offer.event_name, offer.payload)
    event = MeterEvent(
        offer.event_name,
        offer.identifier,
        customer,
        Decimal(0),
        offer.timestamp,
        account.now,
        "" if meter is None else meter["id"],
    )
    try:
        return replace(event, value=_checked(account, meter, customer, offer)), None
    except Problem as problem:
        return replace(event, error_code=problem.code), problem


def accept(account: Account, event: MeterEvent, problem: Problem | None) -> None:
    """Store an event whose request succeeds; a problem with it is reported later."""
    account.usage.keep(event)
    if problem is not None:
        error_reports.collect(account, event, problem.message)
    else:
        alerts.watch(account, event)


def _checked(account: Account, meter: Record | None, customer: str, offer: Offer) -> Decimal:
    _check_time(account.now, offer.timestamp)
    if meter is None:
        raise Problem("no_meter", "no_meter", f"No meter was found matching event_name {offer.event_name}.")
    if meter["status"] != "active":
        raise Problem("archived_meter", "archived_meter", f"The meter {meter['id']} must be active to take events.")
    value = _value(account, meter, offer.payload)
    record = account.find("customer", customer)
    if record is None or record.get("deleted"):
        code = "meter_event_customer_not_found"
        raise Problem(code, code, f"No such customer: '{customer}'")
    return value


def _check_time(now: int, timestamp: int) -> None:
    if timestamp < now - OLDEST:
        raise Problem(
            "timestamp_too_far_in_past",
            "timestamp_too_far_in_past",
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {now - OLDEST}.",
        )
    if timestamp > now + FUTURE:
        raise Problem(
            "timestamp_in_future",
            "timestamp_in_future",
            "The event timestamp cannot be more than 5 minutes in the future. "
            f"Expected a timestamp less than or equal to {now + FUTURE}.",
        )


def _value(account: Account, meter: Record, payload: dict[str, str]) -> Decimal:
    key = meter["customer_mapping"]["event_payload_key"]
    if not payload.get(key):
        raise Problem(
            "meter_event_no_customer_defined",
            "payload_no_customer_defined",
            f"Customer mapping key {key} not found in payload.",
        )
    if meter["default_aggregation"]["formula"] == "count":
        return Decimal(1)
    key = meter["value_settings"]["event_payload_key"]
    text = payload.get(key)
    if text is None:  # reports have had no code for this since meter_event_value_not_found was dropped
        raise Problem("meter_event_invalid_value", "payload_no_value_defined", f"Value key {key} not found in payload.")
    return _number(text, exponents=account.switches.exponents)


def _number(text: str, *, exponents: bool) -> Decimal:
    try:
        number = Decimal(text) if exponents or _PLAIN.fullmatch(text) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Problem(
            "meter_event_invalid_value",
            "payload_invalid_value",
            f"The value in the event payload must be a number. Received {text}.",
        )
    if len(number.as_tuple().digits) > MOST_DIGITS:
        raise Problem(
            "meter_event_value_too_many_digits",
            "payload_invalid_value",
            f"The value in the event payload can have at most {MOST_DIGITS} digits. Received {text}.",
        )
    return number
