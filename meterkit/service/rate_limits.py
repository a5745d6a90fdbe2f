"""Token buckets: how many requests a source may send."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from meterkit.core import threads

LONGEST_WAIT = 3600
"""Most seconds that a client is told to wait."""


class TokenBucket:
    """
    Allows *rate* requests per second, and *burst* at once after a pause. Safe for several threads.

    Args:
        rate: Requests per second.
        burst: Requests that the full bucket holds; by default twice the *rate*, at least 1.
        clock: Function that returns seconds, which never go back.
    """

    def __init__(self, rate: float, *, burst: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._full = float(max(1.0, 2 * rate) if burst is None else burst)
        self._clock = clock
        self._lock = threads.rlock()
        self._left = self._full
        self._at = clock()

    def take(self, cost: float = 1) -> int:
        """
        Take *cost* requests, and return 0; or take none, and return the whole seconds after which there are as many.

        What costs more than the bucket holds is taken out of a full one, which then refills for longer.
        """
        with self._lock:
            now = self._clock()
            self._left = min(self._full, self._left + (now - self._at) * self._rate)
            self._at = now
            missing = min(cost, self._full) - self._left
            if missing <= 0:
                self._left -= cost
                return 0
        return min(LONGEST_WAIT, max(1, math.ceil(missing / self._rate)))
