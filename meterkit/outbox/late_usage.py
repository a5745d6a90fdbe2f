"""
Usage that arrives after its invoice was finalized.

Stripe accepts its meter event, but bills it on no invoice, neither that one nor the next. Its cost is known: the price
of all usage in the period, less the price of what was reported before. So it can be billed as an item of the customer's
next invoice instead, unless it was free: in a trial, or on an invoice that was voided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import Period, instant
from meterkit.errors import ConfigurationError
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import sum_of
from meterkit.ledger.schema.stripe_mode import foreign_mode
from meterkit.outbox.reports import COLUMNS, Report, State, report_of
from meterkit.pricing.bill import parsed_price
from meterkit.pricing.invoice_calculator import FREE_PAUSES
from meterkit.pricing.opening_balances import is_imported, opening_balance
from meterkit.pricing.price import EXACT, chargeable, digits
from meterkit.pricing.subscription_terms import WITHIN_A_PERIOD

COUNTED = ("pending", "sent", "uncertain", "invoiced")
"""States of reports whose usage has been billed, or will be."""

FREE_STATUSES = {"void": "was voided", "uncollectible": "was marked as uncollectible"}
"""Statuses of invoices that nobody pays, and what they say."""


@dataclass(frozen=True, slots=True)
class Late:
    """
    A report that is too late for its invoice.

    Attributes:
        report: Late report.
        invoice: Id of the invoice that it missed.
        number: Number of that invoice, as the customer sees it; its id if it has no number.
        subscription: Id of the subscription of that invoice.
        period_start: Unix second at which the invoice's billing period begins.
        period_end: Unix second at which the invoice's billing period ends.
        currency: Three-letter currency code.
        amount: Cost of the late usage in whole currency; None if it cannot be told.
        free: Why it is free, so that it is billed nowhere; empty if it is not.
        has_ended: Whether the subscription has ended, so that there is no next invoice.
    """

    report: Report
    invoice: str
    number: str
    subscription: str
    period_start: int
    period_end: int
    currency: str
    amount: Decimal | None
    free: str = ""
    has_ended: bool = False

    def __str__(self) -> str:
        usage = f"{self.report.quantity} {self.report.meter} of {self.report.company}"
        if self.free:
            return f"{usage} arrived after invoice {self.number} was final, and is free: {self.free}"
        cost = "" if self.amount is None else f", {digits(self.amount)} {self.currency},"
        return f"{usage}{cost} arrived after invoice {self.number} was final"


def late_reports(database: Database, state: State, *, since: int | None = None) -> list[Late]:
    """
    Return the reports that reached Stripe, or would reach it, after their invoice was final.

    Args:
        database: Database of the ledger.
        state: State of the reports: ``pending`` or ``sent``.
        since: Only reports that were settled at this Unix second or later.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    reports, invoices = schema.reports.c, schema.invoices.c
    query = _query().where(reports.state == state)
    query = query.where(sa.or_(reports.settled_at.is_(None), reports.settled_at > invoices.finalized_at))
    if since is not None:
        query = query.where(reports.settled_at >= since)
    with database.snapshot() as connection:
        if foreign_mode(connection) is not None:  # those invoices are of another account
            return []
        return [late for row in connection.execute(query).all() for late in _late(connection, row)]


def once_each(found: Iterable[Late]) -> list[Late]:
    """
    Return each late report once.

    Two subscriptions of a customer with a price of one meter both bill all of its usage. What was late for both is
    billed once: to the subscription that was created first.
    """
    by_report: dict[int, Late] = {}
    for late in found:
        by_report.setdefault(late.report.id, late)
    return list(by_report.values())


