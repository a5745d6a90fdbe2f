"""The key under which usage is added up: meter, event name, company, user, window."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Protocol, TypeAlias

NOBODY = ""
"""The id for no company or no user. Real ids are never empty."""

CAPPED = "capped"
"""The user, with `NOBODY` as the company, under which usage beyond the cardinality limit is counted."""

UNIQUE = "\x01"
HIGHEST = "\x02"
"""First character in place of a user: what follows is an observed value."""

KEYED = "\x03"
"""First character in place of a user: what follows are quantity, user and key of ``kit.record(key=)``, as JSON."""

EVENT = "\x04"
"""First character of the key of a usage event, which no key that is given to ``kit.record()`` contains."""

_LONG_EVENT = "\x05"
"""First character of the key of an event whose source and id are long: what follows is their hash."""

_BETWEEN = "\x1f"
"""Character between source and id of an event; neither contains it."""

_LONGEST_EVENT = 200
"""Characters of source and id that stand in a key as they are."""

SHADOWED = "\x06"
"""First character of the event name of usage that was counted in shadow mode, which another program bills."""

WALLET = "\x07"
"""First character of the name under which a wallet is drawn from, where the name of a meter may stand."""

VALUES = "\x08"
"""
Character in an event name after which the values of the meter's dimensions stand, as `encoded_values` writes them.

Only in the journal and on the way to the ledger, which stores the values in tables of their own; see `split_values`.
"""

UsageKey: TypeAlias = "tuple[str, str, str, str, int]"
"""Meter name, Stripe event name, company, user, window."""


Counted: TypeAlias = "tuple[UsageKey, int, int]"
"""Usage key, quantity, and Unix second of the last usage."""

MeterWindow: TypeAlias = "tuple[str, str, int]"
"""The part of a usage key that many companies share: meter name, Stripe event name, window."""

Subject: TypeAlias = "str | tuple[str, str]"
"""The rest of a usage key: the company, or company and user."""


def usage_key_of(place: MeterWindow, who: Subject) -> UsageKey:
    """Return the usage key made of *place* and *who*."""
    meter, event_name, window = place
    company, user = both_of(who)
    return (meter, event_name, company, user, window)


def both_of(who: Subject) -> tuple[str, str]:
    """Return company and user; the user is `NOBODY` if there is none."""
    return (who, "") if isinstance(who, str) else who


class ClosedJournalError(Exception):
    """The journal was closed before this count reached it; count in the next journal."""


class OneByOne(Protocol):
    """The part of a journal that the hot path calls directly."""

    def count_one(self, place: MeterWindow, who: Subject, now: float) -> bool:
        """Add 1 to the usage of *place* and *who* if it has a counter already; return whether it was added."""


class Sink(Protocol):
    """Destination of counts."""

    @property
    def journal(self) -> OneByOne:
        """Journal of this process."""

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """Add each quantity to its usage key, starting what is needed; *now* is the time of the usage, Unix seconds."""


def shadowed(event_name: str) -> str:
    """Return the event name under which usage of *event_name* is kept that was counted in shadow mode."""
    return SHADOWED + event_name if event_name else ""  # what is not billable stays that


def billed_as(event_name: str) -> str:
    """Return the meter's own event name, whether or not the usage was counted in shadow mode."""
    return event_name.removeprefix(SHADOWED)


def is_shadowed(event_name: str) -> bool:
    """Return whether usage of *event_name* was counted in shadow mode."""
    return event_name.startswith(SHADOWED)


def encoded_values(values: Mapping[str, str]) -> str:
    """Return *values* by the names of their dimensions as text; the same for the same values in any order."""
    return _encode(dict(sorted(values.items())))


def decoded_values(text: str) -> dict[str, str]:
    """Return the values in *text*, by the names of their dimensions; empty if *text* is."""
    found: dict[str, str] = json.loads(text) if text else {}
    return found


def split_values(event_name: str) -> tuple[str, str]:
    """
    Return the event name without values, and the values as text, empty if there are none.

    Args:
        event_name: Event name from a usage key; with the mark of shadow mode, the event name keeps it.
    """
    plain, _, values = event_name.partition(VALUES)
    return plain, values


def is_observation(user: str) -> bool:
    """Return whether *user*, from a usage key, is an observed value or a keyed record instead of a user."""
    return (user[:1] in (UNIQUE, KEYED) and len(user) > 1) or is_highest(user)


def is_highest(user: str) -> bool:
    """Return whether *user*, from a usage key, is a value that `maximum()` observed."""
    return user[:1] == HIGHEST and user[1:].isdecimal()


def keyed(quantity: int, user: str, key: str) -> str:
    """Return a keyed record, as it stands in a usage key in place of the user."""
    return KEYED + _encode([quantity, user, key])


def keyed_of(record: str) -> tuple[int, str, str]:
    """Return quantity, user and key of a keyed record."""
    quantity, user, key = json.loads(record[1:])
    return quantity, user, key


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event_key(source: str, event_id: str) -> str:
    """Return the key under which the event *event_id* of *source* counts once; both are printable."""
    both = f"{source}{_BETWEEN}{event_id}"
    if len(both) <= _LONGEST_EVENT:
        return EVENT + both
    return _LONG_EVENT + hashlib.sha256(both.encode()).hexdigest()


def is_event_key(key: str) -> bool:
    """Return whether *key* is that of an event, which counts once for all companies."""
    return key[:1] in (EVENT, _LONG_EVENT)


def event_of(key: str) -> str:
    """Return what the *key* of an event says of it, for people."""
    if key[:1] == _LONG_EVENT:
        return f"with a long id (SHA-256 {key[1:13]}...)"
    source, _, event_id = key[1:].partition(_BETWEEN)
    return f"{event_id!r:.100} of {source!r:.100}"
