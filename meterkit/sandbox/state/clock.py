"""Sandbox time: real time plus an offset, or a time that stands still until it is advanced."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds_of(moment: datetime | float) -> int:
    """
    Return a time as Unix seconds.

    Raises:
        ValueError: A datetime has no time zone, so it could mean any of 25 hours.

    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("A datetime must have a time zone, for example datetime(2026, 1, 1, tzinfo=timezone.utc).")
        return int(moment.timestamp())
    return int(moment)


class Clock:
    """
    A source of Unix seconds that can be advanced, but never set back.

    Args:
        start: None: real time. A datetime or Unix seconds: time stands still there. A callable: called each time.

    Attributes:
        runs: Whether this is real time, which passes by itself.
        pinned: The time that `pin` has set; None while nothing has.

    """

    def __init__(self, start: Callable[[], float] | datetime | float | None) -> None:
        self.runs = start is None
        self._source = _source(start)
        self._offset = 0
        self.pinned: int | None = None

    @property
    def now(self) -> int:
        """Current time in Unix seconds: what is pinned, or else `unpinned`."""
        return self.pinned if self.pinned is not None else self.unpinned

    @property
    def unpinned(self) -> int:
        """Current time in Unix seconds, whatever is pinned."""
        return int(self._source()) + self._offset

    def pin(self, moment: int | None) -> None:
        """Set the time to *moment* while whatever is due then runs; None ends that."""
        self.pinned = moment

    def skip(self, seconds: int) -> None:
        """
        Advance by that many seconds.

        Raises:
            ValueError: The number is negative.

        """
        if seconds < 0:
            raise ValueError(f"The clock is at {self.now} and cannot go back by {-seconds} seconds.")
        self._offset += seconds


def _source(start: Callable[[], float] | datetime | float | None) -> Callable[[], float]:
    if start is None:
        return time.time
    if callable(start):
        return start
    fixed = seconds_of(start)
    return lambda: fixed
