"""
Store of companies and their Stripe customers, subscriptions and invoices.

`meterkit.webhooks.account_sync` writes what Stripe says; everything else reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.accounts.models import Customer, Invoice, StripeObject, Subscription
from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import schema
from meterkit.ledger.database import Database, insert_into, put, wrote
from meterkit.ledger.payers import is_customer, payer_of

Source: TypeAlias = Literal["link", "resolver", "metadata"]

PRECEDENCE: dict[str, tuple[str, ...]] = {
    "link": ("link", "resolver", "metadata"),
    "resolver": ("resolver", "metadata"),
    "metadata": ("metadata",),
}
"""Who may replace whose word on which customer pays: what the application says outweighs what stands in Stripe."""


class Accounts:
    """
    What the ledger knows of who pays.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def link(self, company: str, customer: str, *, source: Source = "link") -> bool:
        """
        From now on *customer* pays for *company*, also for what waits to be reported.

        Returns:
            False if somebody whose word outweighs *source* has said otherwise.
        """
        with self._database.transaction() as connection:
            return self._link(connection, company, customer, source)

    def put(self, connection: sa.Connection, found: StripeObject) -> str:
        """
        Write down what Stripe says now of an object.

        Returns:
            The company, where the metadata of two customers name the same; the first one goes on to pay for it.
        """
        if isinstance(found, Subscription):
            _put_subscription(connection, found)
        elif isinstance(found, Invoice):
            put(schema.invoices, connection, asdict(found))
        else:
            put(schema.customers, connection, asdict(found))
            return self._follow_metadata(connection, found)
        return ""

    def remove_invoice(self, connection: sa.Connection, identity: str) -> None:
        """Stripe has it no more: it was a draft, and was deleted."""
        connection.execute(sa.delete(schema.invoices).filter_by(id=identity))

    def unsettled_invoices(self, *, checked_before: int) -> list[str]:
        """Invoices that are drafts or open, for all that was known before *checked_before*."""
        table = schema.invoices
        query = sa.select(table.c.id).where(table.c.status.in_(["draft", "open"]), table.c.checked_at < checked_before)
        with self._database.snapshot() as connection:
            return list(connection.scalars(query))

    def invoices(self, customer: str, start: int, end: int) -> list[Invoice]:
        """The invoices of billing periods that overlap a time, oldest first."""
        table = schema.invoices
        query = (
            sa.select(table)
            .filter_by(customer=customer, billing_reason="subscription_cycle")
            .where(table.c.period_start < end, table.c.period_end > start)
            .order_by(table.c.period_start, table.c.id)
        )
        with self._database.snapshot() as connection:
            return [Invoice(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's way

    def boundaries(self, *, since: int | None = None) -> dict[str, tuple[int, ...]]:
        """
        By company, the known boundaries of its billing periods, but those on a full hour.

        They are from *since*, by default the beginning of this hour, to the end of the next hour.
        """
        items, accounts = schema.items, schema.accounts
        this_hour = hour_of(int(self._clock()))
        begin = this_hour if since is None else since
        found: dict[str, set[int]] = {}
        for edge in (items.c.period_start, items.c.period_end):
            query = (
                sa.select(items.c.customer, accounts.c.company, edge.label("edge"))
                .join_from(items, accounts, items.c.customer == accounts.c.customer, isouter=True)
                .where(edge > begin, edge < this_hour + 2 * HOUR, edge % HOUR != 0)
            )
            with self._database.snapshot() as connection:
                for row in connection.execute(query):
                    for company in {row.customer, row.company} - {None}:
                        found.setdefault(company, set()).add(row.edge)
        return {company: tuple(sorted(edges)) for company, edges in found.items()}

    def customer_of(self, company: str) -> str | None:
        """Who pays for *company*."""
        with self._database.snapshot() as connection:
            return payer_of(connection, company)

    def linked_companies(self, *, limit: int) -> list[str]:
        """So many of the companies that have a Stripe customer, at most."""
        with self._database.snapshot() as connection:
            return list(connection.scalars(sa.select(schema.accounts.c.company).limit(limit)))

    def unlinked(self) -> dict[str, int]:
        """Companies with usage that waits, because nobody has said who pays for them, and its oldest window."""
        usage, accounts = schema.usage, schema.accounts
        query = (
            sa.select(usage.c.company, sa.func.min(usage.c.window).label("oldest"))
            .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
            .where(usage.c.quantity != usage.c.reported, usage.c.company != NOBODY, accounts.c.customer.is_(None))
            .where(~is_customer(usage.c.company))
            .group_by(usage.c.company)
            .order_by(usage.c.company)
        )
        with self._database.snapshot() as connection:
            return {row.company: row.oldest for row in connection.execute(query)}

    def _follow_metadata(self, connection: sa.Connection, customer: Customer) -> str:
        """Let the metadata say who pays; answer the company if another customer's names it, too."""
        accounts, customers = schema.accounts, schema.customers
        named = None if customer.deleted else customer.company
        learnt = sa.select(accounts.c.company).filter_by(customer=customer.id, source="metadata")
        for company in connection.scalars(learnt.where(accounts.c.company != (named or ""))).all():
            connection.execute(sa.delete(accounts).filter_by(company=company))
            heirs = sa.select(customers.c.id).filter_by(company=company, deleted=False).order_by(customers.c.id)
            heir = connection.scalar(heirs.where(customers.c.id != customer.id).limit(1))
            if heir is not None:
                self._link(connection, company, heir, "metadata")
        if named is None:
            return ""
        row = connection.execute(sa.select(accounts).filter_by(company=named)).one_or_none()
        if row is not None and row.source == "metadata" and row.customer != customer.id:
            return named
        self._link(connection, named, customer.id, "metadata")
        return ""

    def _link(self, connection: sa.Connection, company: str, customer: str, source: Source) -> bool:
        accounts = schema.accounts
        new = {"customer": customer, "linked_at": int(self._clock()), "source": source}
        statement = insert_into(accounts, connection).values(company=company, **new)
        may = accounts.c.source.in_(PRECEDENCE[source])
        return wrote(connection, statement.on_conflict_do_update(index_elements=["company"], set_=new, where=may))


def _put_subscription(connection: sa.Connection, subscription: Subscription) -> None:
    row = asdict(subscription)
    items = row.pop("items")
    put(schema.subscriptions, connection, row)
    connection.execute(sa.delete(schema.items).filter_by(subscription=subscription.id))
    if items:
        connection.execute(sa.insert(schema.items), list(items))
