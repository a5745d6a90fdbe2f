"""
Cardinality limit: bound memory when clients invent company ids.

If clients can choose the id that ``identify=`` returns, they can fill the memory with ids. So when too much waits to be
flushed, unknown companies are counted together, under no company. Known companies are still counted one by one, each
with its users together; and keyed records as they are, because only the application's own code makes them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from meterkit.core.problems import Problems
from meterkit.core.usage_key import CAPPED, KEYED, NOBODY, UsageKey
from meterkit.journal.generation import Generation

MOST_IN_MEMORY = 16 << 20
"""Bytes of generations without a file. With their indexes, they take four times as much memory."""

MOST_WAITING = 256 << 20
"""Bytes of all generations: over four million combinations of company, user and meter."""

MOST_KNOWN = 200_000
"""Companies that are known to this process, some 25 MB. Further ones count as unknown while the limit applies."""


class CardinalityLimit:
    """
    Decides whether the limit applies, and which companies are still counted separately.

    The journal holds its lock around every call except `know` and `report`.

    Attributes:
        is_active: Whether the limit applies now.
        knows: Function that returns whether a company is known elsewhere.
    """

    def __init__(self) -> None:
        self.is_active = False
        self.knows: Callable[[str], bool] = _nobody
        self._known: dict[str, None] = {}  # for 10,000 companies, a set would take 512 KiB, and this takes 200
        self._capped = 0

    def remember(self, companies: Iterable[str]) -> None:
        """Remember *companies* as known. To be called from one thread; others may read at the same time."""
        if not self.is_active:
            for company in companies:
                if len(self._known) >= MOST_KNOWN:
                    return
                self._known[company] = None

    def engage(self, waiting: list[Generation]) -> None:
        """Apply the limit if *waiting*, the generations to be flushed, have become too large."""
        in_memory = sum(each.size for each in waiting if each.path is None)
        total = sum(each.size for each in waiting)
        self.is_active = self.is_active or in_memory >= MOST_IN_MEMORY or total >= MOST_WAITING

    def release(self, waiting: list[Generation]) -> None:
        """Lift the limit if *waiting*, the generations to be flushed, have become small enough."""
        self.is_active = self.is_active and 2 * sum(each.size for each in waiting) >= MOST_IN_MEMORY

    def admit(self, cell: UsageKey, quantity: int, current: Generation) -> UsageKey:
        """Return the usage key under which to count usage of *cell*, which may be new."""
        meter, event_name, company, user, window = cell
        if current.has(cell) or company == NOBODY or user[:1] == KEYED:  # a keyed record has its quantity in the key
            return cell
        if company in self._known or self.knows(company):
            return (meter, event_name, company, NOBODY, window)
        self._capped += quantity
        return (meter, event_name, NOBODY, CAPPED, window)

    def report(self, problems: Problems) -> None:
        """Report how much has been capped so far, and the cure."""
        message = (
            f"new companies appear faster than they can be flushed: the usage of unknown ones is counted together, "
            f"under no company, {self._capped} so far; known ones are counted exactly. Return only authenticated "
            "companies from identify=, and check that the ledger works"
        )
        problems.note("journal_capped", message, level=logging.ERROR)


def _nobody(_company: str) -> bool:
    return False
