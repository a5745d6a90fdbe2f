"""Calendar and billing periods as plain values: `Period`, `BillingCycle`, `month_of`, `day_of`, `parse_month`."""

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


class BillingCycle(NamedTuple):
    """
    A billing period that Stripe has described, and what the periods after it follow from.

    Attributes:
        period: Latest period that is known.
        anchor: Unix second that all periods are counted from; None if it is not known.
        interval: ``day``, ``week``, ``month`` or ``year``.
        interval_count: Number of intervals in a period.
    """

    period: Period
    anchor: int | None = None
    interval: str = "month"
    interval_count: int = 1

    def begins_at(self, moment: int) -> bool:
        """Return whether a whole period begins at the Unix second *moment*, as far as the anchor is known."""
        if self.anchor is None or self.interval not in _LONGEST:
            return True
        return _boundary(self, _steps_after(self, moment) - 1) == moment

    def at(self, now: int) -> Period:
        """
        Return the period that contains the Unix second *now*; the known one while it has not ended.

        Once it has, periods are assumed to follow each other as Stripe makes them: counted from the anchor, so that the
        31st is followed by the 28th of February and then by the 31st again.
        """
        start, end = self.period
        if now < end:
            return self.period
        if self.anchor is None or self.interval not in _LONGEST:
            length = end - start
            passed = (now - end) // length * length
            return Period(end + passed, end + passed + length)
        steps = _steps_after(self, now)
        return Period(max(end, _boundary(self, steps - 1)), _boundary(self, steps))


def month_of(moment: int) -> Period:
    """Return the calendar month in UTC that contains *moment*, Unix seconds."""
    first = datetime.fromtimestamp(moment, timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return Period(int(first.timestamp()), int(after.timestamp()))


_LONGEST = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY, "year": 366 * DAY}


def _boundary(cycle: BillingCycle, steps: int) -> int:
    """Return the Unix second *steps* periods after the anchor, at the end of a month that is too short for its day."""
    assert cycle.anchor is not None
    if cycle.interval in ("day", "week"):
        return cycle.anchor + _LONGEST[cycle.interval] * cycle.interval_count * steps
    anchor = datetime.fromtimestamp(cycle.anchor, timezone.utc)
    months = anchor.month - 1 + (12 if cycle.interval == "year" else 1) * cycle.interval_count * steps
    year, month = anchor.year + months // 12, months % 12 + 1
    first = month_of(int(anchor.replace(year=year, month=month, day=1).timestamp()))
    day = min(anchor.day, (first.end - first.start) // DAY)
    return int(anchor.replace(year=year, month=month, day=day).timestamp())


def _steps_after(cycle: BillingCycle, moment: int) -> int:
    assert cycle.anchor is not None
    steps = (moment - cycle.anchor) // (_LONGEST[cycle.interval] * cycle.interval_count)  # never too many
    while _boundary(cycle, steps) <= moment:
        steps += 1
    return steps


def day_of(moment: int) -> Period:
    """Return the UTC day that contains *moment*, Unix seconds."""
    return Period(moment - moment % DAY, moment - moment % DAY + DAY)


def instant(moment: int) -> str:
    """Return the Unix second *moment* as a person reads it: ``2026-03-31 22:10 UTC``."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


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
