"""Preview of the next invoice, computed from the ledger alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import shadowed
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import payer_of
from meterkit.ledger.rating.rows import Raters
from meterkit.ledger.schema.due import due
from meterkit.ledger.schema.quantities import subtracted, sum_of
from meterkit.pricing.bill import PreviewLine
from meterkit.pricing.invoice_calculator import next_invoice
from meterkit.pricing.opening_balances import opening_balance
from meterkit.pricing.rates.amounts import add_lines
from meterkit.pricing.subscription_terms import SubscriptionTerms, read_terms

BILLED = ("pending", "sent", "uncertain")
"""States of reports that Stripe has received, or will receive."""

ASSUMED = (
    "there is no tax, credit or customer balance, and no discount but those of the subscription and its customer",
    "there are no invoice items besides those that are shown, and nothing is changed before the invoice",
    "only meterkit sends meter events for this customer",
)
"""Assumptions of every preview: Stripe applies what they leave out when it finalises the invoice."""


@dataclass(frozen=True, slots=True)
class Preview:
    """
    The next invoice of one subscription, as far as usage is known.

    Attributes:
        company: Company id, as the application knows it.
        customer: Id of the Stripe customer that pays.
        subscription: Id of the Stripe subscription.
        status: Stripe's status of the subscription.
        currency: Three-letter currency code.
        period_start: Unix second at which the billing period of the usage begins.
        period_end: Unix second at which the billing period of the usage ends.
        lines: Invoice lines before discounts, in the order of the subscription's prices.
        discount: Sum of the discounts, in whole currency.
        total: Sum of the lines less the discount, in whole currency; None if it cannot be told.
        assumed: Assumptions that the amounts rest on, one sentence each.
        unknown: Why the total cannot be told, one sentence each; empty if it can.
    """

    company: str
    customer: str
    subscription: str
    status: str
    currency: str
    period_start: int
    period_end: int
    lines: tuple[PreviewLine, ...]
    discount: Decimal
    total: Decimal | None
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]


def previews(database: Database, company: str, *, clock: Callable[[], float]) -> list[Preview]:
    """
    Return the next invoice of each subscription that pays for *company*, including usage that is not reported yet.

    Raises:
        LedgerError: The ledger cannot be read.
        ConfigurationError: A price cannot be computed; the message names it and says why.
    """
    with database.snapshot() as connection:
        customer = payer_of(connection, company)
        if customer is None:
            return []
        return [
            _preview(connection, company, customer, terms, raters=database.raters, now=clock())
            for terms in read_terms(connection, [customer], with_invoices=True).get(customer, ())
            if terms.items
        ]


def _preview(
    connection: sa.Connection,
    company: str,
    customer: str,
    terms: SubscriptionTerms,
    *,
    raters: Raters,
    now: float,
) -> Preview:
    bill = next_invoice(terms, CustomerUsage(connection, customer))
    add_lines(connection, bill, terms, raters)
    assumed = [*ASSUMED, *bill.assumed]
    if bill.period.end <= now:
        assumed.append("the period has ended, and the next one is not known yet: run meterkit sync")
    return Preview(
        company=company,
        customer=customer,
        subscription=terms.subscription.id,
        status=terms.subscription.status,
        currency=bill.currency,
        period_start=bill.period.start,
        period_end=bill.period.end,
        lines=tuple(bill.lines),
        discount=bill.discount,
        total=None if bill.unknown else bill.total,
        assumed=tuple(assumed),
        unknown=tuple(bill.unknown),
    )


class CustomerUsage:
    """
    What the invoices of a Stripe customer bill: usage that is reported, or still to be reported.

    Args:
        connection: Connection to the ledger.
        customer: Id of the Stripe customer.
    """

    def __init__(self, connection: sa.Connection, customer: str) -> None:
        self._connection = connection
        self._customer = customer

    def between(self, event_name: str, start: int, end: int) -> int:
        """Return the quantity used between two Unix seconds, *end* excluded."""
        usage, accounts = schema.usage, schema.accounts
        pays_for = sa.select(accounts.c.company).filter_by(customer=self._customer)
        waiting = (
            sa.select(sum_of(subtracted(usage.c.quantity, usage.c.reported)))
            .where(due(usage), usage.c.event_name.in_((event_name, shadowed(event_name))))
            .where(sa.or_(usage.c.company == self._customer, usage.c.company.in_(pays_for)))
            .where(usage.c.last_used >= start, usage.c.last_used < end)
        )
        reported = self._reported(event_name, start, end).where(schema.reports.c.state.in_(BILLED))
        opening = opening_balance(self._connection, self._customer, event_name, start, end)
        return self._sum(reported) + self._sum(waiting) + opening

    def received(self, event_name: str, start: int, end: int) -> int:
        """Return the part of it that Stripe had received by *end*."""
        reports = schema.reports
        sent = self._reported(event_name, start, end)
        opening = opening_balance(self._connection, self._customer, event_name, start, end)
        return self._sum(sent.where(reports.c.state == "sent", reports.c.settled_at <= end)) + opening

    def _reported(self, event_name: str, start: int, end: int) -> sa.Select[Any]:
        reports = schema.reports
        return (
            sa.select(sum_of(reports.c.quantity))
            .where(reports.c.customer == self._customer, reports.c.event_name == event_name)
            .where(reports.c.timestamp >= start, reports.c.timestamp < end)
        )

    def _sum(self, query: sa.Select[Any]) -> int:
        return int(self._connection.scalar(query) or 0)
