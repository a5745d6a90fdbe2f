"""The key under which usage is added up: meter, event name, company, user, window."""

from __future__ import annotations

from typing import Protocol, TypeAlias

NOBODY = ""
"""Stands for no company, or no user. An id is never empty, so it cannot be mistaken for one."""

CAPPED = "capped"
"""The user of nobody under which a flood of unknown companies is counted: nobody has no other."""

UNIQUE = "\x01"
HIGHEST = "\x02"
"""What a cell's user begins with that is a value."""

UsageKey: TypeAlias = "tuple[str, str, str, str, int]"
"""What is counted apart: meter name, Stripe event name, company, user, window."""


Counted: TypeAlias = "tuple[UsageKey, int, int]"
"""A cell, its quantity, and the unix second of its last usage."""

MeterWindow: TypeAlias = "tuple[str, str, int]"
"""The part of a cell that many customers share: meter name, Stripe event name, window."""

Subject: TypeAlias = "str | tuple[str, str]"
"""The rest of it: the company, with the user if there is one."""


def usage_key_of(place: MeterWindow, who: Subject) -> UsageKey:
    """The cell of that place and customer."""
    meter, event_name, window = place
    company, user = both_of(who)
    return (meter, event_name, company, user, window)


def both_of(who: Subject) -> tuple[str, str]:
    """Company and user; empty without one."""
    return (who, "") if isinstance(who, str) else who


class ClosedJournalError(Exception):
    """The journal was closed before this count reached it; count in the next one."""


class OneByOne(Protocol):
    """A journal, for the shortest way to it."""

    def count_one(self, place: MeterWindow, who: Subject, now: float) -> bool:
        """Add 1 to the cell of *place* and *who*, if it is there already and open; whether that was so."""


class Sink(Protocol):
    """What keeps the counts."""

    @property
    def journal(self) -> OneByOne:
        """What counts in this process."""

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """Add each quantity to its cell, whatever has to be started for that; *now* is the unix second of the usage."""


def is_observation(user: str) -> bool:
    """The user of a cell is a value."""
    return (user[:1] == UNIQUE and len(user) > 1) or (user[:1] == HIGHEST and user[1:].isdecimal())
