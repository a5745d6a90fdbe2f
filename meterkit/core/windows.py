"""
Hourly usage windows in UTC, split where a billing period ends.

A window is one UTC hour, named by the unix second in which it begins. An hour into which a billing period's boundary
of a company is known to fall has two for that company, so that each lands on its own invoice.
"""

from __future__ import annotations

from collections.abc import Mapping

HOUR = 3600

WINDOW_SECONDS = HOUR
"""The longest that a window may be."""


class Windows:
    """
    Tells which window a moment belongs to.

    Attributes:
        boundaries: By company, the seconds in which a billing period ends and the next begins, in ascending order;
            only those of now and the next hours. Replaced as a whole, by the thread that flushes.
        past: The same of the last 35 days, for usage of the past; looked up every hour.
    """

    __slots__ = ("boundaries", "past")

    def __init__(self) -> None:
        self.boundaries: Mapping[str, tuple[int, ...]] = {}
        self.past: Mapping[str, tuple[int, ...]] = {}

    def at(self, moment: int, company: str) -> int:
        """The begin of the window of *company* into which the second *moment* falls."""
        begin = moment - moment % HOUR
        if self.boundaries:
            for boundary in self.boundaries.get(company, ()):
                if begin < boundary <= moment:
                    begin = boundary
        return begin

    def of_the_past(self, moment: int, company: str) -> int:
        """The same, of a moment that may be long ago."""
        edges = (*self.past.get(company, ()), *self.boundaries.get(company, ()))
        return max([moment - moment % HOUR, *(edge for edge in edges if moment - moment % HOUR < edge <= moment)])


def hour_of(window: int) -> int:
    """The hour in which *window* lies: Stripe's summaries know only whole ones."""
    return window - window % HOUR
