"""Calendar and billing periods as plain values: `Period`, `month_of`, `day_of`, `parse_month`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

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
