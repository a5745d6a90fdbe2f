"""
Sums of usage by the values of its dimensions.

They add up to the usage of the meter: what was counted without values, before ``by=`` was declared, has no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.periods import Period
from meterkit.core.usage_key import NOBODY, decoded_values
from meterkit.ledger import schema
from meterkit.ledger.schema.quantities import loaded, sum_of


class OfValues(NamedTuple):
    """
    Usage of one company, meter and combination of values.

    Attributes:
        meter: Name of the meter.
        company: Company id; empty if it is unattributed.
        dimensions: The values as text, which `decoded_values` reads; empty for usage that was counted without.
        quantity: Usage in the meter's unit.
    """

    meter: str
    company: str
    dimensions: str
    quantity: int


@dataclass(frozen=True, slots=True)
class UsageByValues:
    """
    What one company used in one window, of one combination of values.

    Attributes:
        meter: Name of the meter.
        company: Company id, as the application knows it; None for unattributed usage.
        window: Unix second at which the window begins.
        values: Values by the names of the dimensions that were asked for; empty text if unknown.
        quantity: Usage in the meter's unit.
    """

    meter: str
    company: str | None
    window: int
    values: Mapping[str, str] = field(hash=False)
    quantity: int


def used_by_values(
    connection: sa.Connection,
    *,
    since: int | None = None,
    until: int | None = None,
    company: str | None = None,
    meter: str | None = None,
    event_name: str | None = None,
) -> list[OfValues]:
    """
    Return the usage in windows that begin in a span of time, by meter, company and values.

    Args:
        connection: Connection to the ledger, in one snapshot.
        since: First Unix second; None for all that is kept.
        until: First Unix second after the span; None if it has no end.
        company: Only this company.
        meter: Only this meter.
        event_name: Only usage of this event name, such as `shadowed` returns for what was counted in shadow mode.
    """
    filters = {"company": company, "meter": meter, "event_name": event_name}
    found: dict[tuple[str, str, str], int] = {}
    for row in connection.execute(_sums(schema.usage, ("meter", "company"), since, until, filters)):
        found[row.meter, row.company, ""] = int(row.used)
    for part in told_values(connection, since=since, until=until, **filters):
        found[part[:3]] = part.quantity
        rest = (part.meter, part.company, "")
        found[rest] = found.get(rest, 0) - part.quantity
    return [OfValues(*key, quantity) for key, quantity in sorted(found.items()) if quantity]


def told_values(
    connection: sa.Connection,
    *,
    since: int | None = None,
    until: int | None = None,
    company: str | None = None,
    meter: str | None = None,
    event_name: str | None = None,
) -> list[OfValues]:
    """Return what `used_by_values` does, without the usage that has no values: for those who know the sum already."""
    filters = {"company": company, "meter": meter, "event_name": event_name}
    query = _sums(schema.usage_values, ("meter", "company", "dimensions"), since, until, filters)
    found = connection.execute(query)
    return [OfValues(row.meter, row.company, row.dimensions, int(row.used)) for row in found if row.used]


def month_by_values(
    connection: sa.Connection, month: int, *, meter: str | None = None, company: str | None = None
) -> list[OfValues]:
    """
    Return the usage of companies in a calendar month, by meter, company and values, from sums and in no order.

    Args:
        connection: Connection to the ledger, in one snapshot.
        month: Unix second at which the UTC month begins.
        meter: Only this meter.
        company: Only this company.
    """
    found: dict[tuple[str, str, str], int] = {}
    for table in (schema.month_totals, schema.month_values):
        names = ("meter", "company") if table is schema.month_totals else ("meter", "company", "dimensions")
        # The type of quantities would take twice as long.
        quantity = sa.type_coerce(table.c.quantity, sa.BigInteger)
        query = sa.select(quantity, *(table.c[name] for name in names))
        query = query.where(table.c.month == month, table.c.company != NOBODY)
        query = query if meter is None else query.where(table.c.meter == meter)
        query = query if company is None else query.where(table.c.company == company)
        for stored, name, payer, *values in connection.execute(query):
            used = loaded(stored) or 0
            rest = (name, payer, "")
            if values:
                found[name, payer, values[0]] = used
                used = -used
            found[rest] = found.get(rest, 0) + used
    return [OfValues(*key, used) for key, used in found.items() if used]


def of_all(connection: sa.Connection, meter: str, months: Iterable[Period]) -> dict[str, int]:
    """Return the usage of *meter* in calendar *months* by values as text, of all companies and of nobody, from sums."""
    spans = list(months)
    table, totals = schema.month_values, schema.meter_totals
    query = sa.select(table.c.dimensions, sum_of(table.c.quantity).label("used"))
    query = query.where(table.c.meter == meter, table.c.month.in_([each.start for each in spans]))
    found = {row.dimensions: int(row.used) for row in connection.execute(query.group_by(table.c.dimensions))}
    for span in spans:
        used = sa.select(sum_of(totals.c.quantity)).where(totals.c.meter == meter)
        total = connection.scalar(used.where(totals.c.day >= span.start, totals.c.day < span.end)) or 0
        found[""] = found.get("", 0) + int(total)
    found[""] -= sum(quantity for dimensions, quantity in found.items() if dimensions)
    return {dimensions: quantity for dimensions, quantity in found.items() if quantity}


def by_windows(
    connection: sa.Connection,
    names: Iterable[str],
    *,
    since: int | None = None,
    until: int | None = None,
    company: str | None = None,
    meter: str | None = None,
) -> list[UsageByValues]:
    """
    Return usage by meter, company, window and the values of the dimensions *names*; the other ones are added up.

    Args:
        connection: Connection to the ledger, in one snapshot.
        names: Names of dimensions.
        since: First Unix second; None for all that is kept.
        until: First Unix second after the span; None if it has no end.
        company: Only this company.
        meter: Only this meter.
    """
    wanted = tuple(names)
    nothing = ("",) * len(wanted)
    filters = {"company": company, "meter": meter, "event_name": None}
    sums: dict[tuple[str, str, int, tuple[str, ...]], int] = {}
    for row in connection.execute(_sums(schema.usage, ("meter", "company", "window"), since, until, filters)):
        sums[row.meter, row.company, row.window, nothing] = int(row.used)
    keys = ("meter", "company", "window", "dimensions")
    for row in connection.execute(_sums(schema.usage_values, keys, since, until, filters)):
        rest = (row.meter, row.company, row.window, nothing)
        sums[rest] = sums.get(rest, 0) - int(row.used)
        key = (row.meter, row.company, row.window, _values(row.dimensions, wanted))
        sums[key] = sums.get(key, 0) + int(row.used)
    return [
        UsageByValues(name, payer or None, window, dict(zip(wanted, values, strict=True)), quantity)
        for (name, payer, window, values), quantity in sorted(sums.items())
        if quantity
    ]


def highest(
    sums: Iterable[tuple[tuple[str, ...], int]], most: int
) -> tuple[list[tuple[tuple[str, ...], int]], tuple[int, int]]:
    """Return the *most* combinations of values with the highest sums; and of the rest, the number and the sum."""
    ordered = sorted(sums, key=lambda each: (-each[1], each[0]))
    rest = ordered[most:]
    return ordered[:most], (len(rest), sum(quantity for _, quantity in rest))


def grouped(usage: Iterable[OfValues], names: Iterable[str]) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
    """Yield meter, company, the values of the dimensions *names*, and the quantity of *usage* that has them."""
    wanted = tuple(names)
    sums: dict[tuple[str, str, tuple[str, ...]], int] = {}
    for meter, company, dimensions, quantity in usage:
        key = (meter, company, _values(dimensions, wanted))
        sums[key] = sums.get(key, 0) + quantity
    for key, quantity in sums.items():
        yield (*key, quantity)


@lru_cache(maxsize=10_000)  # the same few for all companies
def _values(dimensions: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of the dimensions *names* in the text *dimensions*."""
    told = decoded_values(dimensions)
    return tuple([told.get(name, "") for name in names])


def _sums(
    table: sa.Table, keys: Iterable[str], since: int | None, until: int | None, filters: Mapping[str, str | None]
) -> sa.Select[Any]:
    columns = [table.c[name] for name in keys]
    query = sa.select(*columns, sum_of(table.c.quantity).label("used")).group_by(*columns)
    for name, value in filters.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if since is not None:
        query = query.where(table.c.window >= since)
    return query if until is None else query.where(table.c.window < until)
