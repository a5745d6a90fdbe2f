"""Reprice a past month under other prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator, cost_of
from meterkit.pricing.price import Price


@dataclass(frozen=True, slots=True)
class SimulatedBill:
    """
    A company's month by two lists of prices.

    Attributes:
        company: As identified.
        used: By meter.
        currency: Of both amounts.
        old: What it costs by the prices that the company has; None if it is not known which these are.
        new: What it would cost.
    """

    company: str
    used: dict[str, int]
    currency: str
    old: Decimal | None
    new: Decimal

    @property
    def change(self) -> Decimal | None:
        """By how much the new amount is higher."""
        return None if self.old is None else self.new - self.old


def simulate(
    database: Database,
    *,
    start: int,
    end: int,
    meters: Mapping[str, Meter],
    prices: Iterable[Price],
    former: Iterable[Price] | None = None,
) -> list[SimulatedBill]:
    """
    Price the usage of a calendar month in UTC. Only reads.

    Each list is applied as if the month were a billing period. Flat fees without usage count as Stripe counts them;
    licensed prices are in neither amount.

    Args:
        database: Where the ledger is kept.
        start: The unix second in which the month begins.
        end: The one in which the next begins.
        meters: By name.
        prices: The new ones.
        former: The old ones; None takes, for each company, those of its subscriptions as Stripe has told them.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    new = list(prices)
    table = schema.totals
    query = (
        sa.select(table.c.company, table.c.meter, sa.func.sum(table.c.quantity).label("quantity"))
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
        currency = next((price.currency for price in (*old, *new)), "usd")
        cost = cost_of(old, used[company], currency) if old else None
        found.append(SimulatedBill(company, used[company], currency, cost, cost_of(new, used[company], currency)))
    return found
