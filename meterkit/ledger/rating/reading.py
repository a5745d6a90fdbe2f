"""What was rated, and at which rates; and what has no price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import decoded_values
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.rating.rows import UNPRICED, Rater
from meterkit.ledger.schema.quantities import sum_of

DECIMALS = 12
"""Decimal places of a rate in whole currency."""


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """
    Usage of one company and combination of values, at one rate.

    Attributes:
        company: Company id, as the application knows it; None for unattributed usage.
        meter: Name of the meter.
        values: Values by the names of the dimensions; empty text if unknown.
        quantity: Usage in the meter's unit.
        unit_price: Price of a unit in whole currency; None if it has no price.
        amount: What the usage costs in whole currency, exact; None if it has no price.
        amounts: Name of the meter of the amounts.
    """

    company: str | None
    meter: str
    values: Mapping[str, str] = field(hash=False)
    quantity: int
    unit_price: Decimal | None
    amount: Decimal | None
    amounts: str


@dataclass(frozen=True, slots=True)
class Unpriced:
    """
    Usage that has no price, because no entry of the table matches its values.

    Attributes:
        meter: Name of the meter.
        values: Values by the names of the dimensions; empty text if unknown.
        quantity: Usage in the meter's unit.
        companies: Number of companies that have used it.
    """

    meter: str
    values: Mapping[str, str] = field(hash=False)
    quantity: int
    companies: int

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value or 'unknown'!s}" for name, value in self.values.items()) or "unknown values"
        by = "one company" if self.companies == 1 else f"{self.companies:,} companies"
        return (
            f"{self.quantity:,} {self.meter} of {by} have no price, and are not billed, because no entry of the price "
            f"table matches {shown}: add one, or default=, and bill them with meterkit rerate --apply"
        )


def rated_usage(
    database: Database, *, since: int, until: int, company: str | None = None, meter: str | None = None
) -> list[RatedUsage]:
    """
    Return what was rated in windows that begin between two Unix seconds, *until* excluded.

    Args:
        database: Database of the ledger.
        since: First Unix second.
        until: Unix second at which the span ends.
        company: Only this company.
        meter: Only this meter.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.rated
    keys = (table.c.company, table.c.meter, table.c.dimensions, table.c.amounts, table.c.rate)
    query = sa.select(*keys, sum_of(table.c.quantity).label("used")).group_by(*keys).order_by(*keys)
    query = query.where(table.c.window >= since, table.c.window < until)
    query = query if company is None else query.where(table.c.company == company)
    query = query if meter is None else query.where(table.c.meter == meter)
    with database.snapshot() as connection:
        rows = connection.execute(query).all()
    return [
        RatedUsage(
            company=row.company or None,
            meter=row.meter,
            values=decoded_values(row.dimensions),
            quantity=int(row.used),
            unit_price=None if row.rate == UNPRICED else in_currency(row.rate),
            amount=None if row.rate == UNPRICED else in_currency(row.rate * int(row.used)),
            amounts=row.amounts,
        )
        for row in rows
        if row.used
    ]


def unpriced(database: Database) -> list[Unpriced]:
    """
    Return the usage that has no price, the largest quantity first.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.rated
    used = sum_of(table.c.quantity).label("used")
    companies = sa.func.count(table.c.company.distinct()).label("companies")
    query = sa.select(table.c.meter, table.c.dimensions, used, companies)
    query = query.where(table.c.rate < 0, table.c.quantity != 0).group_by(table.c.meter, table.c.dimensions)
    with database.snapshot() as connection:
        found = [
            Unpriced(row.meter, decoded_values(row.dimensions), int(row.used), row.companies)
            for row in connection.execute(query)
        ]
    return sorted(found, key=lambda each: (-each.quantity, each.meter, sorted(each.values.items())))


def unbilled() -> sa.ColumnElement[bool]:
    """Return the condition for rows of ``schema.rated`` whose amount is neither reported nor on a line."""
    return sa.and_(schema.rated.c.quantity != schema.rated.c.billed, schema.rated.c.rate >= 0)


@dataclass(slots=True)
class Charge:
    """
    What is to be billed of one combination of values.

    Attributes:
        quantity: Units; negative after a correction.
        exact: Amount in trillionths of the currency.
        combinations: Number of combinations, where it is for several together.
    """

    quantity: int = 0
    exact: int = 0
    combinations: int = 1


def charges(rows: Iterable[Any], rater: Rater) -> dict[str, Charge]:
    """Return what is to be billed of *rows* of ``schema.rated``, by the values that decide on the rate."""
    found: dict[str, Charge] = {}
    for row in rows:
        charge = found.setdefault(rater.group(row.dimensions), Charge())
        charge.quantity += row.quantity - row.billed
        charge.exact += (row.quantity - row.billed) * row.rate
    return found


def was_rated(connection: sa.Connection, company: str, meter: str, start: int, end: int) -> bool:
    """Return whether usage of *company* in windows between two Unix seconds, *end* excluded, was rated."""
    table = schema.rated
    query = sa.select(table.c.meter).filter_by(company=company, meter=meter)
    query = query.where(table.c.window >= start, table.c.window < end, table.c.quantity != 0)
    return connection.execute(query.limit(1)).first() is not None


def in_currency(trillionths: int) -> Decimal:
    """Return an exact amount in whole currency, whatever the decimal context of the thread is."""
    return Decimal((int(trillionths < 0), tuple(map(int, str(abs(trillionths)))), -DECIMALS))
