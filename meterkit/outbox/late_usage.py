"""
Usage that arrives after its invoice was finalized.

Stripe takes its meter event, and bills it on no invoice, neither that one nor the next. What it costs is known: the
price of all that was used in the period, less the price of what was known before. So it can be billed as an item of the
customer's next invoice instead.
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
from meterkit.metering.meter import Meter
from meterkit.outbox.reports import COLUMNS, Report, State, report_of
from meterkit.pricing.price import EXACT, Price
from meterkit.pricing.stripe_price import price_of

COUNTED = ("pending", "sent", "uncertain", "invoiced")
"""States of reports whose usage is billed, or will be."""


@dataclass(frozen=True, slots=True)
class Late:
    """
    A report that came too late.

    Attributes:
        report: It.
        invoice: The id of the invoice that it missed.
        number: As the customer sees that invoice.
        subscription: Whose it is.
        period_start: Of that invoice's usage, unix seconds.
        period_end: The same.
        currency: Three letters.
        amount: What it costs, in whole currency; None if the price is not known any more.
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
        what = f"{self.report.quantity} {self.report.meter} of {self.report.company}"
        cost = "" if self.amount is None else f", {self.amount} {self.currency},"
        return f"{what}{cost} came after invoice {self.number} was final"


def late_reports(database: Database, state: State, *, since: int | None = None) -> list[Late]:
    """
    The reports in a state that reached, or would reach, Stripe after their invoice was final.

    Args:
        database: Where the ledger is kept.
        state: ``pending`` or ``sent``.
        since: Only those that were sent at this unix second or later.

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
    """What all that was reported of the period until this report costs, less what it costs without this one."""
    try:
        price: Price = price_of(json.loads(row.price), Meter(row.event_name))
    except (ConfigurationError, KeyError):
        return None
    table = schema.reports
    before = (
        sa.select(sa.func.sum(table.c.quantity))
        .where(table.c.customer == row.customer, table.c.event_name == row.event_name, table.c.id < row.id)
        .where(table.c.timestamp >= row.period_start, table.c.timestamp < row.period_end, table.c.state.in_(COUNTED))
    )
    known = max(0, int(connection.scalar(before) or 0))
    with localcontext(EXACT):
        return price.amount(max(0, known + row.quantity)) - price.amount(known)
