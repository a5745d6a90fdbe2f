"""Take away usage of some values, in the transaction that takes it away from the usage."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.periods import month_of
from meterkit.core.usage_key import decoded_values
from meterkit.core.windows import HOUR
from meterkit.errors import UsageError
from meterkit.ledger import schema
from meterkit.ledger.schema.quantities import literal, subtracted, sum_of

SHOWN = 5
"""Combinations of values that an error names."""


class Place(NamedTuple):
    """
    Where usage is taken away.

    Attributes:
        meter: Name of the meter.
        event_name: Event name, as the usage has it.
        company: Company id.
        window: Unix second at which the window begins.
    """

    meter: str
    event_name: str
    company: str
    window: int


def subtract(connection: sa.Connection, place: Place, by: int, dimensions: str) -> None:
    """
    Subtract *by*, which has been subtracted from the usage of *place* already, from what is of the values *dimensions*.

    Args:
        connection: Connection in the transaction.
        place: Where the usage is.
        by: Quantity.
        dimensions: The values as text; empty for usage without values, or for all that was used.

    Raises:
        UsageError: Less than that is of these values, or it is not clear of which values it is.
    """
    rows = _rows(connection, place)
    if dimensions:
        _take(connection, _row(rows, by, dimensions), by)
        return
    if not rows:
        return
    used = _used(connection, place)
    if used == 0:
        for row in rows:
            _take(connection, row, row.quantity)
    elif used < sum(row.quantity for row in rows):
        raise _ambiguous(rows, by)


def check(connection: sa.Connection, place: Place, by: int, dimensions: str) -> None:
    """
    Check that `subtract` will do, before anything is subtracted from the usage.

    Raises:
        UsageError: Less than that is of these values, or it is not clear of which values it is.
    """
    rows = _rows(connection, place)
    if dimensions:
        _row(rows, by, dimensions)
    elif rows:
        left = _used(connection, place) - by
        if 0 < left < sum(row.quantity for row in rows):
            raise _ambiguous(rows, by)


def _rows(connection: sa.Connection, place: Place) -> list[Any]:
    table = schema.usage_values
    query = sa.select(table).filter_by(**place._asdict()).order_by(table.c.dimensions)
    return list(connection.execute(query.with_for_update()))


def _row(rows: list[Any], by: int, dimensions: str) -> Any:
    row = next((each for each in rows if each.dimensions == dimensions), None)
    available = 0 if row is None else row.quantity
    if available < by:
        raise UsageError(
            f"only {available:,} of {by:,} units can be reversed of {_shown(dimensions)}; in that hour there are "
            f"{_list(rows)}",
            reason="correction_too_large",
        )
    return row


def _used(connection: sa.Connection, place: Place) -> int:
    query = sa.select(sum_of(schema.usage.c.quantity)).filter_by(**place._asdict())
    return int(connection.scalar(query) or 0)


def _ambiguous(rows: list[Any], by: int) -> UsageError:
    return UsageError(
        f"this usage is told apart by values, so say of which ones {by:,} units are to be reversed, with dimensions=, "
        f"or with --dimension on the command line; in that hour there are {_list(rows)}",
        reason="correction_ambiguous",
    )


def used_of(connection: sa.Connection, company: str, meter: str, hour: int, dimensions: str) -> dict[int, int]:
    """Return how much *company* has used of *meter* of the values *dimensions*, by window of the hour."""
    table = schema.usage_values
    query = (
        sa.select(table.c.window, sum_of(table.c.quantity).label("quantity"))
        .filter_by(company=company, meter=meter, dimensions=dimensions)
        .where(table.c.window >= hour, table.c.window < hour + HOUR)
        .group_by(table.c.window)
    )
    return {row.window: int(row.quantity) for row in connection.execute(query)}


def _take(connection: sa.Connection, row: Any, by: int) -> None:
    table, months = schema.usage_values, schema.month_values
    less: dict[str, Any] = {"quantity": subtracted(table.c.quantity, literal(by))}
    keys = {key.name: getattr(row, key.name) for key in table.primary_key}
    connection.execute(sa.update(table).filter_by(**keys).values(less))
    in_month = sa.update(months).filter_by(
        month=month_of(row.window).start, meter=row.meter, company=row.company, dimensions=row.dimensions
    )
    connection.execute(in_month.values(quantity=subtracted(months.c.quantity, literal(by))))


def _list(rows: list[Any]) -> str:
    found = [f"{row.quantity:,} of {_shown(row.dimensions)}" for row in rows if row.quantity]
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return (", ".join(found[:SHOWN]) or "none with values") + more


def _shown(dimensions: str) -> str:
    return " ".join(f"{name}={value or 'unknown'}" for name, value in decoded_values(dimensions).items())