def has_final_invoice(database: Database, report: Report) -> bool:
    """
    Return whether an invoice that should have the usage of *report* is final.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        rows = connection.execute(_query().where(schema.reports.c.id == report.id)).all()
        return any(True for row in rows for _ in _late(connection, row))


def _query() -> sa.Select[Any]:
    """Return the query for reports, each with the final invoices of the periods that it is in."""
    reports, invoices, subscriptions = schema.reports, schema.invoices, schema.subscriptions
    return (
        sa.select(
            *COLUMNS,
            invoices.c.id.label("invoice"),
            invoices.c.number,
            invoices.c.status.label("invoice_status"),
            invoices.c.billing_reason,
            invoices.c.currency,
            invoices.c.subscription,
            invoices.c.period_start,
            invoices.c.period_end,
            invoices.c.finalized_at,
            subscriptions.c.created.label("subscribed_at"),
            subscriptions.c.ended_at,
            subscriptions.c.trial_start,
            subscriptions.c.trial_end,
        )
        .join(invoices, sa.and_(invoices.c.customer == reports.c.customer, invoices.c.finalized_at.is_not(None)))
        .join(subscriptions, subscriptions.c.id == invoices.c.subscription)
        .where(invoices.c.billing_reason.in_(("subscription_cycle", *WITHIN_A_PERIOD)))
        .where(reports.c.timestamp >= invoices.c.period_start, reports.c.timestamp < invoices.c.period_end)
        .order_by(reports.c.id, subscriptions.c.created, invoices.c.id)
    )


def _late(connection: sa.Connection, row: Any) -> Iterator[Late]:
    held = _held(connection, row)
    if held is None or (row.billing_reason in WITHIN_A_PERIOD and _goes_on(connection, row)):
        return
    price, span = held
    free = _free(connection, row)
    yield Late(
        report=report_of(row),
        invoice=row.invoice,
        number=row.number or row.invoice,
        subscription=row.subscription,
        period_start=row.period_start,
        period_end=row.period_end,
        currency=row.currency,
        amount=None if free else _amount(connection, row, price, span),
        free=free,
        has_ended=row.ended_at is not None,
    )


def _held(connection: sa.Connection, row: Any) -> tuple[str, Period] | None:
    """Return the price that held when the usage happened, and for what part of the period; None if there was none."""
    items, former = schema.items, schema.former_items
    place = {"subscription": row.subscription, "event_name": row.event_name}
    found = None
    for each in connection.execute(sa.select(former).filter_by(**place).where(former.c.until > row.timestamp)):
        since = row.period_start if each.since <= row.subscribed_at else each.since
        if since <= row.timestamp:
            found = each.price, Period(max(row.period_start, since), min(row.period_end, each.until))
    for each in connection.execute(sa.select(items).filter_by(**place)) if found is None else ():
        since = row.period_start if each.since <= row.subscribed_at else max(row.period_start, each.since)
        if since <= row.timestamp:
            found = each.price, Period(since, row.period_end)
    return found


def _goes_on(connection: sa.Connection, row: Any) -> bool:
    """Return whether a period goes on after an invoice that was due within it: then a later one bills the usage."""
    invoices, items = schema.invoices, schema.items
    later = sa.select(invoices.c.id).filter_by(subscription=row.subscription, billing_reason="subscription_cycle")
    later = later.where(invoices.c.period_start <= row.timestamp, invoices.c.period_end > row.timestamp)
    running = sa.select(items.c.id).filter_by(subscription=row.subscription, event_name=row.event_name)
    running = running.where(items.c.period_start <= row.timestamp)
    return connection.execute(later.limit(1)).first() is not None or connection.execute(running).first() is not None


def _free(connection: sa.Connection, row: Any) -> str:
    """Return why late usage is free; empty if it is not."""
    if row.trial_start is not None and row.trial_start <= row.timestamp < row.trial_end:
        return f"the trial lasted until {instant(row.trial_end)}"
    if row.invoice_status in FREE_STATUSES:
        return f"invoice {row.number or row.invoice} {FREE_STATUSES[row.invoice_status]}"
    states = schema.subscription_states
    query = sa.select(states.c.pause).filter_by(subscription=row.subscription)
    query = query.where(states.c.since <= row.finalized_at).order_by(states.c.since.desc())
    pause = connection.scalar(query.limit(1))
    return f"collection was paused, and Stripe {FREE_PAUSES[pause]}" if pause in FREE_PAUSES else ""


def _amount(connection: sa.Connection, row: Any, price: str, span: Period) -> Decimal | None:
    """Return the cost of the usage up to and including this report, less the cost without it."""
    try:
        found = parsed_price(price, row.event_name)
    except ConfigurationError:
        return None
    if found.currency != row.currency:
        return None
    start = span.start if row.trial_end is None else max(span.start, row.trial_end)
    table = schema.reports
    before = (
        sa.select(sum_of(table.c.quantity))
        .where(table.c.customer == row.customer, table.c.event_name == row.event_name)
        .where(sa.or_(table.c.id < row.id, is_imported()))  # what others had reported was before
        .where(table.c.timestamp >= start, table.c.timestamp < span.end, table.c.state.in_(COUNTED))
    )
    opening = opening_balance(connection, row.customer, row.event_name, start, span.end)
    known = max(0, int(connection.scalar(before) or 0) + opening)
    with localcontext(EXACT):
        cost = found.amount(max(0, known + row.quantity)) - found.amount(known)
        return chargeable(cost, row.currency)
