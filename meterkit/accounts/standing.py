"""Whether a company is in good standing, overdue or unknown; the only definition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.payers import companies_by_customer, companies_of
from meterkit.ledger.schema.stripe_mode import foreign_mode
from meterkit.pricing.price import decimals_of

Standing: TypeAlias = Literal["good", "overdue", "unknown"]

ACTIVE = ("active", "trialing", "past_due")
"""Subscription statuses that count as active; a `past_due` one is judged by the age of its invoice."""


BEHIND = ("past_due", "unpaid")
"""Subscription statuses that say that a payment of an invoice has failed, or that its due date has passed."""


@dataclass(frozen=True, slots=True)
class OverdueInvoice:
    """
    An open invoice whose due date has passed, or whose automatic payment has failed.

    Attributes:
        number: Invoice number as the customer sees it, or the Stripe invoice id.
        amount_due: Unpaid amount in the currency's minor unit.
        currency: Three-letter currency code, lower case.
        url: Page on which the invoice can be paid, or None.
        since: Unix second at which the invoice became overdue.
    """

    number: str
    amount_due: int
    currency: str
    url: str | None
    since: int

    @property
    def amount(self) -> Decimal:
        """Unpaid amount in whole currency units."""
        return Decimal(self.amount_due).scaleb(-decimals_of(self.currency))

    def __str__(self) -> str:
        day = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d")
        return f"Invoice {self.number} of {self.amount} {self.currency.upper()} has been overdue since {day}."


@dataclass(frozen=True, slots=True)
class Standings:
    """
    The standing of all companies, or of one.

    Attributes:
        overdue: Overdue invoices by company, oldest first; a company without one is absent.
        known: Companies whose Stripe customer the ledger has a record of.
        subscribed: Companies with an active subscription.
        payers: Stripe customers that pay for companies with an id of their own.
        is_foreign: Whether the ledger belongs to the other one of Stripe's modes, so that nothing is known.
    """

    overdue: dict[str, list[OverdueInvoice]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    subscribed: set[str] = field(default_factory=set)
    payers: set[str] = field(default_factory=set)
    is_foreign: bool = False

    def of(self, company: str) -> Standing:
        """Return the standing of *company*; ``unknown`` if Stripe has reported nothing about it."""
        return "overdue" if company in self.overdue else "good" if company in self.known else "unknown"


def standings(
    connection: sa.Connection, *, now: int, company: str | None = None, companies: Iterable[str] | None = None
) -> Standings:
    """
    Read who is overdue, known and subscribed, from the stored customers, subscriptions and invoices.

    Args:
        connection: Connection to the ledger.
        now: Current time, Unix seconds.
        company: Read only this company; None reads all.
        companies: Read only these companies, at most `meterkit.ledger.bulk.BATCH`; None reads all.
    """
    if foreign_mode(connection) is not None:
        return Standings(is_foreign=True)
    found = Standings()
    only = None if companies is None else list(companies)
    if company is not None:
        only = [company]
    by_customer = companies_by_customer(connection, only)
    selected = None if only is None else [*by_customer, *only]
    found.payers.update(customer for customer in by_customer if by_customer[customer] - {customer})

    def everyone(customer: str) -> set[str]:
        return by_customer.get(customer, set()) | companies_of(connection, customer, None)

    customers, subscriptions = schema.customers, schema.subscriptions
    for customer in connection.scalars(_only(sa.select(customers.c.id), customers.c.id, selected)):
        found.known.update(everyone(customer))
    described = sa.select(subscriptions.c.customer, subscriptions.c.ended_at, subscriptions.c.status)
    for row in connection.execute(_only(described, subscriptions.c.customer, selected)):
        found.known.update(everyone(row.customer))
        if row.ended_at is None and row.status in ACTIVE:
            found.subscribed.update(everyone(row.customer))
    for customer, invoice in _overdue_invoices(connection, selected, now):
        for each in everyone(customer):
            found.overdue.setdefault(each, []).append(invoice)
    return found


def _overdue_invoices(
    connection: sa.Connection, selected: list[str] | None, now: int
) -> list[tuple[str, OverdueInvoice]]:
    """
    Return overdue invoices with their customers, oldest first.

    An invoice without a due date is charged automatically, and is overdue once a payment has failed. An attempt alone
    does not say that: a bank debit is one from the first day on, and takes up to two weeks.
    """
    table, subscriptions = schema.invoices, schema.subscriptions
    has_failed = sa.or_(
        table.c.failed_at.is_not(None),
        table.c.next_attempt_at.is_not(None),
        subscriptions.c.status.in_(BEHIND),
        subscriptions.c.cancel_reason == "payment_failed",
    )
    query = (
        sa.select(table)
        .join_from(table, subscriptions, subscriptions.c.id == table.c.subscription, isouter=True)
        .where(table.c.status == "open", table.c.amount_remaining > 0)
        .where(sa.or_(table.c.due_at <= now, sa.and_(table.c.due_at.is_(None), table.c.attempts > 0, has_failed)))
        .order_by(table.c.created, table.c.id.desc())
    )
    return [
        (
            row.customer,
            OverdueInvoice(
                number=row.number or row.id,
                amount_due=row.amount_remaining,
                currency=row.currency,
                url=row.url,
                # Without a due date, a failed charge is overdue now, even if Stripe's clock was ahead.
                since=row.due_at
                if row.due_at is not None
                else min(now, row.failed_at or row.finalized_at or row.created),
            ),
        )
        for row in connection.execute(_only(query, table.c.customer, selected))
    ]


def _only(query: sa.Select[Any], column: sa.Column[str], selected: list[str] | None) -> sa.Select[Any]:
    return query if selected is None else query.where(column.in_(selected))
