"""Account overview for `kit.customers()` and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.standing import Standing, standings
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import customer_of, pays_for_itself
from meterkit.ledger.schema.quantities import subtracted, sum_of


@dataclass(frozen=True, slots=True)
class AccountOverview:
    """
    One company's billing state, for `kit.customers()`.

    Attributes:
        company: Company id, as the application knows it.
        customer: Stripe customer id, or None if the company is not linked.
        source: How the link was made: ``link``, ``resolver``, ``metadata`` or ``checkout``; None if there is no link.
        name: Name of the customer in Stripe, or empty.
        subscriptions: ``(id, status, end of the billing period in Unix seconds)`` of each that has not ended.
        standing: ``good``, ``overdue`` or ``unknown``; see `meterkit.accounts.standing`.
        overdue: Overdue amount in the currency's minor unit, by currency.
        waiting: Quantity that is not reported yet, by meter name, in the meter's unit.
        oldest: Start of the oldest unreported window, Unix seconds, or None; Stripe accepts usage up to 35 days old.
        unbilled: Quantity of the last 40 days that Stripe has and no price bills, by meter name, in the meter's unit.
        plan: Name of the company's plan, or None.
    """

    company: str
    customer: str | None
    source: str | None
    name: str
    subscriptions: tuple[tuple[str, str, int], ...]
    standing: Standing
    overdue: dict[str, int]
    waiting: dict[str, int]
    oldest: int | None
    unbilled: dict[str, int]
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class UnlinkedCustomer:
    """
    A Stripe customer that pays for no company.

    Attributes:
        customer: Stripe customer id.
        name: Name in Stripe, or empty.
        subscriptions: ``(id, status, end of the billing period in Unix seconds)`` of each that has not ended.
    """

    customer: str
    name: str
    subscriptions: tuple[tuple[str, str, int], ...]


def unlinked_customers(database: Database) -> list[UnlinkedCustomer]:
    """
    Return the Stripe customers that pay for no company, as far as they are known, by id.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.customers
    linked = sa.select(schema.accounts.c.customer)
    query = sa.select(table).filter_by(deleted=False).where(table.c.id.not_in(linked)).order_by(table.c.id)
    with database.snapshot() as connection:
        found = [row for row in connection.execute(query) if not pays_for_itself(connection, row.id)]
        subscriptions = _subscriptions(connection)
    return [UnlinkedCustomer(row.id, row.name, tuple(subscriptions.get(row.id, []))) for row in found]


def accounts(
    database: Database, *, clock: Callable[[], float], unbilled: Mapping[str, Mapping[str, int]]
) -> list[AccountOverview]:
    """
    Return the billing state of every company that has usage or a link.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
        unbilled: Quantity that no price bills, by company and meter name.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    now = int(clock())
    with database.snapshot() as connection:
        linked = {row.company: row for row in connection.execute(sa.select(schema.accounts))}
        customers = {row.id: row for row in connection.execute(sa.select(schema.customers))}
        subscriptions = _subscriptions(connection)
        standing = standings(connection, now=now)
        waiting = _waiting(connection)
        used = set(connection.scalars(sa.select(schema.usage.c.company).distinct()))
        companies = sorted((used | linked.keys()) - {NOBODY})
        payers = {
            company: customer_of(connection, company, linked[company].customer if company in linked else None)
            for company in companies
        }
    found = []
    for company in companies:
        link = linked.get(company)
        customer = payers[company]
        overdue: dict[str, int] = {}
        for invoice in standing.overdue.get(company, ()):
            overdue[invoice.currency] = overdue.get(invoice.currency, 0) + invoice.amount_due
        of_company = waiting.get(company, [])
        found.append(
            AccountOverview(
                company=company,
                customer=customer,
                source=None if link is None else link.source,
                name=customers[customer].name if customer in customers else "",
                subscriptions=tuple(subscriptions.get(customer or "", [])),
                standing=standing.of(company),
                overdue=overdue,
                waiting={row.meter: int(row.quantity) for row in of_company},
                oldest=min((row.oldest for row in of_company), default=None),
                unbilled=dict(unbilled.get(company, {})),
            )
        )
    return found


def _subscriptions(connection: sa.Connection) -> dict[str, list[tuple[str, str, int]]]:
    table, items = schema.subscriptions, schema.items
    query = (
        sa.select(table.c.id, table.c.customer, table.c.status, sa.func.max(items.c.period_end).label("period_end"))
        .join_from(table, items, items.c.subscription == table.c.id, isouter=True)
        .where(table.c.ended_at.is_(None))
        .group_by(table.c.id, table.c.customer, table.c.status)
        .order_by(table.c.id)
    )
    found: dict[str, list[tuple[str, str, int]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.customer, []).append((row.id, row.status, row.period_end or 0))
    return found


def _waiting(connection: sa.Connection) -> dict[str, list[Any]]:
    table = schema.usage
    query = (
        sa.select(
            table.c.company,
            table.c.meter,
            sum_of(subtracted(table.c.quantity, table.c.reported)).label("quantity"),
            sa.func.min(table.c.window).label("oldest"),
        )
        .where(table.c.quantity != table.c.reported)
        .group_by(table.c.company, table.c.meter)
        .order_by(table.c.meter)
    )
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        found.setdefault(row.company, []).append(row)
    return found
