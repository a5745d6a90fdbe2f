"""The key under which usage is added up: meter, event name, company, user, window."""

from __future__ import annotations

import json
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


def is_observation(user: str) -> bool:
    """Return whether *user*, from a usage key, is an observed value or a keyed record instead of a user."""
    return (user[:1] in (UNIQUE, KEYED) and len(user) > 1) or is_highest(user)


def is_highest(user: str) -> bool:
    """Return whether *user*, from a usage key, is a value that `maximum()` observed."""
    return user[:1] == HIGHEST and user[1:].isdecimal()


def keyed(quantity: int, user: str, key: str) -> str:
    """Return a keyed record, as it stands in a usage key in place of the user."""
    return KEYED + json.dumps([quantity, user, key], ensure_ascii=False, separators=(",", ":"))


def keyed_of(record: str) -> tuple[int, str, str]:
    """Return quantity, user and key of a keyed record."""
    quantity, user, key = json.loads(record[1:])
    return quantity, user, key
