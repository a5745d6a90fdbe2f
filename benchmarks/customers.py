"""
Customers as a production has them, by hour: few use most, and they work, grow, launch, burst and leave as they like.

The skew is that of `benchmarks.scale`: the top tenth makes 90 % of the usage.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

DAYS_BEFORE = 63
"""Days before the period: three weeks more than a forecast looks back, as most customers have been there longer."""

PERIOD_START = 1_772_323_200
"""1 March 2026, a Sunday."""

PERIOD_DAYS = 31

DAYS = DAYS_BEFORE + PERIOD_DAYS

SKEW = 1.35
"""Exponent of Zipf's law by which the top tenth of the customers makes 90 % of the usage."""

BUSIEST = 200_000
"""Units a day of the customer that uses most."""

KINDS = {
    "around the clock": 24,
    "in office hours": 32,
    "on weekends": 5,
    "a weekly job": 6,
    "a monthly job": 3,
    "now and then": 8,
    "growing": 7,
    "shrinking": 4,
    "launching": 4,
    "leaving": 7,
}
"""Kinds of customers, and how many there are of each among a hundred."""

NEW = 0.12
"""Part of the customers that begin in the three weeks before the period or in its first two."""

BURSTY = 0.3
"""Part of the customers that have bursts."""

BURSTS = 0.04
"""Part of the days of such a customer on which there is one."""

WEEKLY_DRIFT = 0.1
"""Standard deviation of the logarithm of a customer's level from week to week."""

_THURSDAY = 3  # Unix time began on one; weekdays are counted from Monday here


@dataclass(frozen=True)
class Customer:
    """
    What one customer has used.

    Attributes:
        kind: One of `KINDS`.
        hours: Quantity of each hour of `DAYS` days, in UTC.
    """

    kind: str
    hours: tuple[int, ...]

    @property
    def days(self) -> list[int]:
        """Quantity of each day."""
        return [sum(self.hours[at : at + 24]) for at in range(0, len(self.hours), 24)]


def customers(number: int, *, seed: int) -> list[Customer]:
    """Return so many customers, the same for the same seed, on every machine."""
    chance = random.Random(seed)
    kinds = [kind for kind, parts in KINDS.items() for _ in range(parts)]
    return [_customer(chance, chance.choice(kinds), BUSIEST * rank**-SKEW) for rank in range(1, number + 1)]


def _customer(chance: random.Random, kind: str, average: float) -> Customer:
    noise = chance.uniform(0.1, 0.4)
    is_bursty = chance.random() < BURSTY
    begins = DAYS_BEFORE + chance.randrange(-21, 14) if chance.random() < NEW else 0
    turns = DAYS_BEFORE + chance.randrange(-14, 25)  # when one launches or leaves
    growth = chance.uniform(0.005, 0.03)
    own_day, own_hour, often = chance.randrange(7), chance.randrange(24), chance.uniform(0.05, 0.4)
    level, hours = 1.0, []
    for day in range(DAYS):
        weekday = (PERIOD_START // 86_400 - DAYS_BEFORE + day + _THURSDAY) % 7
        if weekday == 0:
            level *= math.exp(chance.gauss(0, WEEKLY_DRIFT))
        part = _part(chance, kind, weekday, day - DAYS_BEFORE, own_day=own_day, often=often)
        if kind in ("growing", "shrinking"):
            part *= math.exp((1 if kind == "growing" else -1) * growth * (day - DAYS_BEFORE))
        if kind == "launching" and day >= turns:
            part *= 8
        if day < begins or (kind == "leaving" and day >= turns):
            part = 0.0
        expected = average * level * part * math.exp(chance.gauss(-(noise**2) / 2, noise))
        if is_bursty and chance.random() < BURSTS:
            expected *= math.exp(chance.gauss(1.5, 0.7))
        hours += _hours(_count(chance, expected), kind, weekday, own_hour)
    return Customer(kind, tuple(hours))


def _part(chance: random.Random, kind: str, weekday: int, day: int, *, own_day: int, often: float) -> float:
    """What a day is of an average one."""
    if kind == "in office hours":
        return 1.35 if weekday < 5 else 0.125
    if kind == "on weekends":
        return 0.0 if weekday < 5 else 3.5
    if kind == "a weekly job":
        return 7.0 if weekday == own_day else 0.0
    if kind == "a monthly job":
        return 15.0 if day in (2, 2 - 28, 2 - 59) else 0.5
    if kind == "now and then":
        return 1 / often if chance.random() < often else 0.0
    return 1.06 if weekday < 5 else 0.85


def _hours(quantity: int, kind: str, weekday: int, own_hour: int) -> list[int]:
    """Spread a day's *quantity* over its hours."""
    if kind.endswith("job") and quantity:
        parts = [1.0 if hour == own_hour else 0.0 for hour in range(24)]
    elif kind == "in office hours" and weekday < 5:
        parts = [1.0 if 8 <= hour < 18 else 0.05 for hour in range(24)]
    else:
        parts = [1 - 0.5 * math.cos(2 * math.pi * (hour - 3) / 24) for hour in range(24)]
    whole, found, given, sum_ = sum(parts), [], 0, 0.0
    for part in parts:
        sum_ += part
        until = round(quantity * sum_ / whole)
        found.append(until - given)
        given = until
    return found


def _count(chance: random.Random, expected: float) -> int:
    """A number of events of which so many are expected: by Poisson's law, or near it if there are many."""
    if expected > 50:
        return max(0, round(chance.gauss(expected, math.sqrt(expected))))
    number, left = 0, math.exp(-expected)
    product = chance.random()
    while product > left:
        number += 1
        product *= chance.random()
    return number
