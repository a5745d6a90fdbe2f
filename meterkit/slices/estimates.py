"""What a request will probably count: the median of what the company's recent ones have counted in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

RECENT = 15
"""Requests of which the median is taken."""

MOST = 10_000
"""Companies and meters of which that is remembered; clients may invent company ids."""


_ALL = ""
"""Stands for all companies together: for one that is new here."""


class Estimates:
    """
    What requests count for meters with a ``value=``, by company. Safe for several threads.

    Attributes:
        meters: Names of the meters of which that is remembered.
    """

    def __init__(self, meters: Collection[str] = ()) -> None:
        self.meters = frozenset(meters)
        self._recent: dict[tuple[str, str], deque[int]] = {}
        self._medians: dict[tuple[str, str], int] = {}

    def note(self, company: str, meter: str, quantity: int) -> None:
        """Note that a request of *company* has counted *quantity* units of *meter*."""
        if meter in self.meters:
            self._note((company, meter), quantity)
            self._note((_ALL, meter), quantity)

    def of(self, company: str, meter: str) -> int:
        """
        Return what the next request of *company* will probably count of *meter*.

        That is what its recent ones have counted, or else those of all companies; 0 if there were none.
        """
        medians = self._medians
        found = medians.get((company, meter))
        return medians.get((_ALL, meter), 0) if found is None else found

    def _note(self, pair: tuple[str, str], quantity: int) -> None:
        recent = self._recent.get(pair)
        if recent is None:
            if len(self._recent) >= MOST:
                self._recent, self._medians = {}, {}
            recent = self._recent.setdefault(pair, deque(maxlen=RECENT))
        recent.append(quantity)
        ordered = sorted(recent)
        self._medians[pair] = max(1, ordered[(len(ordered) - 1) // 2])
