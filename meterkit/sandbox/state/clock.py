"""The sandbox's time: the real one plus an offset, or one that stands still until it is advanced."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds_of(moment: datetime | float) -> int:
    """
    A moment as unix seconds.

    Raises:
        ValueError: A datetime without a time zone, which could mean any of 25 hours.

    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("A moment needs a time zone, for example datetime(2026, 1, 1, tzinfo=timezone.utc).")
        return int(moment.timestamp())
    return int(moment)


class Clock:
    """
    A source of unix seconds that can be moved forward, never back.

    Args:
        start: None: real time. A datetime or a number: time stands still there. A callable: asked each time.

    Attributes:
        runs: It is real time, which passes by itself.

    """

    def __init__(self, start: Callable[[], float] | datetime | float | None) -> None:
        self.runs = start is None
        self._source = _source(start)
        self._offset = 0
        self._pinned: int | None = None

    @property
    def now(self) -> int:
        """Unix seconds."""
        return self._pinned if self._pinned is not None else int(self._source()) + self._offset

    def pin(self, moment: int | None) -> None:
        """Hold time at a moment while what is due then runs; None lets it go."""
        self._pinned = moment

    def skip(self, seconds: int) -> None:
        """
        Go that many seconds ahead.

        Raises:
            ValueError: The number is negative.

        """
        if seconds < 0:
            raise ValueError(f"The clock stands at {self.now} and cannot go back by {-seconds} seconds.")
        self._offset += seconds


def _source(start: Callable[[], float] | datetime | float | None) -> Callable[[], float]:
    if start is None:
        return time.time
    if callable(start):
        return start
    fixed = seconds_of(start)
    return lambda: fixed
