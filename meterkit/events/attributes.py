"""Check the attributes of one event. Source: CloudEvents 1.0, "Context Attributes"."""

from __future__ import annotations

from typing import Any

from meterkit.core.validation import OLDEST_SECONDS, checked_id
from meterkit.errors import UsageError
from meterkit.events.errors import EventError
from meterkit.events.event import Attributes, Event
from meterkit.events.timestamps import unix_seconds

SKEW_SECONDS = 300
"""How far ahead of this clock an event's time may be, seconds. It counts as now."""

LONGEST = 16_384
"""Characters in an id, source or type, at most: CloudEvents must be carried up to 64 KiB in all."""

_OF_CLOUDEVENTS = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "user", "datacontenttype", "dataschema"}
)


def checked(attributes: Attributes, *, now: float, default_source: str, strict: bool) -> Event:
    """
    Return the event of *attributes*.

    Args:
        attributes: What was sent.
        now: Current time, Unix seconds.
        default_source: Source of an event that names none; empty if it has to.
        strict: Whether ``specversion`` must be there.

    Raises:
        EventError: An attribute is missing or wrong.
    """
    given: Any = attributes.given
    if type(given) is not dict:
        raise EventError("event_not_object", "it is not a JSON object; send a CloudEvent, or a list of them")
    version = given.get("specversion")
    if version != "1.0" and (strict or version is not None):
        raise EventError("specversion_wrong", f'specversion must be "1.0", not {_shown(version)}')
    event_id = _text(given, "id", "a text that is unique in its source, and the same when the event is sent again")
    source = given.get("source")
    source = default_source if source is None and default_source else _text(given, "source", "the name of the sender")
    event_type = _text(given, "type", 'what happened, such as "prompt"')
    company = _id(given, "subject", "company", "the id of the company that pays")
    user = "" if given.get("user") is None else _id(given, "user", "user", "the id of the user within the company")
    if attributes.error:
        raise EventError("data_wrong", attributes.error)
    moment = _moment(given.get("time"), now)
    extensions = {} if given.keys() <= _OF_CLOUDEVENTS else {k: v for k, v in given.items() if k not in _OF_CLOUDEVENTS}
    return Event(event_id, source, event_type, company, user, moment, attributes.data, extensions)


def _text(given: dict[str, Any], name: str, what: str) -> str:
    value = given.get(name)
    if type(value) is str and value and value.isprintable() and len(value) <= LONGEST and not value.isspace():
        return value
    if value is None or value == "":
        raise EventError(f"{name}_missing", f"{name} is missing: {what}")
    if type(value) is not str:
        raise EventError(f"{name}_not_str", f"{name} must be a text, not {_shown(value)}")
    if len(value) > LONGEST:
        raise EventError(f"{name}_too_long", f"{name} has {len(value):,} characters, and may have {LONGEST:,}")
    raise EventError(f"{name}_unprintable", f"{name} must be of printable characters, not {value[:100]!a}")


def _id(given: dict[str, Any], name: str, kind: str, what: str) -> str:
    value = given.get(name)
    if value is None or value == "":
        raise EventError(f"{name}_missing", f"{name} is missing: {what}")
    try:
        return checked_id(value, kind)
    except UsageError as error:
        raise EventError(error.reason, f"{name} is {what}: {error}") from None


def _moment(value: Any, now: float) -> int:
    if value is None:
        return int(now)
    moment = unix_seconds(value) if type(value) is str else None
    if moment is None:
        raise EventError(
            "time_wrong", f'time must be an RFC 3339 timestamp such as "2026-03-01T12:00:00Z", not {_shown(value)}'
        )
    if moment < now - OLDEST_SECONDS:
        raise EventError(
            "time_too_old",
            f"{value} is more than 35 days ago, and Stripe accepts no usage that old; bill it with an invoice item",
        )
    if moment > now + SKEW_SECONDS:
        raise EventError("time_in_future", f"{value} is in the future; compare the clocks of sender and service")
    return min(moment, int(now))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f"{value!a:.100}"
