"""Find a value in an event's data: ``$.usage.tokens``, ``$.items.0.count``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meterkit.core.validation import checked_quantity
from meterkit.errors import UsageError
from meterkit.events.errors import EventError
from meterkit.events.event import Event


def finder(path: str) -> Callable[[Event], Any]:
    """Return a function of an event: the value at *path* in its data, which `EVENT_PATH` matches."""
    keys = path.split(".")[1:]

    def find(event: Event) -> Any:
        value = event.data
        if not isinstance(value, dict | list):
            kind = "no data" if value is None else f"data of {type(value).__name__}, not of JSON"
            raise EventError("value_missing", f"it has {kind}, and the meter counts {path}")
        for key in keys:
            try:
                value = value[_index(key)] if isinstance(value, list) else value[key]
            except (LookupError, TypeError, ValueError):
                detail = f"its data have nothing at {path}; send it, or 0 if nothing was used"
                raise EventError("value_missing", detail) from None
        return value

    return find


def _index(key: str) -> int:
    if not key.isascii() or not key.isdigit():
        raise ValueError(key)
    return int(key)


def quantity(value: Any, path: str) -> int:
    """
    Return *value*, found at *path*, as a quantity.

    Raises:
        EventError: It is not a whole number from 0 to 999,999,999,999,999.
    """
    if type(value) is float and value.is_integer() and abs(value) < _EXACT:
        value = int(value)  # 5.0 is the same number as 5 in JSON, and how some languages write it
    try:
        return checked_quantity(value)
    except UsageError as error:
        if type(value) is float and abs(value) >= _EXACT:
            raise EventError("quantity_too_large", f"{path} is too large; count in a larger unit") from None
        raise EventError(error.reason, f"{path} is {_shown(value)}: {_CURES.get(error.reason, error)}") from None


_EXACT = 2**53
"""Below this, each whole number has a float of its own."""

_CURES = {
    "quantity_not_int": "send a whole number as a JSON number, in a smaller unit if there are fractions",
    "quantity_negative": "usage cannot be negative; reverse it with `meterkit correct`",
}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f"the text {value!r:.60}" if isinstance(value, str) else f"{value!r:.60}"
