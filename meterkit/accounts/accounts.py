"""
Store of companies and their Stripe customers, subscriptions and invoices.

`meterkit.webhooks.account_sync` writes what it has read from Stripe; everything else reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.accounts.models import (
    Checkout,
    Customer,
    Invoice,
    PastSubscription,
    Proration,
    StripeMeter,
    StripeObject,
    Subscription,
)
from meterkit.accounts.subscription_history import put_subscription
from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import actions, schema
from meterkit.ledger.database import Database, insert_into, put, wrote
from meterkit.ledger.payers import companies_of, companies_paid_by, is_customer, payer_of
from meterkit.ledger.schema.due import due, was_shadowed
from meterkit.pricing.subscription_terms import moments

Source: TypeAlias = Literal["link", "resolver", "metadata", "checkout"]

PRECEDENCE: dict[str, tuple[str, ...]] = {
    "link": ("link", "resolver", "metadata", "checkout"),
    "resolver": ("resolver", "metadata", "checkout"),
    "metadata": ("metadata", "checkout"),
    "checkout": (),
}
"""
For each source, those whose links it may replace.

The application's links outrank metadata in Stripe, and these a Checkout session. Of several sessions, the first counts;
but who subscribes for a company takes over from a customer whose subscriptions have all ended.
"""

NAMED = ("metadata", "checkout")
"""Sources of links that Stripe's objects name."""


