"""
`RateTable`: what a unit costs, by the values of its dimensions.

A rate is an int in trillionths of the currency, so that sums are exact: 0.10 per million units are 100,000.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from meterkit.core.periods import DAY
from meterkit.core.usage_key import decoded_values, encoded_values
from meterkit.metering.meter import Meter

TRILLIONTHS = 10**12
"""Trillionths in one unit of a currency."""

_MOST_KNOWN = 20_000
"""Combinations of values and day that are remembered: matching patterns takes longer than a fold has."""

_UNKNOWN: Any = object()

WILDCARDS = "*?["
"""Characters that make a text a pattern, as in file names."""

_WILDCARD = re.compile(r"[*?]|\[!?\]?[^\]]*\]")
"""What stands for other characters: one of many, in brackets, too."""

Billing: TypeAlias = Literal["amount", "lines"]


@dataclass(frozen=True, slots=True)
class Rate:
    """
    One entry of a table.

    Attributes:
        patterns: A value, or a pattern such as ``gpt-5*``, for each dimension.
        price: Price of a unit, in trillionths of the currency.
        since: Unix second, of a UTC day, from which it holds; 0 if it always has.
    """

    patterns: tuple[str, ...]
    price: int
    since: int = 0


@dataclass(frozen=True)
class RateTable:
    """
    The rates of a meter.

    Attributes:
        meter: Meter whose usage is rated.
        amounts: Meter of the amounts, in millionths of the currency.
        by: Names of the dimensions that decide on the rate.
        rates: Entries, in the order given.
        default: Price of a unit that no entry matches, in trillionths of the currency; None if it has none.
        currency: Three-letter currency code, lower case.
        bill: How amounts reach Stripe: ``amount`` as meter events, ``lines`` as items of the invoice.
        per: Number of units that the prices were given for.
    """

    meter: Meter
    amounts: Meter
    by: tuple[str, ...]
    rates: tuple[Rate, ...]
    default: int | None
    currency: str
    bill: Billing
    per: int = 1
    _ordered: list[tuple[tuple[str, ...], list[Rate]]] = field(init=False, repr=False, compare=False)
    _known: dict[tuple[str, int], int | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ordered", in_order(self.rates))
        object.__setattr__(self, "_known", {})

    @property
    def name(self) -> str:
        """Name of the meter of the amounts."""
        return self.amounts.name

    @property
    def event_name(self) -> str:
        """Event name under which amounts are kept; empty if they are never sent as meter events."""
        return self.amounts.event_name if self.bill == "amount" else ""

    @property
    def sold_as(self) -> str:
        """Event name of the price in Stripe."""
        return self.amounts.event_name

    def rate(self, dimensions: str, window: int) -> int | None:
        """
        Return what a unit costs, in trillionths of the currency; None if it has no price.

        Args:
            dimensions: Values as text, as `meterkit.core.usage_key.encoded_values` writes them; empty for none.
            window: Unix second at which the window of the usage begins.
        """
        key = (dimensions, window // DAY)
        found: int | None = self._known.get(key, _UNKNOWN)
        if found is _UNKNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            told = decoded_values(dimensions)
            found = self._known[key] = self.of(tuple([told.get(name, "") for name in self.by]), window)
        return found

    def group(self, dimensions: str) -> str:
        """Return *dimensions*, values as text, with those alone that decide on the rate: what makes a line."""
        told = decoded_values(dimensions)
        return encoded_values({name: told.get(name, "") for name in self.by})

    def of(self, values: tuple[str, ...], window: int) -> int | None:
        """Return what `rate` does for *values* in the order of `by`."""
        for patterns, entries in self._ordered:
            if all(map(fnmatchcase, values, patterns)):
                held = [each for each in entries if each.since <= window]
                if held:
                    return held[-1].price
        return self.default


def in_order(rates: tuple[Rate, ...]) -> list[tuple[tuple[str, ...], list[Rate]]]:
    """Return the entries of each combination of patterns, oldest first; the most specific combination comes first."""
    by_patterns: dict[tuple[str, ...], list[Rate]] = {}
    for rate in sorted(rates, key=lambda each: each.since):
        by_patterns.setdefault(rate.patterns, []).append(rate)
    first = {patterns: place for place, patterns in reversed(list(enumerate(rate.patterns for rate in rates)))}
    return sorted(by_patterns.items(), key=lambda each: (*_specificity(each[0]), -first[each[0]]), reverse=True)


def _specificity(patterns: tuple[str, ...]) -> tuple[int, int]:
    """Return how specific *patterns* are: exact values count first, and then the characters that are not wildcards."""
    exact = sum(not is_pattern(each) for each in patterns)
    return exact, sum(len(_WILDCARD.sub("", each)) for each in patterns)


def is_pattern(text: str) -> bool:
    """Return whether *text* matches more than itself."""
    return any(character in text for character in WILDCARDS)
