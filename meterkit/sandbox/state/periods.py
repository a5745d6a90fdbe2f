"""Billing periods: calendar months counted from an anchor, clamped to the end of shorter months."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def boundary(anchor: int, interval: str, count: int, steps: int) -> int:
    """
    Return the Unix second *steps* periods after the anchor.

    Months are counted from the anchor itself, not from the last boundary: 31 January is followed by 28 February
    and then by 31 March.
    """
    moment = datetime.fromtimestamp(anchor, timezone.utc)
    if interval in _DAYS:
        return int((moment + timedelta(days=_DAYS[interval] * count * steps)).timestamp())
    years, month = divmod(moment.month - 1 + _MONTHS[interval] * count * steps, 12)
    year = moment.year + years
    last = calendar.monthrange(year, month + 1)[1]
    return int(moment.replace(year=year, month=month + 1, day=min(moment.day, last)).timestamp())


def following(anchor: int, interval: str, count: int, moment: int) -> int:
    """Return the first boundary after *moment*, in Unix seconds."""
    longest = 86400 * (_DAYS[interval] if interval in _DAYS else 31 * _MONTHS[interval]) * count
    steps = (moment - anchor) // longest  # never too many, because no period is longer
    while boundary(anchor, interval, count, steps) <= moment:
        steps += 1
    return boundary(anchor, interval, count, steps)


def before(anchor: int, interval: str, count: int, end: int) -> int:
    """Return the last boundary before *end*, in Unix seconds: where the period that ends there begins."""
    longest = 86400 * (_DAYS[interval] if interval in _DAYS else 31 * _MONTHS[interval]) * count
    steps = (end - anchor) // longest - 1
    while boundary(anchor, interval, count, steps + 1) < end:
        steps += 1
    return boundary(anchor, interval, count, steps)
