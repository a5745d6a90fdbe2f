"""What one process may use of one quota or wallet of one company without asking the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable

from meterkit.slices.rows import Key, Rates
from meterkit.slices.taken import Taken

AHEAD_SECONDS = 2.0
"""For how long a slice should last, at the pace at which the company uses it in this process."""

SHARE = 16
"""Part of what is left that a process draws ahead, at most: so little is stranded when it is nearly used up."""

GROWTH = 4
"""How many times as much as was used since the last time is drawn ahead, at most: a pace that was measured over a
millisecond may be wrong."""

_FIRST = 8
_PRUNED = 64


class Slice:
    """
    The slice of one company and name. The caller holds the lock of the slices around each call.

    What was drawn is free, or taken by requests in flight, or has been counted; `measure` finds out how much is free,
    and `left` is never more than that.

    Args:
        key: Company and name.
        rates: What one unit of each meter takes from it.
        counted: Function that returns what has been counted of it, whether or not it is in the ledger.

    Attributes:
        key: Company and name.
        rates: What one unit of each meter takes from it.
        is_begun: Whether the ledger has a row of it, as far as is known.
        is_written: Whether that row says what was drawn, as far as is known.
        drawn: All that was drawn since then.
        left: Units that are certainly free.
        is_scarce: Whether little is left in the ledger, too.
        low: If fewer than this are left, more are to be drawn in the background.
        spent: All that was taken so far.
        wanted: What requests wait for that found too few.
    """

    __slots__ = (
        "_before",
        "_counted",
        "_drawn_at",
        "_goal",
        "_kept_at",
        "_size",
        "_spent_at",
        "_taken",
        "_worth_pruning",
        "drawn",
        "is_begun",
        "is_scarce",
        "is_written",
        "key",
        "left",
        "low",
        "rates",
        "spent",
        "wanted",
    )

    def __init__(self, key: Key, rates: Rates, counted: Callable[[Key, Rates], int]) -> None:
        self.key = key
        self.rates = rates
        self._counted = counted
        self.is_begun, self.is_scarce, self.is_written = False, True, True
        self.drawn = self.left = self.low = self.spent = self.wanted = 0
        self._taken: list[Taken] = []
        self._worth_pruning = _PRUNED
        self._drawn_at: float | None = None
        self._size = 1  # what the latest request took
        self._spent_at = self._kept_at = self._goal = self._before = 0

    def take(self, taken: Taken, quantity: int) -> bool:
        """Take *quantity* units more for *taken*; return False, and take nothing, if too few are free."""
        if self.left < quantity:
            self.measure()
            if self.left < quantity:
                return False
        if quantity and not taken.quantity:
            if len(self._taken) >= self._worth_pruning:
                self.measure()
            self._taken.append(taken)
        taken.quantity += quantity
        self._size = max(1, quantity)
        self.left -= quantity
        self.spent += quantity
        return True

    def measure(self) -> None:
        """Find out how much is free: requests have ended, and may have counted less or more than they had taken."""
        # What is under way first: a request that ends meanwhile is then in both, and not in neither.
        in_flight = self.in_flight()
        self.left = self.drawn - in_flight - self.counted() if self.is_begun else 0

    def in_flight(self) -> int:
        """Return what is taken by requests that are not counted yet, and by holds."""
        self._taken = [each for each in self._taken if each.is_open]
        self._worth_pruning = 2 * len(self._taken) + _PRUNED
        return sum([each.quantity for each in self._taken])

    def counted(self) -> int:
        """Return what has been counted of it since it begun."""
        return self._counted(self.key, self.rates) - self._before

    def begin(self, before: int) -> None:
        """
        Begin anew, without anything drawn: the ledger has no row of it.

        Args:
            before: What was counted before, and is in the ledger.
        """
        self.is_begun, self.drawn, self.left, self._before = False, 0, 0, before

    def open_of(self, exchange: object) -> list[Taken]:
        """Return what *exchange* has taken of it."""
        return [each for each in self._taken if each.exchange is exchange and each.is_open]

    def ahead(self, room: int, *, of: int) -> int:
        """
        Return how many units to draw ahead: as many as are used in some seconds, and not more than a part of *room*.

        Args:
            room: Units that nobody has drawn.
            of: Units that the next request takes; 0 if none waits.
        """
        self._size = of or self._size
        now, spent = time.monotonic(), self.spent - self._spent_at
        if self._drawn_at is not None:
            pace = spent / max(now - self._drawn_at, 0.001)
            self._goal = min(int(pace * AHEAD_SECONDS), GROWTH * max(spent, self._goal) + _FIRST)
        self._drawn_at, self._spent_at = now, self.spent
        found = max(0, min(self._goal, room // SHARE))
        self.is_scarce = found < self._goal or room < SHARE * self._size
        found -= found % self._size  # a part of what a request takes is of no use here
        self.low = found // 2
        return found

    def unused(self) -> int:
        """Return how many free units to give back: all that are not about to be used, and all if few are left."""
        self.measure()
        recent, self._kept_at = self.spent - self._kept_at, self.spent
        return max(0, self.left - 2 * recent if not self.is_scarce else self.left)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is free or taken, so that only what was counted has to be settled."""
        return not self._taken and self.left <= 0 and not self.wanted
