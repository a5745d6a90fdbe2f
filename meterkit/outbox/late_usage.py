"""
Usage that arrives after its invoice was finalized.

Stripe accepts its meter event, but bills it on no invoice, neither that one nor the next. Its cost is known: the price
of all usage in the period, less the price of what was reported before. So it can be billed as an item of the customer's
next invoice instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from meterkit.errors import ConfigurationError
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import sum_of
from meterkit.metering.meter import Meter
from meterkit.outbox.reports import COLUMNS, Report, State, report_of
from meterkit.pricing.price import EXACT, Price
from meterkit.pricing.stripe_price import price_of

COUNTED = ("pending", "sent", "uncertain", "invoiced")
"""States of reports whose usage has been billed, or will be."""


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
        amount: Cost of the late usage in whole currency; None if its price cannot be computed.
    """

    report: Report
    invoice: str
    number: str
    subscription: str
    period_start: int
    period_end: int
    currency: str
    amount: Decimal | None

    def __str__(self) -> str:
        usage = f"{self.report.quantity} {self.report.meter} of {self.report.company}"
        cost = "" if self.amount is None else f", {self.amount} {self.currency},"
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
    reports, invoices, items = schema.reports, schema.invoices, schema.items
    query = (
        sa.select(
            *COLUMNS,
            invoices.c.id.label("invoice"),
            invoices.c.number,
            invoices.c.currency,
            invoices.c.subscription,
            invoices.c.period_start,
            invoices.c.period_end,
            items.c.price,
        )
        .join(invoices, sa.and_(invoices.c.customer == reports.c.customer, invoices.c.finalized_at.is_not(None)))
        .join(
            items,
            sa.and_(items.c.subscription == invoices.c.subscription, items.c.event_name == reports.c.event_name),
        )
        .where(reports.c.state == state, invoices.c.billing_reason == "subscription_cycle")
        .where(reports.c.timestamp >= invoices.c.period_start, reports.c.timestamp < invoices.c.period_end)
        .where(sa.or_(reports.c.settled_at.is_(None), reports.c.settled_at > invoices.c.finalized_at))
        .order_by(reports.c.id)
    )
    if since is not None:
        query = query.where(reports.c.settled_at >= since)
    with database.snapshot() as connection:
        return [
            Late(
                report=report_of(row),
                invoice=row.invoice,
                number=row.number or row.invoice,
                subscription=row.subscription,
                period_start=row.period_start,
                period_end=row.period_end,
                currency=row.currency,
                amount=_amount(connection, row),
            )
            for row in connection.execute(query).all()
        ]


def _amount(connection: sa.Connection, row: Any) -> Decimal | None:
    """Return the cost of the period's usage up to and including this report, less the cost without it."""
    try:
        price: Price = price_of(json.loads(row.price), Meter(row.event_name))
    except (ConfigurationError, KeyError):
        return None
    table = schema.reports
    before = (
        sa.select(sum_of(table.c.quantity))
        .where(table.c.customer == row.customer, table.c.event_name == row.event_name, table.c.id < row.id)
        .where(table.c.timestamp >= row.period_start, table.c.timestamp < row.period_end, table.c.state.in_(COUNTED))
    )
    known = max(0, int(connection.scalar(before) or 0))
    with localcontext(EXACT):
        return price.amount(max(0, known + row.quantity)) - price.amount(known)
