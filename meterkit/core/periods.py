"""Calendar and billing periods as plain values: `Period`, `month_of`, `day_of`, `parse_month`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from meterkit.errors import UsageError

DAY = 24 * 3600


class Period(NamedTuple):
    """
    A period that one invoice covers.

    Attributes:
        start: Unix second at which the period begins.
        end: Unix second at which the next period begins.
    """

    start: int
    end: int


def month_of(moment: int) -> Period:
    """Return the calendar month in UTC that contains *moment*, Unix seconds."""
    first = datetime.fromtimestamp(moment, timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return Period(int(first.timestamp()), int(after.timestamp()))


def day_of(moment: int) -> Period:
    """Return the UTC day that contains *moment*, Unix seconds."""
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
        raise UsageError(f"{text!r:.50} is not a month; write it as 2026-03", reason="month_wrong") from None
