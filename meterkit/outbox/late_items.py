"""
Invoice items for late usage that will be on no invoice.

An invoice item waits for the next invoice of its subscription. If the subscription ends before, it waits for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.outbox.late_usage import Late, late_reports, once_each

LOOKED_BACK_SECONDS = 100 * 24 * 3600
"""Age of the items that are looked at."""

HEARD_OF_SECONDS = 2 * 3600
"""Seconds after the end of a period or a subscription within which its invoice must have been heard of."""


@dataclass(frozen=True, slots=True)
class LostItem:
    """
    An invoice item for late usage that will be on no invoice.

    Attributes:
        late: Late usage that it bills.
        reason: Why it will be on no invoice.
    """

    late: Late
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.late}, and is a pending invoice item of {self.late.report.customer} that is on no invoice: "
            f"{self.reason}. Put it on an invoice in Stripe, or delete it and bill it by hand"
        )


def lost_items(database: Database, *, now: int) -> list[LostItem]:
    """
    Return the invoice items of the last 100 days that are on no invoice, though their subscription has been invoiced
    since or has ended.

    Args:
        database: Database of the ledger.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    invoiced = late_reports(database, "invoiced", since=now - LOOKED_BACK_SECONDS)
    # Nothing is made of what costs nothing.
    items = [late for late in invoiced if not late.free and late.amount != 0]
    with database.snapshot() as connection:
        made = once_each(late for late in items if _was_running(connection, late))
        found = [(late, _reason(connection, late, now)) for late in made]
    return [LostItem(late, reason) for late, reason in found if reason]


def _was_running(connection: sa.Connection, late: Late) -> bool:
    """Return whether the subscription of *late* had not ended when the item was made, so that it may be its item."""
    reports, subscriptions = schema.reports.c, schema.subscriptions.c
    made_at = sa.select(reports.settled_at).where(reports.id == late.report.id).scalar_subquery()
    ended = sa.select(subscriptions.id).where(subscriptions.id == late.subscription, subscriptions.ended_at < made_at)
    return connection.scalar(ended) is None


def _reason(connection: sa.Connection, late: Late, now: int) -> str:
    """Return why the item of *late* will be on no invoice; empty if it is on one, may be, or still waits for one."""
    reports, subscriptions, items = schema.reports.c, schema.subscriptions.c, schema.items.c
    made_at = connection.scalar(sa.select(reports.settled_at).where(reports.id == late.report.id))
    ended_at = connection.scalar(sa.select(subscriptions.ended_at).where(subscriptions.id == late.subscription))
    if ended_at is None:
        of_subscription = sa.select(sa.func.min(items.period_start)).where(items.subscription == late.subscription)
        begun = connection.scalar(of_subscription)
        if begun is None or made_at is None or begun <= made_at or begun > now - HEARD_OF_SECONDS:
            return ""
        reason = f"subscription {late.subscription} has begun another period since, without it"
    elif ended_at > now - HEARD_OF_SECONDS:
        return ""
    else:
        reason = f"subscription {late.subscription} has ended"
    return "" if _may_be_on_an_invoice(connection, late) else reason


def _may_be_on_an_invoice(connection: sa.Connection, late: Late) -> bool:
    invoices = schema.invoices.c
    query = sa.select(invoices.lines, invoices.total).where(
        invoices.customer == late.report.customer, invoices.created >= late.period_end
    )
    for row in connection.execute(query):
        lines = json.loads(row.lines)
        if not lines and row.total:  # a former version has read it, without its lines
            return True
        if any(line.get("report") == late.report.identifier for line in lines):
            return True
    return False
