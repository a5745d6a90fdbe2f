"""Reprice a past month under other prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
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
    """

    company: str
    used: dict[str, int]
    currency: str
    old: Decimal | None
    new: Decimal

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
        known = CostCalculator(former or (), meters).prices_of(connection, used) if former is None else {}
    found = []
    for company in sorted(used):
        old = known[company] if former is None else list(former)
        new = for_all if prices_of is None else list(prices_of(company))
        currency = next((price.currency for price in (*old, *new)), "usd")
        cost = cost_of(old, used[company], currency) if old else None
        found.append(SimulatedBill(company, used[company], currency, cost, cost_of(new, used[company], currency)))
    return found
