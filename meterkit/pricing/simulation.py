"""Reprice a past month under other prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.dimensions.reading import OfValues, month_by_values
from meterkit.ledger.rating.rows import TRILLIONTHS
from meterkit.ledger.schema.quantities import sum_of
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator, cost_of
from meterkit.pricing.price import Price


@dataclass(frozen=True, slots=True)
class SimulatedBill:
    """
    One company's month under two lists of prices.

    Attributes:
        company: Company id, as the application knows it.
        used: Quantity by meter name.
        currency: Three-letter currency code of both amounts.
        old: Cost at the company's present prices, in whole currency; None if these are not known.
        new: Cost at the new prices, in whole currency.
        unpriced: Units that the new prices have no entry for, and that cost nothing in `new`, by meter name.
    """

    company: str
    used: dict[str, int]
    currency: str
    old: Decimal | None
    new: Decimal
    unpriced: dict[str, int] = field(default_factory=dict)

    @property
    def change(self) -> Decimal | None:
        """`new` minus `old`, in whole currency; None if `old` is not known."""
        return None if self.old is None else self.new - self.old


def simulate(
    database: Database,
    *,
    start: int,
    end: int,
    meters: Mapping[str, Meter],
    prices: Iterable[Price],
    former: Iterable[Price] | None = None,
    prices_of: Callable[[str], Iterable[Price]] | None = None,
) -> list[SimulatedBill]:
    """
    Return what the usage of a calendar month in UTC costs each company. Changes nothing.

    Each list is applied as if the month were a billing period. Flat fees without usage are charged as Stripe charges
    them; licensed prices are in neither amount.

    Args:
        database: Database of the ledger.
        start: Unix second at which the month begins.
        end: Unix second at which the next month begins.
        meters: Meters by name.
        prices: New prices.
        former: Present prices; None takes those of each company's subscriptions, as last read from Stripe.
        prices_of: Function that returns the new prices of a company, instead of *prices*, in all currencies.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    for_all = list(prices)
    former = None if former is None else list(former)
    table = schema.totals
    query = (
        sa.select(table.c.company, table.c.meter, sum_of(table.c.quantity).label("quantity"))
        .where(table.c.day >= start, table.c.day < end)
        .group_by(table.c.company, table.c.meter)
    )
    used: dict[str, dict[str, int]] = {}
    with database.snapshot() as connection:
        for row in connection.execute(query):
            used.setdefault(row.company, {})[row.meter] = int(row.quantity)
        may_rate = prices_of is not None or any(price.rates is not None for price in (*for_all, *(former or ())))
        values = month_by_values(connection, start) if may_rate else []
        known = CostCalculator(former or (), meters).prices_of(connection, used) if former is None else {}
    by_company: dict[str, list[OfValues]] = {}
    for each in values:
        by_company.setdefault(each.company, []).append(each)
    found = []
    for company in sorted(used):
        old = known[company] if former is None else list(former)
        new = for_all if prices_of is None else list(prices_of(company))
        currency = next((price.currency for price in (*old, *new)), "usd")
        mine = by_company.get(company, [])
        cost = cost_of(old, _rated(used[company], mine, old, end)[0], currency) if old else None
        rated, unpriced = _rated(used[company], mine, new, end)
        found.append(SimulatedBill(company, used[company], currency, cost, cost_of(new, rated, currency), unpriced))
    return found


def _rated(
    used: dict[str, int], values: Iterable[OfValues], prices: Iterable[Price], end: int
) -> tuple[dict[str, int], dict[str, int]]:
    """
    Return *used* with what its values cost at each ``Price.by(...)`` of *prices*, in millionths; and what has no price.

    The rates are those at the end of the month, because sums of months have no days.
    """
    tables = {price.rates.meter.name: price.rates for price in prices if price.rates is not None}
    sums: dict[str, int] = {table.name: 0 for table in tables.values()}
    unpriced: dict[str, int] = {}
    for meter, _, dimensions, quantity in values:
        if meter in tables:
            rate = tables[meter].rate(dimensions, end - 1)
            if rate is None:
                unpriced[meter] = unpriced.get(meter, 0) + quantity
            sums[tables[meter].name] += quantity * (rate or 0)
    return used | {name: exact // TRILLIONTHS for name, exact in sums.items()}, unpriced
