"""
Usage at the end of a period, projected from whole days: by weekday, robustly, and with a range.

A *level*, the usage of an average day, is multiplied by what each day of the week is of it. Both come from whole weeks:

- The weekday's part is its median over the weeks, so that a single burst does not move it.
- The level gives more weight to later days. The highest day counts as the second highest, and where the last week is
  unlike all that came before, only that week counts. Who has used nothing for much longer than ever before has stopped.
- The range holds what is usual: days differ from their weekday by so much, and the level of a week from the one before.

Usage comes in whole days in UTC. Of today, what is left of it is assumed to be used evenly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import median

from meterkit.core.periods import DAY
from meterkit.forecast.history import History

WEEK = 7

FEWEST_DAYS = 7
"""Whole days of usage without which nothing is projected: with less than a week, weekends are not known."""

HALF_LIFE = 8.0
"""Days after which a day has half the weight in the level. Half or twice as many make forecasts hardly worse."""

UNLIKE = 3.0
"""A last week this many deviations off the weeks before begins anew."""

UNKNOWN_CHANGE = 0.3
"""What the level of a week is assumed to differ by from the next, as a part of it, if only one week is known."""

SPREAD = 2.1
"""
Deviations between the expected quantity and either end of the range.

So many that the range holds four of five of the quantities of ``benchmarks.forecasts``, which are not normally
distributed: customers leave, launch and burst.
"""


@dataclass(frozen=True, slots=True)
class Projection:
    """
    What will have been used when a period ends.

    Attributes:
        used: Quantity so far.
        expected: Quantity at the end of the period, if usage goes on like this.
        low: Lower end of the range in which the quantity is expected: in four of five cases, it is.
        high: Upper end of it.
        path: Unix seconds from now to the end of the period, each with the quantity expected by then.
    """

    used: int
    expected: int
    low: int
    high: int
    path: tuple[tuple[int, float], ...]

    @property
    def cautious(self) -> int:
        """The quantity that a warning takes: halfway between `low` and `expected`, so that half as many are in vain."""
        return (self.low + self.expected) // 2

    def at(self, moment: int) -> int:
        """Return the quantity expected by the Unix second *moment*."""
        (before, quantity), *rest = self.path
        for until, by_then in rest:
            if moment <= until:
                return round(quantity + (by_then - quantity) * max(0, moment - before) / (until - before))
            before, quantity = until, by_then
        return self.expected

    def reaches(self, limit: int) -> int | None:
        """Return the Unix second at which *limit* is expected to be used; None if it is not before the end."""
        (before, quantity), *rest = self.path
        if self.used >= limit:
            return before
        if self.expected < limit:
            return None
        for until, by_then in rest:
            if by_then >= limit:
                return before + math.ceil((until - before) * (limit - quantity) / (by_then - quantity))
            before, quantity = until, by_then
        return before  # reached by rounding


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How a company uses a meter.

    Attributes:
        level: Quantity of an average day.
        of_weekday: What each weekday is of it, from Thursday, on which Unix time begins; 1 on average.
        noise: Standard deviation of a day from what is usual on its weekday, as a quantity.
        change: Standard deviation of the level from one week to the next, as a quantity.
    """

    level: float
    of_weekday: tuple[float, ...]
    noise: float
    change: float

    def project(self, used: int, *, now: int, end: int) -> Projection:
        """
        Return what will have been used at *end*.

        Args:
            used: Quantity so far.
            now: Current time, Unix seconds.
            end: Unix second at which the period ends.
        """
        path, days, share, quantity, at = [(now, float(used))], 0.0, 0.0, float(used), now
        while at < end:
            until = min(end, at - at % DAY + DAY)
            part = (until - at) / DAY
            of_day = part * self.of_weekday[at // DAY % WEEK]
            days, share, quantity = days + part, share + of_day, quantity + self.level * of_day
            path.append((until, quantity))
            at = until
        spread = SPREAD * math.sqrt(days * self.noise**2 + (share * self.change) ** 2 * (1 + days / (2 * WEEK)))
        low, high = max(float(used), quantity - spread), quantity + spread
        return Projection(used, round(quantity), math.floor(low), math.ceil(high), tuple(path))


NOTHING = Pace(0.0, (1.0,) * WEEK, 0.0, 0.0)
"""The pace of a company that has not used the meter in all the days of a history."""


def pace_of(history: History) -> Pace | None:
    """Return the pace of a company; None if its history is shorter than `FEWEST_DAYS`."""
    days = history.days
    if len(days) < FEWEST_DAYS:
        return None
    weekdays = [(history.until // DAY - len(days) + number) % WEEK for number in range(len(days))]
    weeks = [slice(max(0, end - WEEK), end) for end in range(len(days), 0, -WEEK) if end >= WEEK]  # the latest first
    of_weekday = _of_weekday(days, weekdays, weeks)
    usual = [of_weekday[weekday] for weekday in weekdays]
    capped = _capped(days, usual)
    levels = [_level(capped[week], usual[week]) for week in weeks]
    noise = _noise(days, usual, weeks, levels)
    change = _change(levels, noise)
    level = _level(capped, usual, half_life=HALF_LIFE)
    if len(levels) > 2:
        before = _level(capped[: weeks[0].start], usual[: weeks[0].start], half_life=HALF_LIFE)
        earlier = _change(levels[1:], noise)
        if abs(levels[0] - before) > UNLIKE * math.hypot(earlier, noise / math.sqrt(WEEK)):
            level = levels[0]
    silent = _silent_days(days)
    if silent:
        until = len(days) - silent
        change = max(change, _level(capped[:until], usual[:until], half_life=HALF_LIFE))  # it may come back
        level = 0.0
    return Pace(level, of_weekday, noise, change)


def _of_weekday(days: Sequence[int], weekdays: Sequence[int], weeks: Sequence[slice]) -> tuple[float, ...]:
    parts: list[list[float]] = [[1.0] for _ in range(WEEK)]  # as if there had been a week without a rhythm
    for week in weeks:
        average = sum(days[week]) / WEEK
        if average:
            for quantity, weekday in zip(days[week], weekdays[week], strict=True):
                parts[weekday].append(quantity / average)
    found = [(each[0] + (len(each) - 1) * median(each[1:])) / len(each) if len(each) > 1 else 1.0 for each in parts]
    average = sum(found) / WEEK
    return tuple(each / average for each in found)


def _capped(days: Sequence[int], usual: Sequence[float]) -> list[float]:
    """Return *days* with the highest one, compared with what is usual, as the second highest."""
    parts = [quantity / part for quantity, part in zip(days, usual, strict=True)]
    second = sorted(parts)[-2]
    return [min(quantity, second * part) for quantity, part in zip(days, usual, strict=True)]


def _level(days: Sequence[float], usual: Sequence[float], *, half_life: float = math.inf) -> float:
    """Return the average of *days*, the latest of which count most, by what is usual on their weekdays."""
    if half_life == math.inf:
        return sum(days) / sum(usual)
    weights = _weights(len(days), half_life)
    whole = sum(weight * part for weight, part in zip(weights, usual, strict=True))
    return sum(weight * quantity for weight, quantity in zip(weights, days, strict=True)) / whole


@cache
def _weights(number: int, half_life: float) -> tuple[float, ...]:
    return tuple(float(0.5 ** (age / half_life)) for age in range(number - 1, -1, -1))


def _noise(days: Sequence[int], usual: Sequence[float], weeks: Sequence[slice], levels: Sequence[float]) -> float:
    squares = [
        (quantity - level * part) ** 2
        for week, level in zip(weeks, levels, strict=True)
        for quantity, part in zip(days[week], usual[week], strict=True)
    ]
    return math.sqrt(sum(squares) / len(squares))


def _change(levels: Sequence[float], noise: float) -> float:
    """Return by how much the level of a week differs from that of the week before, beyond the noise of its days."""
    if len(levels) < 2:
        return UNKNOWN_CHANGE * levels[0]
    changes = [(later - earlier) ** 2 for later, earlier in pairwise(levels)]
    return math.sqrt(max(0.0, sum(changes) / len(changes) - 2 * noise**2 / WEEK))


def _silent_days(days: Sequence[int]) -> int:
    """Return how many days ago a company has stopped; 0 unless that is twice as long as ever before, and four days."""
    current = 0
    gaps: list[int] = []
    for quantity in days:
        if quantity:
            gaps.append(current)
            current = 0
        else:
            current += 1
    return current if len(days) > current >= max(4, 2 * max(gaps, default=0) + 1) else 0
