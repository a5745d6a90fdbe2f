"""
Hourly usage windows in UTC, split where a billing period ends.

A window is one UTC hour, identified by the Unix second at which it begins. An hour in which a company's billing period
is known to end has two windows for that company, so that each part lands on its own invoice.
"""

from __future__ import annotations

from collections.abc import Mapping

from meterkit.core.usage_key import shadowed

HOUR = 3600

WINDOW_SECONDS = HOUR
"""Longest duration of a window, seconds."""


class Windows:
    """
    Finds the window that a moment belongs to.

    Args:
        shadow_until: Unix second, of a whole hour, until which what is used is counted in shadow mode.

    Attributes:
        shadow_until: The same.
        boundaries: By company, the Unix seconds at which a billing period ends and the next begins, in ascending order;
            only those of the current and the next hours. Replaced as a whole, by the thread that flushes.
        past: By company, the boundaries of the last 35 days, Unix seconds, for past usage; updated every hour.
    """

    __slots__ = ("boundaries", "past", "shadow_until")

    def __init__(self, shadow_until: float = 0.0) -> None:
        self.shadow_until = shadow_until
        self.boundaries: Mapping[str, tuple[int, ...]] = {}
        self.past: Mapping[str, tuple[int, ...]] = {}

    def at(self, moment: int, company: str) -> int:
        """Return the start of *company*'s window that contains the Unix second *moment*."""
        begin = moment - moment % HOUR
        if self.boundaries:
            for boundary in self.boundaries.get(company, ()):
                if begin < boundary <= moment:
                    begin = boundary
        return begin

    def event_name(self, event_name: str, window: int) -> str:
        """Return the event name under which usage of a meter's *event_name* is kept that is counted in *window*."""
        return shadowed(event_name) if window < self.shadow_until else event_name

    def of_the_past(self, moment: int, company: str) -> int:
        """Return the start of *company*'s window that contains *moment*, which may be up to 35 days ago."""
        edges = (*self.past.get(company, ()), *self.boundaries.get(company, ()))
        return max([moment - moment % HOUR, *(edge for edge in edges if moment - moment % HOUR < edge <= moment)])


def hour_of(window: int) -> int:
    """Return the start of the hour that contains *window*: Stripe's summaries are by whole hours."""
    return window - window % HOUR
