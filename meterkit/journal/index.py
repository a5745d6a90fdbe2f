"""
In-memory index from usage key to counter slot, carried over between generations.

The companies of one flush interval are mostly those of the next. So a generation takes over the index of the one before
it, and only a company's first request in an hour has to write a key.
"""

from __future__ import annotations

import json
from typing import TypeAlias

from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import MeterWindow, Subject
from meterkit.core.windows import HOUR

Shared: TypeAlias = tuple[dict[Subject, int], list[Subject], str]
"""Position of the cell, in words, by subject; the subjects in order of arrival; and the common start of their keys."""

_json = json.encoder.encode_basestring_ascii  # same result as ``json.dumps()``, ten times as fast


class Index:
    """
    The cells of successive generations. Cells are added, never removed.

    Attributes:
        places: Subjects and their cells, by place.
        tip: Size of the keys in words, and number of cells. A tuple, so that both change in one step, whatever a signal
            handler raises.
        keyed: Number of cells of keyed records, each of which is used once.
        watched_at: Positions of the cells, in words, by company and watched meter.
    """

    def __init__(self) -> None:
        self.places: dict[MeterWindow, Shared] = {}
        self.tip = (0, 0)
        self.keyed = 0
        self.watched_at: dict[tuple[str, str], list[int]] = {}

    @property
    def is_stale(self) -> bool:
        """Whether most of the cells will not be used again: of hours before the latest one, or of keyed records."""
        if 2 * self.keyed > self.tip[1]:
            return True
        hours: dict[int, int] = {}
        for (_, _, window), (slots, _, _) in list(self.places.items()):
            hour = window // HOUR
            hours[hour] = hours.get(hour, 0) + len(slots)
        return bool(hours) and 2 * hours[max(hours)] < sum(hours.values())

    def share(self, place: MeterWindow, end: int) -> Shared:
        """Add *place*, whose key ends at the word *end* of the keys, and return its entry."""
        shared: Shared = ({}, [], f"[{len(self.places)},")
        self.tip = (end, self.tip[1])
        self.places[place] = shared
        return shared

    def free(self) -> None:
        """Free the index, which is no longer used, without making requests wait."""
        for slots, subjects, _ in self.places.values():
            free_gradually(subjects)
            for _ in yielding(range(len(slots))):
                slots.popitem()


def place_key(number: int, place: MeterWindow) -> bytes:
    """Return the key of *place*, numbered *number*, as it is stored in the file."""
    meter, event_name, window = place
    return f"[{number},{_json(meter)},{_json(event_name)},{window}]".encode()


def cell_key(head: str, who: Subject) -> bytes:
    """Return the key of the cell of *who*, as it is stored in the file; *head* is the common start for its place."""
    if isinstance(who, str):
        return f"{head}{_json(who)}]".encode()
    return f"{head}{_json(who[0])},{_json(who[1])}]".encode()
