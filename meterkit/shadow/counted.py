"""What meterkit has counted in a month, in shadow mode or not, by payer and interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import customer_of
from meterkit.ledger.schema.quantities import sum_of
from meterkit.metering.meter import Meter
from meterkit.pricing.cost import CostCalculator
from meterkit.pricing.price import Price
from meterkit.shadow.comparison import Sums, start_of


@dataclass(frozen=True, slots=True)
class Payers:
    """
    Who pays.

    Attributes:
        customers: Stripe customer of each company that has one.
        companies: Companies of each Stripe customer; empty for a customer who pays for none.
    """

    customers: Mapping[str, str]
    companies: Mapping[str, tuple[str, ...]]

    def of(self, company: str) -> str:
        """Return the Stripe customer of *company*; its own id if it has none."""
        return self.customers.get(company, company)

    def named(self) -> dict[str, tuple[tuple[str, ...], str | None]]:
        """Return companies and customer by either id."""
        found: dict[str, tuple[tuple[str, ...], str | None]] = {
            company: ((company,), customer) for company, customer in self.customers.items()
        }
        return found | {customer: (companies, customer) for customer, companies in self.companies.items()}


def payers_of(database: Database) -> Payers:
    """
    Return the payers of all companies that are linked or have used something, and the other customers that are known.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    accounts, totals, known = schema.accounts, schema.totals, schema.customers
    with database.snapshot() as connection:
        linked = {row.company: row.customer for row in connection.execute(sa.select(accounts))}
        used = connection.scalars(sa.select(totals.c.company).distinct()).all()
        others = connection.scalars(sa.select(known.c.id).where(~known.c.deleted)).all()
        found = {each: customer_of(connection, each, linked.get(each)) for each in (*linked, *used)}
    customers = {company: customer for company, customer in found.items() if customer is not None}
    companies: dict[str, list[str]] = {customer: [] for customer in others}
    for company, customer in sorted(customers.items()):
        companies.setdefault(customer, []).append(company)
    return Payers(customers, {customer: tuple(ids) for customer, ids in companies.items()})


def counted(database: Database, payers: Payers, *, start: int, end: int, step: int | None, by_customer: bool) -> Sums:
    """
    Return what was counted between two whole hours.

    Args:
        database: Database of the ledger.
        payers: Who pays.
        start: Unix second at which the range begins.
        end: Unix second at which it ends, excluded.
        step: Length of an interval in seconds; None for the whole range.
        by_customer: Whether to add up the companies of a Stripe customer.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    usage = schema.usage
    hour = (usage.c.window - usage.c.window % HOUR).label("hour")
    query = (
        sa.select(usage.c.company, usage.c.meter, hour, sum_of(usage.c.quantity).label("quantity"))
        .where(usage.c.window >= start, usage.c.window < end)
        .where(usage.c.company != NOBODY, usage.c.event_name != "")
        .group_by(usage.c.company, usage.c.meter, hour)
    )
    found: Sums = {}
    with database.snapshot() as connection:
        for row in connection.execute(query):
            payer = payers.of(row.company) if by_customer else row.company
            sums = found.setdefault((payer, row.meter), {})
            at = start_of(row.hour, step, month=start)
            sums[at] = sums.get(at, Decimal(0)) + int(row.quantity)
    return found


def known_prices(
    database: Database, meters: Mapping[str, Meter], companies: Iterable[str]
) -> dict[str, tuple[Price, ...]]:
    """
    Return the metered prices of each company's subscriptions, as far as they were read from Stripe.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        return CostCalculator((), meters).prices_of(connection, companies)
