"""Which texts are values of dimensions, and what stands for those that are not."""

from __future__ import annotations

from typing import Any

UNKNOWN = ""
"""Value of what nobody has told; shown as *unknown*."""

OTHER = "other"
"""Value in place of one that cannot be kept, or that is beyond the limit."""

LONGEST_VALUE = 100
"""Bytes of a value in UTF-8."""

LONGEST_ENCODED = 500
"""Bytes of all values of a combination with their names. PostgreSQL: an index row has 2,704, for names and ids, too."""


def value_of(told: Any) -> str | None:
    """Return what was told of a dimension as a value; `UNKNOWN` for None; None if it cannot be one."""
    if told is None:
        return UNKNOWN
    if isinstance(told, str):
        text = str.__str__(told)  # a plain str, even if it is of a subclass such as an enum's
    elif isinstance(told, bool):
        text = "true" if told else "false"
    elif isinstance(told, int):
        if abs(told) >= 10**LONGEST_VALUE:
            return None
        text = format(told, "d")  # not str(): an enum has a name
    else:
        return None
    text = text.strip()
    if not text.isprintable() or len(text) > LONGEST_VALUE or len(text.encode()) > LONGEST_VALUE:
        return None
    return text


def shown(value: str) -> str:
    """Return *value* as people see it."""
    return value or "unknown"
