"""
In-memory index from usage key to counter slot, carried over between generations.

Who comes in one flush interval mostly comes again within the hour. So a generation goes on with the layout of the one
before it, and what a customer's first request had to write down is there for all that follow.
"""

from __future__ import annotations

import json
from typing import TypeAlias

from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import MeterWindow, Subject
from meterkit.core.windows import HOUR

Shared: TypeAlias = tuple[dict[Subject, int], list[Subject], str]
"""By customer, the word at which the cell begins; the customers, as they came; and what begins the keys of all."""

_json = json.encoder.encode_basestring_ascii  # as ``json.dumps()`` does, in a tenth of its time


class Index:
    """
    The cells of generations that follow each other. They only become more.

    Attributes:
        places: What the cells of each place share.
        tip: How many words the keys take, and how many cells there are. In one, so that both change in one step,
            whatever a signal handler raises.
        watched_at: By company and watched meter, where that is counted.
    """

    def __init__(self) -> None:
        self.places: dict[MeterWindow, Shared] = {}
        self.tip = (0, 0)
        self.watched_at: dict[tuple[str, str], list[int]] = {}

    @property
    def is_worn(self) -> bool:
        """Most of its cells are of hours before the last one: nobody will come to them any more."""
        hours: dict[int, int] = {}
        for (_, _, window), (theirs, _, _) in list(self.places.items()):
            hour = window // HOUR
            hours[hour] = hours.get(hour, 0) + len(theirs)
        return bool(hours) and 2 * hours[max(hours)] < sum(hours.values())

    def share(self, place: MeterWindow, end: int) -> Shared:
        """Begin with a place, whose key ends at the word *end* of the keys."""
        shared: Shared = ({}, [], f"[{len(self.places)},")
        self.tip = (end, self.tip[1])
        self.places[place] = shared
        return shared

    def let_go(self) -> None:
        """Nobody needs it any more: free it without keeping requests waiting."""
        for theirs, everyone, _ in self.places.values():
            free_gradually(everyone)
            for _ in yielding(range(len(theirs))):
                theirs.popitem()


def place_key(number: int, place: MeterWindow) -> bytes:
    """What stands in the file for the place of that number."""
    meter, event_name, window = place
    return f"[{number},{_json(meter)},{_json(event_name)},{window}]".encode()


def cell_key(head: str, who: Subject) -> bytes:
    """What stands in the file for a customer's cell."""
    if isinstance(who, str):
        return f"{head}{_json(who)}]".encode()
    return f"{head}{_json(who[0])},{_json(who[1])}]".encode()
