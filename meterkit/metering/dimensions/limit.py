"""
How many combinations of values are counted one by one.

Clients often choose the values: whoever sends requests for ten thousand models that do not exist must fill neither the
journal nor the ledger, nor take the room of others. So each process counts a number of new combinations per meter, hour
and company, and the rest as `OTHER`, first in that dimension which has the most values: a client that invents models
does not hide the kind of token. Together, the companies have room for ten times as many.
"""

from __future__ import annotations

import logging
from typing import Protocol

from meterkit.core.problems import Problems
from meterkit.core.usage_key import VALUES, encoded_values
from meterkit.core.windows import HOUR
from meterkit.metering.dimensions.values import LONGEST_ENCODED, OTHER

MOST_OTHERS = 100
"""Combinations with `OTHER` in one dimension that are counted beyond the limit; after these, all dimensions are it."""

ALL_COMPANIES = 10
"""How many times the limit of one company all of them have together."""


class Split(Protocol):
    """The part of a meter that the limit reads."""

    @property
    def name(self) -> str:
        """Name of the meter."""

    @property
    def by_limit(self) -> int:
        """Combinations that are counted one by one."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions."""


class _Seen:
    """Combinations of one meter in an hour, each with what stands behind its event name; and who has told how many."""

    __slots__ = ("hour", "suffixes", "told", "widest")

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self.suffixes: dict[tuple[str, ...], str] = {}
        self.told: dict[str, int] = {}
        self.widest = -1

    def has_room(self, company: str, most: int) -> bool:
        """Return whether *company* may tell a new combination, of which each has *most*."""
        return self.told.get(company, 0) < most and len(self.suffixes) < ALL_COMPANIES * most

    def add(self, company: str, values: tuple[str, ...], suffix: str) -> str:
        """Add a combination that *company* has told, and return its suffix."""
        self.told[company] = self.told.get(company, 0) + 1
        return self.suffixes.setdefault(values, suffix)


class CombinationLimit:
    """
    Interns combinations of values, and limits their number. Safe for several threads, and without a lock.

    Args:
        problems: Collector of mistakes, which names the meters that are at their limit.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._seen: dict[str, _Seen] = {}

    def suffix(self, meter: Split, values: tuple[str, ...], company: str, now: float) -> str:
        """
        Return what stands behind the event name of *meter* for *values*; see `split_values`.

        Args:
            meter: Meter with dimensions.
            values: Their values, in the order of the meter's dimensions.
            company: Company that has used it.
            now: Time of the count, Unix seconds.
        """
        seen = self._seen.get(meter.name)
        if seen is None or now >= seen.hour + HOUR:  # an earlier time, as of a log, changes nothing
            seen = self._seen[meter.name] = _Seen(int(now) // HOUR * HOUR)
        known = seen.suffixes.get(values)
        return self._admitted(meter, values, company, seen) if known is None else known

    def _admitted(self, meter: Split, values: tuple[str, ...], company: str, seen: _Seen) -> str:
        suffix = _suffix(meter, values)
        if len(suffix.encode()) > LONGEST_ENCODED:
            message = f"{meter}: values are longer than {LONGEST_ENCODED} bytes together: counted as {OTHER!r}"
            self._problems.note("dimension_invalid", message, meter=meter.name, company=company or None)
            return _suffix(meter, (OTHER,) * len(values))
        if seen.has_room(company, meter.by_limit):
            return seen.add(company, values, suffix)
        self._problems.note(
            "dimension_limit",
            f"{company or 'nobody'!r:.100} has used more than {meter.by_limit:,} new combinations of "
            f"{', '.join(meter.dimensions)} of {meter} in one hour, or all companies have used {ALL_COMPANIES} times "
            f"as many: further ones are counted as {OTHER!r}. Let clients not choose the values, or raise by_limit=",
            level=logging.ERROR,
            meter=meter.name,
            company=company or None,
        )
        if seen.widest < 0:
            seen.widest = _widest(list(seen.suffixes))
        fewer = tuple([OTHER if at == seen.widest else value for at, value in enumerate(values)])
        known = seen.suffixes.get(fewer)
        if known is None:
            if seen.has_room(company, meter.by_limit + MOST_OTHERS):
                return seen.add(company, fewer, _suffix(meter, fewer))
            return _suffix(meter, (OTHER,) * len(values))
        return known


def _suffix(meter: Split, values: tuple[str, ...]) -> str:
    return VALUES + encoded_values(dict(zip(meter.dimensions, values, strict=True)))


def _widest(combinations: list[tuple[str, ...]]) -> int:
    """Return the position of the dimension that has the most values."""
    columns = [len(set(column)) for column in zip(*combinations, strict=True)]
    return columns.index(max(columns))
