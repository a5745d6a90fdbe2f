"""
Cardinality limit: bound memory when clients invent company ids.

Whoever lets clients choose the id that ``identify=`` answers lets them fill the memory with it. So when too much waits
to be flushed, companies that are not known yet are counted together, under nobody; known ones are counted one by one
all the while, their users together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from meterkit.core.problems import Problems
from meterkit.core.usage_key import CAPPED, NOBODY, UsageKey
from meterkit.journal.generation import Generation

MOST_IN_MEMORY = 16 << 20
"""Bytes of generations without a file; four times as many with the look-up tables of their cells."""

MOST_WAITING = 256 << 20
"""Bytes of generations, for over four million different companies, users and meters."""

MOST_KNOWN = 200_000
"""Companies: some 25 MB. Further ones are unknown to this process when a flood comes."""


class CardinalityLimit:
    """
    Whether there is one, and who is let through.

    The journal holds its lock around every call but `know` and `report`.

    Attributes:
        is_high: There is one.
    """

    def __init__(self) -> None:
        self.is_high = False
        self._known: set[str] = set()
        self._capped = 0

    def know(self, companies: Iterable[str]) -> None:
        """These exist. From one thread; others look at the set meanwhile, which sees one or does not yet."""
        if not self.is_high:
            for company in companies:
                if len(self._known) >= MOST_KNOWN:
                    return
                self._known.add(company)

    def rise(self, waiting: list[Generation]) -> None:
        """A generation more waits to be flushed."""
        in_memory = sum(each.size for each in waiting if each.path is None)
        waits = sum(each.size for each in waiting)
        self.is_high = self.is_high or in_memory >= MOST_IN_MEMORY or waits >= MOST_WAITING

    def recede(self, waiting: list[Generation]) -> None:
        """A generation less does."""
        self.is_high = self.is_high and 2 * sum(each.size for each in waiting) >= MOST_IN_MEMORY

    def admit(self, cell: UsageKey, quantity: int, current: Generation) -> UsageKey:
        """Where to count what is asked for *cell*, which may be new."""
        meter, event_name, company, _, window = cell
        if current.has(cell) or company == NOBODY:
            return cell
        if company in self._known:
            return (meter, event_name, company, NOBODY, window)
        self._capped += quantity
        return (meter, event_name, NOBODY, CAPPED, window)

    def report(self, problems: Problems) -> None:
        """Tell what has been capped so far, and the cure."""
        message = (
            f"companies are invented faster than they can be flushed: the usage of unknown ones is counted together, "
            f"under no company, {self._capped} so far; that of known ones exactly. Answer from identify= only what you "
            "have authenticated, and see that the ledger works"
        )
        problems.note("journal_capped", message, level=logging.ERROR)
