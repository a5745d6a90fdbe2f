"""What ``Price.by(...)`` takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

from meterkit.core.validation import MAX_EVENT_NAME_LENGTH
from meterkit.errors import ConfigurationError
from meterkit.metering.meter import Meter
from meterkit.pricing.rates.files import entries_in
from meterkit.pricing.rates.table import TRILLIONTHS, Billing, Rate, RateTable

Amount: TypeAlias = "Callable[[Any, str], Decimal]"
"""Function that returns an amount as an exact decimal; the second argument names it in an error."""

MAX_RATE = 10**18
"""Largest price of a unit, exclusive, in trillionths of the currency: a million. Databases store it in 64 bits."""

MOST_RATES = 100_000
"""Entries of a table at most."""


def rate_table(
    meter: Any,
    by: Any,
    prices: Any,
    *,
    table: str | os.PathLike[str] | None,
    per: Any,
    default: Any,
    currency: str,
    bill: Any,
    amount: Amount,
) -> RateTable:
    """
    Return the table that the arguments of ``Price.by(...)`` declare; *amount* reads its prices.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """
    if not isinstance(meter, Meter):
        raise ConfigurationError(f"meter= must be a Meter, not {meter!r:.200}")
    what = f"Price.by({meter})"
    names = _names(meter, by, what)
    if bill not in ("amount", "lines"):
        raise ConfigurationError(f"{what}: bill= must be 'amount' or 'lines', not {bill!r:.50}")
    rates, other = listed_rates(names, prices, table=table, per=per, default=default, what=what, amount=amount)
    return RateTable(
        meter=meter,
        amounts=amounts_of(meter, currency),
        by=names,
        rates=rates,
        default=other,
        currency=currency,
        bill=_billing(bill),
        per=per,
    )


def listed_rates(
    names: tuple[str, ...],
    prices: Any,
    *,
    table: str | os.PathLike[str] | None,
    per: Any,
    default: Any,
    what: str,
    amount: Amount,
) -> tuple[tuple[Rate, ...], int | None]:
    """
    Return the entries of a dict or a file, and the default, in trillionths of the currency for one unit.

    Args:
        names: Names of the dimensions.
        prices: Amounts by value; None if *table* has them.
        table: File with the amounts.
        per: Number of units that the amounts are for.
        default: Amount of all other values; None for none.
        what: What they belong to, for error messages.
        amount: Reads an amount.

    Raises:
        ConfigurationError: An argument is wrong, or the file; the message says how to correct it.
    """
    if type(per) is not int or not 1 <= per <= TRILLIONTHS:
        raise ConfigurationError(f"{what}: per= must be a number of units such as 1_000_000, not {per!r:.50}")
    if (prices is None) == (table is None):
        raise ConfigurationError(
            f"{what}: pass either the prices by value, such as {{'small': '0.10'}}, or table= with a file that has them"
        )
    given = _entries(prices, len(names), what) if table is None else entries_in(table, names, what)
    rates = tuple(
        Rate(patterns, unit_rate(price, per, f"{what}: the price of {_shown(patterns)}", amount), since)
        for patterns, price, since in given
    )
    _check(rates, default, what)
    return rates, None if default is None else unit_rate(default, per, f"{what}: default=", amount)


def with_file(rates: RateTable, path: str | os.PathLike[str], amount: Amount) -> RateTable:
    """
    Return *rates* with the entries of the file at *path* instead of their own; *amount* reads its prices.

    Raises:
        ConfigurationError: The file cannot be read, or a row of it is wrong.
    """
    what = f"Price.by({rates.meter})"
    entries = tuple(
        Rate(patterns, unit_rate(price, rates.per, f"{what}: the price of {_shown(patterns)}", amount), since)
        for patterns, price, since in entries_in(path, rates.by, what)
    )
    _check(entries, rates.default, what)
    return replace(rates, rates=entries)


def amounts_of(meter: Meter, currency: str) -> Meter:
    """
    Return the meter of the amounts that usage of *meter* costs, in millionths of *currency*.

    Raises:
        ConfigurationError: *meter* is never reported, or its names are too long.
    """
    if not meter.billable:
        raise ConfigurationError(
            f"there is a Price for {meter}, which is never reported to Stripe: remove the price, or billable=False"
        )
    end = f"_{currency}_millionths"
    for name in (meter.name, meter.event_name):
        if len(name) + len(end) > MAX_EVENT_NAME_LENGTH:
            raise ConfigurationError(
                f"{meter}: for Price.by(...), its names must have at most {MAX_EVENT_NAME_LENGTH - len(end)} "
                "characters, because those of its amounts are longer"
            )
    return Meter(meter.name + end, http=False, event_name=meter.event_name + end)


def _names(meter: Meter, by: Any, what: str) -> tuple[str, ...]:
    names = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, Iterable) else ()
    if not meter.dimensions:
        raise ConfigurationError(f"{what}: the meter has no dimensions: declare them, as in Meter(..., by='model')")
    if not names or any(name not in meter.dimensions for name in names) or len(set(names)) < len(names):
        raise ConfigurationError(
            f"{what}: by must name dimensions of the meter, which are {', '.join(meter.dimensions)}; not {by!r:.100}"
        )
    return names


def _entries(prices: Any, depth: int, what: str) -> Iterator[tuple[tuple[str, ...], Any, int]]:
    """Yield patterns and price of each entry of *prices*: a mapping by value, by tuple of values, or a nested one."""
    if not isinstance(prices, Mapping) or not prices:
        raise ConfigurationError(f"{what}: prices must be a dict such as {{'small': '0.10'}}, not {prices!r:.100}")
    for key, value in prices.items():
        patterns = (key,) if isinstance(key, str) else key
        if not isinstance(patterns, tuple) or not all(isinstance(each, str) for each in patterns):
            raise ConfigurationError(f"{what}: {key!r:.100} must be a value or a pattern, or a tuple of these")
        if isinstance(value, Mapping) and len(patterns) < depth:
            for rest, price, since in _entries(value, depth - len(patterns), what):
                yield (*patterns, *rest), price, since
        elif len(patterns) != depth:
            raise ConfigurationError(
                f"{what}: {key!r:.100} has {len(patterns)} of {depth} values; '*' matches any, as in ('small', '*')"
            )
        else:
            yield patterns, value, 0


def unit_rate(price: Any, per: int, what: str, amount: Amount) -> int:
    """Return what one unit costs in trillionths, if *per* units cost *price*."""
    exact = Fraction(amount(price, what)) * TRILLIONTHS / per
    if exact.denominator != 1:
        raise ConfigurationError(
            f"{what}, {price} for {per:,} units, has more than 12 decimal places for one unit, so it could not be "
            "added up exactly: use fewer, or another per="
        )
    if exact >= MAX_RATE:
        raise ConfigurationError(f"{what} must be under a million for one unit, not {price!r:.50}")
    return int(exact)


def _check(rates: tuple[Rate, ...], default: Any, what: str) -> None:
    if not rates and default is None:
        raise ConfigurationError(f"{what}: the table is empty, and there is no default=: nothing would have a price")
    if len(rates) > MOST_RATES:
        raise ConfigurationError(
            f"{what}: the table has {len(rates):,} entries; {MOST_RATES:,} is the most. Use patterns"
        )
    seen = set()
    for each in rates:
        if (each.patterns, each.since) in seen:
            raise ConfigurationError(f"{what}: the price of {_shown(each.patterns)} is there twice; remove one")
        seen.add((each.patterns, each.since))


def _shown(patterns: tuple[str, ...]) -> str:
    return repr(patterns[0] if len(patterns) == 1 else patterns)[:200]


def _billing(bill: Any) -> Billing:
    return "lines" if bill == "lines" else "amount"