class Accounts:
    """
    Store of links, customers, subscriptions and invoices.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def link(self, company: str, customer: str, *, source: Source = "link", by: str = "") -> bool:
        """
        Link *company* to *customer*, which also pays for usage that is not reported yet.

        Args:
            company: Company id.
            customer: Stripe customer id.
            source: Origin of the link.
            by: Who linked them; for the audit trail, which has the links of the application only.

        Returns:
            False if an existing link outranks *source*; nothing was changed.
        """
        with self._database.transaction() as connection:
            if source == "link":
                actions.note(connection, "link", company, customer, by=by, at=int(self._clock()))
            return self._link(connection, company, customer, source)

    def link_all(self, links: Mapping[str, str], *, by: str) -> int:
        """
        Link companies to customers, all of them or none.

        Args:
            links: Customer of each company.
            by: Who links them; for the audit trail.

        Returns:
            Number of links that are new or have changed.
        """
        table = schema.accounts
        changed = 0
        with self._database.transaction() as connection:
            for company, customer in links.items():
                known = sa.select(table.c.company).filter_by(company=company, customer=customer, source="link")
                if connection.scalar(known) is None:
                    actions.note(connection, "link", company, customer, by=by, at=int(self._clock()))
                    self._link(connection, company, customer, "link")
                    changed += 1
        return changed

    def put(
        self,
        connection: sa.Connection,
        found: StripeObject,
        *,
        changed_at: int | None = None,
        past: Sequence[PastSubscription] = (),
        prorations: Sequence[Proration] | None = None,
    ) -> str:
        """
        Store the current state of a Stripe object.

        Args:
            connection: Connection in a transaction.
            found: State of the object.
            changed_at: Unix second at which Stripe changed it, if an event told; None takes the time of reading.
            past: What events say that a subscription was, oldest first.
            prorations: Invoice items that Stripe has made of changes to the items of a subscription; None if not known.

        Returns:
            Company id, if another customer is named as its payer, too; that customer keeps paying for it. Else empty.
        """
        if isinstance(found, Subscription):
            put_subscription(connection, found, changed_at=changed_at, past=past, prorations=prorations)
            if found.ended_at is None:
                self._take_over(connection, found)
                if found.company is not None:  # Checkout writes its metadata there
                    return self._link_named(connection, found.company, found.customer)
        elif isinstance(found, Invoice):
            put(schema.invoices, connection, asdict(found))
        elif isinstance(found, StripeMeter):
            put(schema.stripe_meters, connection, asdict(found))
        elif isinstance(found, Checkout):
            is_back = self._has_ended(connection, found.company, but=found.customer)
            self._link(connection, found.company, found.customer, "checkout", replaces=NAMED if is_back else ())
            payer = connection.execute(sa.select(schema.accounts).filter_by(company=found.company)).one()
            return found.company if payer.source == "checkout" and payer.customer != found.customer else ""
        else:
            put(schema.customers, connection, asdict(found))
            return self._link_by_metadata(connection, found)
        return ""

    def mark_payment_failed(self, connection: sa.Connection, invoices: Iterable[str], at: int) -> None:
        """Record that payments of *invoices* have failed at the Unix second *at*; the first time stays."""
        table = schema.invoices
        unknown = sa.update(table).where(table.c.id.in_(list(invoices)), table.c.failed_at.is_(None))
        connection.execute(unknown.values(failed_at=at))

    def remove_invoice(self, connection: sa.Connection, identity: str) -> None:
        """Delete an invoice that Stripe no longer has: a deleted draft."""
        connection.execute(sa.delete(schema.invoices).filter_by(id=identity))

    def knows_subscriptions(self, customer: str) -> bool:
        """Return whether all subscriptions of *customer* have been read; webhook events tell of changes since."""
        query = sa.select(schema.customers.c.subscriptions_read_at).filter_by(id=customer)
        with self._database.snapshot() as connection:
            return connection.scalar(query) is not None

    def mark_subscriptions_read(self, connection: sa.Connection, begun: int, *, customer: str | None = None) -> None:
        """
        Record that all subscriptions were read of *customer*; or of all customers that were read since.

        Others are not in Stripe's lists: those of a test clock.

        Args:
            connection: Connection in a transaction.
            begun: Unix second at which reading began.
            customer: Id of the only customer whose subscriptions were read, or None.
        """
        table = schema.customers
        read = sa.update(table).values(subscriptions_read_at=begun)
        connection.execute(read.where(table.c.checked_at >= begun if customer is None else table.c.id == customer))

    def unsettled_invoices(self, *, checked_before: int) -> list[str]:
        """Return the ids of draft and open invoices that were last checked before the Unix second *checked_before*."""
        table = schema.invoices
        query = sa.select(table.c.id).where(table.c.status.in_(["draft", "open"]), table.c.checked_at < checked_before)
        with self._database.snapshot() as connection:
            return list(connection.scalars(query))

    def invoices(self, customer: str, start: int, end: int) -> list[Invoice]:
        """Return the invoices of *customer* for billing periods that overlap *start* to *end*, oldest first."""
        table = schema.invoices
        query = (
            sa.select(table)
            .filter_by(customer=customer, billing_reason="subscription_cycle")
            .where(table.c.period_start < end, table.c.period_end > start)
            .order_by(table.c.period_start, table.c.id)
        )
        with self._database.snapshot() as connection:
            names = [field.name for field in fields(Invoice)]
            return [Invoice(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)]

    def boundaries(self, *, since: int | None = None) -> dict[str, tuple[int, ...]]:
        """
        Return the known boundaries of billing periods by company, in Unix seconds, except those on a full hour.

        The end of a subscription or a trial and the change of a price are among them.

        Args:
            since: Earliest boundary, Unix seconds; by default the start of this hour. The latest is the end of the next
                hour.
        """
        accounts = schema.accounts
        this_hour = hour_of(int(self._clock()))
        begin = this_hour if since is None else since
        found: dict[str, set[int]] = {}
        with self._database.snapshot() as connection:
            for table, edge in moments():
                query = (
                    sa.select(table.c.customer, accounts.c.company, edge.label("edge"))
                    .join_from(table, accounts, table.c.customer == accounts.c.customer, isouter=True)
                    .where(edge > begin, edge < this_hour + 2 * HOUR, edge % HOUR != 0)
                )
                for row in connection.execute(query):
                    for company in companies_of(connection, row.customer, row.company):
                        found.setdefault(company, set()).add(row.edge)
        return {company: tuple(sorted(edges)) for company, edges in found.items()}

    def customer_of(self, company: str) -> str | None:
        """Return the Stripe customer that pays for *company*, or None."""
        with self._database.snapshot() as connection:
            return payer_of(connection, company)

    def companies_of(self, customer: str) -> set[str]:
        """Return the companies that a Stripe customer pays for."""
        with self._database.snapshot() as connection:
            return companies_paid_by(connection, customer)

    def linked_companies(self, *, limit: int) -> list[str]:
        """Return at most *limit* linked companies."""
        with self._database.snapshot() as connection:
            return list(connection.scalars(sa.select(schema.accounts.c.company).limit(limit)))

    def unlinked(self, *, shadowed: bool = False) -> dict[str, int]:
        """
        Return unlinked companies with unreported usage, each with the oldest window of that usage, Unix seconds.

        Args:
            shadowed: Whether to include what was counted in shadow mode, which is not waited for.
        """
        usage, accounts = schema.usage, schema.accounts
        query = (
            sa.select(usage.c.company, sa.func.min(usage.c.window).label("oldest"))
            .join_from(usage, accounts, usage.c.company == accounts.c.company, isouter=True)
            .where(due(usage), usage.c.company != NOBODY, accounts.c.customer.is_(None))
            .group_by(usage.c.company)
            .order_by(usage.c.company)
        )
        if not shadowed:
            query = query.where(~was_shadowed(usage))
        with self._database.snapshot() as connection:
            found = query.where(~is_customer(connection, usage.c.company))
            return {row.company: row.oldest for row in connection.execute(found)}

    def _link_by_metadata(self, connection: sa.Connection, customer: Customer) -> str:
        """Update the links that come from metadata; return the company if another customer's metadata name it, too."""
        accounts, customers = schema.accounts, schema.customers
        named = None if customer.deleted else customer.company
        linked = sa.select(accounts.c.company).filter_by(customer=customer.id, source="metadata")
        if not customer.deleted:
            by_subscription = sa.select(schema.subscriptions.c.company).filter_by(customer=customer.id, ended_at=None)
            linked = linked.where(
                accounts.c.company.not_in(by_subscription.where(schema.subscriptions.c.company.is_not(None)))
            )
        for company in connection.scalars(linked.where(accounts.c.company != (named or ""))).all():
            connection.execute(sa.delete(accounts).filter_by(company=company))
            others = sa.select(customers.c.id).filter_by(company=company, deleted=False).order_by(customers.c.id)
            successor = connection.scalar(others.where(customers.c.id != customer.id).limit(1))
            if successor is not None:
                self._link(connection, company, successor, "metadata")
        return "" if named is None else self._link_named(connection, named, customer.id)

    def _take_over(self, connection: sa.Connection, running: Subscription) -> None:
        """Link the company of a *running* subscription to its customer, if those of the former payer have ended."""
        customers = schema.customers
        named = running.company or connection.scalar(
            sa.select(customers.c.company).filter_by(id=running.customer, deleted=False)
        )
        if named is not None and self._has_ended(connection, named, but=running.customer):
            self._link(connection, named, running.customer, "metadata")

    def _has_ended(self, connection: sa.Connection, company: str, *, but: str) -> bool:
        """Return whether another customer than *but* pays for *company*, whose subscriptions have all ended."""
        accounts, subscriptions = schema.accounts, schema.subscriptions
        row = connection.execute(sa.select(accounts).filter_by(company=company)).one_or_none()
        if row is None or row.customer == but:
            return False
        ends = connection.scalars(sa.select(subscriptions.c.ended_at).filter_by(customer=row.customer)).all()
        return bool(ends) and None not in ends

    def _link_named(self, connection: sa.Connection, named: str, customer: str) -> str:
        """Link *named*, a company in metadata of *customer*; return it if other metadata name another customer."""
        accounts = schema.accounts
        row = connection.execute(sa.select(accounts).filter_by(company=named)).one_or_none()
        if row is not None and row.source == "metadata" and row.customer != customer:
            return named
        self._link(connection, named, customer, "metadata")
        return ""

    def _link(
        self,
        connection: sa.Connection,
        company: str,
        customer: str,
        source: Source,
        *,
        replaces: tuple[str, ...] = (),
    ) -> bool:
        accounts = schema.accounts
        new = {"customer": customer, "linked_at": int(self._clock()), "source": source}
        statement = insert_into(accounts, connection).values(company=company, **new)
        is_allowed = accounts.c.source.in_(replaces or PRECEDENCE[source])
        return wrote(
            connection, statement.on_conflict_do_update(index_elements=["company"], set_=new, where=is_allowed)
        )
