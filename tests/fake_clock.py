"""Time for tests: it stands still until it is told to pass."""

from __future__ import annotations

NOON = 1_772_366_400
"""2026-03-01 12:00:00 UTC: the first second of a window."""


class Clock:
    """Unix time that passes only when a test says so."""

    def __init__(self, now: float = NOON + 600) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass; less than nothing steps back, as a corrected clock does."""
        self.now += seconds
