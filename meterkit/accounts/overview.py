"""Account overview for `kit.customers()` and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.standing import ACTIVE, Standing, standings
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import companies_by_customer, companies_of, customer_of, pays_for_itself
from meterkit.ledger.schema.due import due
from meterkit.ledger.schema.quantities import subtracted, sum_of
from meterkit.ledger.schema.stripe_mode import foreign_mode
from meterkit.pricing.invoice_calculator import FREE_PAUSES


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
        repeated: Event names of meters of which the customer's running subscriptions have several prices: Stripe bills
            each unit at each of them.
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
    repeated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepeatedMeter:
    """
    A meter of which a customer's running subscriptions have several prices.

    Attributes:
        customer: Stripe customer id.
        companies: Companies that the customer pays for.
        event_name: Event name of the meter.
        prices: ``(subscription id, price id)`` of each.
    """

    customer: str
    companies: tuple[str, ...]
    event_name: str
    prices: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        prices = " and ".join(f"{price} on {subscription}" for subscription, price in self.prices)
        return (
            f"{', '.join(self.companies)} has several prices of {self.event_name}, and Stripe bills each unit at each "
            f"of them: {prices}. If that is not meant, cancel one of them, or take the price off it"
        )


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
        repeated = _repeated(connection)
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
                repeated=tuple(each.event_name for each in repeated if each.customer == customer),
            )
        )
    return found


def repeated_meters(database: Database) -> list[RepeatedMeter]:
    """
    Return the meters of which the running subscriptions of a customer who pays for a company have several prices.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        if foreign_mode(connection) is not None:
            return []
        return _repeated(connection)


def _repeated(connection: sa.Connection) -> list[RepeatedMeter]:
    items, subscriptions = schema.items.c, schema.subscriptions.c
    pays = sa.and_(
        subscriptions.id == items.subscription,
        subscriptions.ended_at.is_(None),
        subscriptions.status.in_(ACTIVE),
        sa.or_(subscriptions.pause.is_(None), subscriptions.pause.not_in(FREE_PAUSES)),
    )
    several = (
        sa.select(items.customer, items.event_name)
        .join_from(schema.items, schema.subscriptions, pays)
        .where(items.event_name.is_not(None))
        .group_by(items.customer, items.event_name)
        .having(sa.func.count() > 1)
        .subquery()
    )
    query = (
        sa.select(items.customer, items.event_name, items.subscription, items.price)
        .join_from(schema.items, schema.subscriptions, pays)
        .join(several, sa.and_(several.c.customer == items.customer, several.c.event_name == items.event_name))
        .order_by(items.customer, items.event_name, subscriptions.created, items.id)
    )
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in connection.execute(query):
        price = str(json.loads(row.price)["id"])
        found.setdefault((row.customer, row.event_name), []).append((row.subscription, price))
    if not found:
        return []
    linked = companies_by_customer(connection)
    companies = {
        customer: tuple(sorted(linked.get(customer, set()) - {customer} or companies_of(connection, customer, None)))
        for customer, _ in found
    }
    return [
        RepeatedMeter(customer, companies[customer], event_name, tuple(prices))
        for (customer, event_name), prices in found.items()
        if companies[customer]
    ]


def unlike_metadata(database: Database) -> list[str]:
    """
    Return a sentence about each subscription whose metadata name another company than those of its customer.

    Both are linked, because Stripe bills usage to a customer, on whichever subscription. A link by the application
    says that this is meant.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    subscriptions, customers, accounts = schema.subscriptions.c, schema.customers.c, schema.accounts.c
    query = (
        sa.select(
            subscriptions.id, subscriptions.customer, subscriptions.company, customers.company.label("of_customer")
        )
        .join_from(schema.subscriptions, schema.customers, customers.id == subscriptions.customer)
        .join(schema.accounts, accounts.company == subscriptions.company)
        .where(accounts.customer == subscriptions.customer, accounts.source == "metadata")
        .where(subscriptions.ended_at.is_(None), subscriptions.company != customers.company)
        .order_by(subscriptions.id)
    )
    with database.snapshot() as connection:
        if foreign_mode(connection) is not None:
            return []
        return [
            f"{row.customer} pays for {row.of_customer} by its metadata, and for {row.company} by those of {row.id}: "
            f"Stripe bills the usage of both companies to it. If that is meant, link them with kit.link() or meterkit "
            f"link {row.company} {row.customer}; if not, correct the metadata in Stripe"
            for row in connection.execute(query)
        ]


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
        .where(due(table))
        .group_by(table.c.company, table.c.meter)
        .order_by(table.c.meter)
    )
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query):
        found.setdefault(row.company, []).append(row)
    return found
