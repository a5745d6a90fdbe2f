"""
How far off forecasts are, and how often a warning of the pace is wrong or missing.

    python -m benchmarks.forecasts [--customers 1000] [--seed 101]

Each of `benchmarks.customers` is looked at once a day, at another hour each day, as it was then; what it has used in
the end is known. The constants of `meterkit.forecast` and of the notices were chosen with the customers of the seed
`TUNED_ON`; how good they are is told by others, which they have never seen.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median

from benchmarks.customers import DAYS_BEFORE, PERIOD_DAYS, PERIOD_START, Customer, customers
from meterkit.core.periods import DAY
from meterkit.forecast.history import DAYS, history_of
from meterkit.forecast.projection import Projection, pace_of
from meterkit.notices.pace_notices import warned_at

HOUR = 3600
END = PERIOD_START + PERIOD_DAYS * DAY

TUNED_ON, HELD_OUT = 1, 101
"""Seed of the customers that the method was tuned on, and of those of docs/forecast.md. Never tune on the latter."""

LIMITS = (0.5, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)
"""Limits that are tried, as a part of what the customer has used in the end."""

SHOWN_DAYS = (1, 3, 5, 8, 12, 16, 20, 24, 28, 31)
"""Days of the period of which the table has a row."""

SMALL = 100
"""Customers that have used less in the period are left out: a few units more or less are nobody's concern."""


@dataclass
class Errors:
    """
    The forecasts that were made on one day of the period.

    Attributes:
        ours: Error of each, as a part of what was used in the end.
        straight: The same of a straight line, by the time that has passed, which is at least a day.
        held: How many ranges have held what was used.
        unknown: How many customers there was no forecast for.
        sums: What all customers with a forecast were expected to use, and did use.
    """

    ours: list[float] = field(default_factory=list)
    straight: list[float] = field(default_factory=list)
    held: int = 0
    unknown: int = 0
    sums: tuple[int, int] = (0, 0)


@dataclass
class Warnings:
    """
    What came of one limit.

    Attributes:
        ahead: Days from each warning to the limit.
        off: Days by which each of these was off in the day that it named.
        missed: How many customers have reached the limit without a warning.
        unknown: How many of these there was no forecast for until then.
        wrong: How many were warned, and have not reached it.
        quiet: How many were not warned, and have not reached it.
    """

    ahead: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    missed: int = 0
    unknown: int = 0
    wrong: int = 0
    quiet: int = 0

    @property
    def reached(self) -> int:
        """How many have reached it."""
        return len(self.ahead) + self.missed


@dataclass
class Backtest:
    """
    What was found.

    Attributes:
        by_day: Errors by the day of the period, from 1.
        by_limit: Warnings by the limit, as a part of what was used in the end.
        natural: Warnings of limits that have nothing to do with what was used in the end, of the same order.
    """

    by_day: dict[int, Errors]
    by_limit: dict[float, Warnings]
    natural: Warnings


def backtest(number: int, *, seed: int) -> Backtest:
    """Look at so many customers on each day of the period."""
    found = Backtest(
        {day: Errors() for day in range(1, PERIOD_DAYS + 1)}, {part: Warnings() for part in LIMITS}, Warnings()
    )
    chance = random.Random(seed)
    for each in customers(number, seed=seed):
        drawn = [chance.lognormvariate(0, 0.7) for _ in range(3)]
        hours = each.hours[DAYS_BEFORE * 24 :]
        actual = sum(hours)
        if actual < SMALL:
            continue
        seen = list(projections(each))
        for day, (now, used, projection) in enumerate(seen, 1):
            _note_error(found.by_day[day], projection, now, used=used, actual=actual)
        for part in LIMITS:
            _note_warning(found.by_limit[part], seen, hours, round(part * actual))
        for part in drawn:
            _note_warning(found.natural, seen, hours, max(1, round(part * actual)))
    return found


def projections(customer: Customer) -> Iterator[tuple[int, int, Projection | None]]:
    """Yield Unix second, quantity so far and projection, once for each day of the period."""
    days = customer.days
    for day in range(PERIOD_DAYS):
        today, hour = DAYS_BEFORE + day, 7 * day % 24
        now = PERIOD_START + day * DAY + hour * HOUR
        used = sum(customer.hours[DAYS_BEFORE * 24 : today * 24 + hour])
        pace = pace_of(history_of(days[today - DAYS : today], until=now - now % DAY))
        yield now, used, None if pace is None else pace.project(used, now=now, end=END)


def _note_error(errors: Errors, projection: Projection | None, now: int, *, used: int, actual: int) -> None:
    if projection is None:
        errors.unknown += 1
        return
    line = used * PERIOD_DAYS * DAY / max(DAY, now - PERIOD_START)
    errors.ours.append(abs(projection.expected - actual) / actual)
    errors.straight.append(abs(line - actual) / actual)
    errors.held += projection.low <= actual <= projection.high
    errors.sums = errors.sums[0] + projection.expected, errors.sums[1] + actual


def _note_warning(
    warnings: Warnings, seen: Iterable[tuple[int, int, Projection | None]], hours: Iterable[int], limit: int
) -> None:
    reached = next((hour for hour, sum_ in enumerate(accumulate(hours), 1) if sum_ >= limit), None)
    reached_at = None if reached is None else PERIOD_START + reached * HOUR
    is_unknown = True
    for now, _, projection in seen:
        if reached_at is not None and now >= reached_at:
            break
        if projection is None:
            continue
        is_unknown = False
        expected_at = warned_at(projection, limit)
        if expected_at is not None:
            if reached_at is None:
                warnings.wrong += 1
            else:
                warnings.ahead.append((reached_at - now) / DAY)
                warnings.off.append(abs(reached_at - expected_at) / DAY)
            return
    if reached_at is None:
        warnings.quiet += 1
    else:
        warnings.missed += 1
        warnings.unknown += is_unknown


def errors_table(found: Backtest) -> str:
    """The errors by the day of the period."""
    lines = [
        "| day | half within | nine of ten | straight line: half | nine of ten | all together | in range | unknown |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for day in SHOWN_DAYS:
        each = found.by_day[day]
        cells = [
            str(day),
            _percent(median(each.ours)),
            _percent(_decile(each.ours)),
            _percent(median(each.straight)),
            _percent(_decile(each.straight)),
            f"{(each.sums[0] / each.sums[1] - 1) * 100:+.1f}%",
            _percent(each.held / len(each.ours)),
            _percent(each.unknown / (each.unknown + len(each.ours))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def warnings_table(found: Backtest) -> str:
    """The warnings by limit."""
    lines = [
        "| limit | reached by | warned ahead | days ahead | off by | missed | of these unknown | warned in vain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in [*((_percent(part), each) for part, each in found.by_limit.items()), ("any", found.natural)]:
        spared = each.wrong + each.quiet
        cells = [
            name,
            f"{each.reached:,}",
            _percent(len(each.ahead) / each.reached) if each.reached else "",
            f"{median(each.ahead):.0f}" if each.ahead else "",
            f"{median(each.off):.1f} days" if each.off else "",
            _percent(each.missed / each.reached) if each.reached else "",
            f"{each.unknown:,}" if each.reached else "",
            f"{each.wrong:,} of {spared:,}, {_percent(each.wrong / spared)}" if spared else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(part: float) -> str:
    return f"{part * 100:.0f}%"


def _decile(parts: list[float]) -> float:
    """What nine of ten are within."""
    return sorted(parts)[int(len(parts) * 0.9)]


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasts", description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    arguments = parser.parse_args()
    found = backtest(arguments.customers, seed=arguments.seed)
    print(errors_table(found), warnings_table(found), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
