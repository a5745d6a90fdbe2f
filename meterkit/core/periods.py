"""Calendar and billing periods as plain values: `Period`, `month_of`, `day_of`, `parse_month`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from meterkit.errors import UsageError

DAY = 24 * 3600


class Period(NamedTuple):
    """
    A time for which an invoice is made.

    Attributes:
        start: The unix second in which it begins.
        end: The unix second in which the next begins.
    """

    start: int
    end: int


def month_of(moment: int) -> Period:
    """The calendar month in UTC."""
    first = datetime.fromtimestamp(moment, timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return Period(int(first.timestamp()), int(after.timestamp()))


def day_of(moment: int) -> Period:
    """The day in UTC."""
    return Period(moment - moment % DAY, moment - moment % DAY + DAY)


def parse_month(text: str | None, now: float) -> Period:
    """
    Return the calendar month in UTC that *text* names, such as ``2026-03``.

    Args:
        text: Year and month; None for the month of *now*.
        now: Current time, Unix seconds.

    Raises:
        UsageError: *text* is not a month.
    """
    if text is None:
        return month_of(int(now))
    try:
        return month_of(int(datetime.strptime(text, "%Y-%m").replace(tzinfo=timezone.utc).timestamp()))
    except (TypeError, ValueError):
        raise UsageError(f"a month is written as 2026-03, not {text!r:.50}", reason="month_wrong") from None
