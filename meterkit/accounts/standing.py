"""Keep: which companies have not paid, or have not subscribed, as far as Stripe has told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.governance.refusal import Block
from meterkit.ledger import schema
from meterkit.pricing.price import decimals_of

DAY = 24 * 3600

RUNNING = ("active", "trialing", "past_due")
"""Stripe's words for subscriptions that are had: whether one that is past due may go on, its invoice's age decides."""


@dataclass(frozen=True, slots=True)
class Owing:
    """
    Who owes what, by company.

    Attributes:
        blocks: Why a company may not pass.
        overdue: Companies of which an invoice is overdue, were it only since today.
        known: Companies whose Stripe customer has been told of.
        paying: Customers who pay for companies that have another id than theirs.
    """

    blocks: dict[str, Block] = field(default_factory=dict)
    overdue: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    paying: set[str] = field(default_factory=set)


def owing(
    connection: sa.Connection, *, now: int, overdue_days: float | None, subscription: bool, only: str | None = None
) -> Owing:
    """
    Look at what Stripe has told.

    Args:
        connection: To the ledger.
        now: Unix seconds.
        overdue_days: How long an invoice may be overdue; None for ever.
        subscription: Whether a company has to have one.
        only: Look at this company alone.
    """
    found = Owing()
    payers = _companies(connection, only)
    asked = None if only is None else [*payers, only]
    found.paying.update(payers)
    for customer in _customers(connection, asked):
        found.known.update(payers.get(customer, set()) | {customer})
    if subscription:
        for customer in _without_subscription(connection, asked):
            for company in (payers.get(customer, set()) | {customer}) & found.known:
                found.blocks[company] = Block("no_subscription", company, "There is no active subscription.")
    for row in _overdue(connection, asked):
        # One without a due date was charged, and that has failed: it is overdue, whatever Stripe's clock said then.
        since = row.due_at if row.due_at is not None else min(now, row.finalized_at or row.created)
        if since > now:
            continue
        for company in payers.get(row.customer, set()) | {row.customer}:
            found.overdue.add(company)
            if overdue_days is not None and since + overdue_days * DAY <= now:
                found.blocks[company] = _block(company, row, since)  # which tells more than a missing subscription
    return found


def _companies(connection: sa.Connection, only: str | None) -> dict[str, set[str]]:
    """By customer, the companies that it pays for."""
    found: dict[str, set[str]] = {}
    query = sa.select(schema.accounts.c.company, schema.accounts.c.customer)
    if only is not None:
        query = query.filter_by(company=only)
    for row in connection.execute(query):
        found.setdefault(row.customer, set()).add(row.company)
    return found


def _customers(connection: sa.Connection, asked: list[str] | None) -> set[str]:
    told = [_of(schema.customers.c.id, asked), _of(schema.subscriptions.c.customer, asked)]
    return {customer for query in told for customer in connection.scalars(query)}


def _of(column: sa.Column[str], asked: list[str] | None) -> Any:
    return sa.select(column) if asked is None else sa.select(column).where(column.in_(asked))


def _without_subscription(connection: sa.Connection, asked: list[str] | None) -> set[str]:
    running = _of(schema.subscriptions.c.customer, asked).where(
        schema.subscriptions.c.ended_at.is_(None), schema.subscriptions.c.status.in_(RUNNING)
    )
    return _customers(connection, asked) - set(connection.scalars(running))


def _overdue(connection: sa.Connection, asked: list[str] | None) -> sa.CursorResult[tuple[object, ...]]:
    """
    Open invoices that could be, the newest first, so that the oldest is the one that is told of.

    One without a due date is charged, and overdue when that has failed.
    """
    table = schema.invoices
    query = sa.select(table).where(table.c.status == "open", table.c.amount_remaining > 0)
    if asked is not None:
        query = query.where(table.c.customer.in_(asked))
    could_be = sa.or_(table.c.due_at.is_not(None), table.c.attempts > 0)
    return connection.execute(query.where(could_be).order_by(table.c.created.desc(), table.c.id))


def _block(company: str, row: sa.Row[tuple[object, ...]], since: int) -> Block:
    amount = Decimal(row.amount_remaining).scaleb(-decimals_of(row.currency))
    day = datetime.fromtimestamp(since, timezone.utc).strftime("%Y-%m-%d")
    return Block(
        "overdue",
        company,
        f"Invoice {row.number or row.id} of {amount} {row.currency.upper()} is overdue since {day}.",
        settle_url=row.url,
        amount=str(amount),
        currency=row.currency,
        invoice=row.number or row.id,
    )
