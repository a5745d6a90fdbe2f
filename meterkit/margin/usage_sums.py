"""
What companies have used in a month, by meter and values: from the ledger's sums, not from its rows of hours.

And what their wallets have paid of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import DAY, Period
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.dimensions.reading import month_by_values
from meterkit.ledger.schema.quantities import sum_of
from meterkit.pricing.price import whole

Place: TypeAlias = "tuple[str, str]"
"""Name of a meter, and values of its dimensions as the ledger stores them; empty for what was counted without."""

Sums: TypeAlias = "dict[Place, dict[str, int]]"
"""Quantity by place and company; the company is `NOBODY` for what nobody pays for."""


def used_in_month(connection: sa.Connection, month: Period) -> Sums:
    """Return what was used in a calendar month, also what nobody pays for."""
    found: Sums = {}
    of_meters: dict[str, int] = {}
    values_of = schema.month_values
    nobody = sa.select(values_of.c.meter, values_of.c.company, values_of.c.dimensions, values_of.c.quantity)
    nobody = nobody.where(values_of.c.month == month.start, values_of.c.company == NOBODY)
    for meter, company, values, quantity in (*month_by_values(connection, month.start), *connection.execute(nobody)):
        found.setdefault((meter, values), {})[company] = quantity
        of_meters[meter] = of_meters.get(meter, 0) + quantity
    table = schema.meter_totals
    query = sa.select(table.c.meter, sum_of(table.c.quantity)).group_by(table.c.meter)
    for meter, total in connection.execute(query.where(table.c.day >= month.start, table.c.day < month.end)):
        rest = int(total) - of_meters.get(meter, 0)  # of nobody, without values
        if rest > 0:
            of_nobody = found.setdefault((meter, ""), {})
            of_nobody[NOBODY] = of_nobody.get(NOBODY, 0) + rest
    return found


def rated_in_month(connection: sa.Connection, month: Period, meters: Collection[str]) -> dict[str, dict[Place, int]]:
    """Return what usage of *meters* with a ``Price.by(...)`` was rated at, in trillionths, by company and place."""
    found: dict[str, dict[Place, int]] = {}
    if not meters:
        return found
    table = schema.rated
    keys = (table.c.company, table.c.meter, table.c.dimensions, table.c.rate)
    query = sa.select(*keys, sum_of(table.c.quantity)).group_by(*keys)
    query = query.where(table.c.meter.in_(meters), table.c.window >= month.start, table.c.window < month.end)
    for company, meter, values, rate, quantity in connection.execute(query.where(table.c.rate >= 0)):
        of_company = found.setdefault(company, {})
        of_company[meter, values] = of_company.get((meter, values), 0) + rate * int(quantity)
    return found


class Moved(NamedTuple):
    """
    What the wallet of a company has moved in a month, of one grant or of none.

    Attributes:
        company: Company id.
        meter: Meter of the usage that has moved it; empty for other causes.
        unit: Unit of the wallet, or its currency in capitals.
        account: ``available`` for what usage has spent, ``uncovered``, ``expired`` or ``revoked``.
        amount: In millionths of the unit: what was spent, was not covered, has expired, or was taken back.
        granted: What the grant was of, in millionths; None if it is of no grant.
        paid: What was paid for the grant, before tax, in the currency's minor unit; None if no payment is known.
        currency: Three-letter code of the currency of *paid*.
    """

    company: str
    meter: str
    unit: str
    account: str
    amount: int
    granted: int | None
    paid: int | None
    currency: str | None

    @property
    def worth(self) -> Decimal | None:
        """What was paid for *amount*, in whole currency; None if no payment is known."""
        if self.granted is None or self.paid is None or self.currency is None:
            return None
        return whole(self.paid, self.currency) * self.amount / self.granted


def moved_in_month(connection: sa.Connection, month: Period, companies: Iterable[str]) -> Iterator[Moved]:
    """
    Yield what wallets have moved in a month: for usage, what the usage of the month has moved, whenever it was counted.

    Args:
        connection: Connection to the ledger.
        month: The month.
        companies: Ids of companies that have used something; those with a grant are added.
    """
    entries, grants = schema.entries, schema.grants
    if connection.execute(sa.select(entries.c.company).limit(1)).first() is None:
        return
    ids = sorted({*companies, *connection.scalars(sa.select(grants.c.company).distinct())})
    days = [str(day) for day in range(month.start, month.end, DAY)]
    is_usage = entries.c.cause == "usage"
    is_of_month = sa.or_(
        sa.and_(is_usage, sa.func.substr(entries.c.movement, len("usage/") + 1, len(days[0])).in_(days)),
        sa.and_(sa.not_(is_usage), entries.c.at >= month.start, entries.c.at < month.end),
    )
    keys = (entries.c.company, entries.c.meter, entries.c.unit, entries.c.account)
    of_grant = (grants.c.id, grants.c.amount, grants.c.paid, grants.c.currency)
    query = (
        sa.select(*keys, sum_of(entries.c.amount), *of_grant)
        .join_from(entries, grants, grants.c.id == entries.c.grant_id, isouter=True)
        .where(
            is_of_month,
            entries.c.cause != "grant",
            sa.or_(is_usage, entries.c.account != "available"),
            entries.c.account != "used",
            entries.c.at >= month.start - DAY,  # for the index; less a day, because clocks differ
        )
        .group_by(*keys, *of_grant)
    )
    for first in range(0, len(ids), BATCH):
        for row in connection.execute(query.where(entries.c.company.in_(ids[first : first + BATCH]))):
            company, meter, unit, account, amount, _, granted, paid, currency = row
            sign = -1 if account in ("available", "uncovered") else 1
            yield Moved(company, meter, unit, account, sign * int(amount), granted, paid, currency)


def used_between(
    connection: sa.Connection, place: Place, companies: Iterable[str], start: int, end: int
) -> dict[str, int]:
    """
    Return what each of *companies* has used of one place between two UTC days, *end* excluded, Unix seconds.

    From the rows of hours, where these are still kept.
    """
    meter, values = place
    found: dict[str, int] = {}
    ids = sorted(companies)
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        if values:
            found |= _sum(connection, schema.usage_values, meter, batch, (start, end), values=values)
            continue
        found |= _sum(connection, schema.totals, meter, batch, (start, end))
        if NOBODY in batch:
            found |= _sum(connection, schema.usage, meter, [NOBODY], (start, end))
        for company, quantity in _sum(connection, schema.usage_values, meter, batch, (start, end)).items():
            found[company] = found.get(company, 0) - quantity
    return found


def _sum(
    connection: sa.Connection,
    table: sa.Table,
    meter: str,
    companies: Sequence[str],
    span: tuple[int, int],
    *,
    values: str | None = None,
) -> dict[str, int]:
    at: sa.Column[Any] = table.c.day if "day" in table.c else table.c.window
    query = sa.select(table.c.company, sum_of(table.c.quantity)).group_by(table.c.company)
    query = query.where(table.c.company.in_(companies), table.c.meter == meter, at >= span[0], at < span[1])
    if values is not None:
        query = query.where(table.c.dimensions == values)
    return {company: int(quantity) for company, quantity in connection.execute(query)}
