"""What is expected follows the weekday, and no single day moves it much; with less than a week, nothing is expected."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterkit.forecast.history import DAYS, history_of
from meterkit.forecast.projection import pace_of

DAY = 86_400
MONDAY = 20_513 * DAY
"""Monday, 2 March 2026."""

WEEK = [100] * 5 + [10] * 2
"""Monday to Sunday."""


def expected(days, *, used=0, now=MONDAY, period=7):
    """What is expected of a period that ends so many days later."""
    pace = pace_of(history_of(days, until=now - now % DAY))
    return None if pace is None else pace.project(used, now=now, end=MONDAY + period * DAY)


@pytest.mark.parametrize("weeks", [2, 3, 4, 6])
def test_steady_usage_goes_on(weeks):
    """And what is used already counts as well."""
    found = expected([100] * 7 * weeks, used=1000, period=10)

    assert (1000, 2000) == (found.used, found.expected)
    assert found.low <= found.expected <= found.high


def test_weekends_are_expected_as_they_are():
    """A week of an office; and of somebody who works on weekends alone."""
    office = expected(WEEK * 6, period=5)
    weekend = expected([0] * 5 + [500] * 2, period=5) or expected(([0] * 5 + [500] * 2) * 6, period=5)

    assert office.expected == pytest.approx(500, rel=0.1)
    assert weekend.expected == pytest.approx(0, abs=0.2 * 1000)
    assert expected(([0] * 5 + [500] * 2) * 6, period=7).expected == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("day", [-1, -3, -10, -30])
def test_a_single_burst_is_not_expected_again(day):
    """A hundred times the usual, whenever it was."""
    days = [100] * 42
    days[day] = 10_000

    assert expected(days).expected == pytest.approx(700, rel=0.15)


def test_bursts_that_come_again_are_expected():
    """A job that runs every Wednesday."""
    found = expected([0, 0, 900, 0, 0, 0, 0] * 6, period=14)

    assert found.expected == pytest.approx(1800, rel=0.05)
    assert found.reaches(1000) // DAY * DAY == MONDAY + 9 * DAY


def test_who_has_stopped_is_not_expected_to_use_more():
    """Though it may come back, which the range says."""
    found = expected([100] * 36 + [0] * 6, used=300)

    assert (300, 300) == (found.expected, found.low)
    assert found.high > 900


def test_a_weekend_is_no_end():
    """Nor is a long one, for who works five days a week."""
    days = [*WEEK[:5], 0, 0] * 6

    assert expected(days).expected == pytest.approx(500, rel=0.1)
    assert expected([*days[:-3], 0, 0, 0]).expected > 350


def test_a_launch_counts_from_its_first_week():
    """Ten times the usual for a week."""
    assert expected([100] * 35 + [1000] * 7).expected == pytest.approx(7000, rel=0.05)


@pytest.mark.parametrize("days", [0, 1, 6])
def test_less_than_a_week_says_nothing(days):
    """The day on which it began is not a whole one."""
    assert expected([0] * (DAYS - days) + [100] * days) is None


def test_a_week_is_enough():
    """Beside the day on which it began; with a wide range."""
    found = expected([0] * (DAYS - 8) + [40] + [100] * 7)

    assert 700 == found.expected
    assert found.low < 600
    assert found.high > 800


def test_the_first_day_of_all_that_is_known_is_a_whole_one():
    """Who has been there for longer has used it from its beginning."""
    assert DAYS == len(history_of([5] * (DAYS + 9), until=MONDAY).days)
    assert DAYS - 1 == len(history_of([0] + [5] * (DAYS - 1), until=MONDAY).days) + 1


def test_what_is_left_of_today_is_used_evenly():
    """At six in the evening, a quarter of the day is left."""
    found = expected([100] * 42, used=70, now=MONDAY + 18 * 3600, period=2)

    assert 70 + 25 + 100 == found.expected


def test_a_period_that_ends_within_the_day():
    """Only the hours until then count."""
    found = expected([2400] * 42, now=MONDAY + 3600, period=0.25)

    assert 500 == found.expected


def test_when_a_limit_is_reached():
    """To the hour; at once if it is used up, and never if the period ends before."""
    found = expected([240] * 42, used=100)

    assert MONDAY == found.reaches(100) == found.reaches(7)
    assert MONDAY + DAY + 3600 == found.reaches(100 + 240 + 10)
    assert MONDAY + 7 * DAY == found.reaches(100 + 7 * 240)
    assert found.reaches(100 + 7 * 240 + 1) is None
    assert 100 + 120 == found.at(MONDAY + DAY // 2)
    assert found.expected == found.at(MONDAY + 99 * DAY)


@given(
    days=st.lists(st.integers(0, 10**12), max_size=60),
    used=st.integers(0, 10**12),
    at=st.integers(0, 6 * DAY),
    limit=st.integers(1, 10**13),
)
def test_whatever_was_used(days, used, at, limit):
    """Nothing is below what is used, the range holds what is expected, and a limit up to that is reached."""
    found = expected(days, used=used, now=MONDAY + at)
    if found is None:
        return

    assert used <= found.low <= found.expected <= found.high
    assert math.isfinite(found.high)
    reached = found.reaches(limit)
    assert (reached is not None) == (max(used, found.expected) >= limit)
    if reached is not None:
        assert MONDAY + at <= reached <= MONDAY + 7 * DAY
        assert abs(found.at(reached) - max(limit, used)) <= 1 + (found.expected - used) / 1000


def test_the_range_is_wider_for_who_is_less_steady():
    """At the same average."""
    chance = random.Random(1)
    steady = expected([chance.randint(90, 110) for _ in range(42)])
    unsteady = expected([chance.randint(0, 200) for _ in range(42)])

    assert unsteady.high - unsteady.low > 3 * (steady.high - steady.low)
