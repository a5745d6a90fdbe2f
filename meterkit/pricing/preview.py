"""Preview of the next invoice, computed from the ledger alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from meterkit.errors import ConfigurationError
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import payer_of
from meterkit.ledger.schema.quantities import subtracted, sum_of
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Line
from meterkit.pricing.stripe_price import price_of

BILLED = ("pending", "sent", "uncertain")
"""States of reports that Stripe has received, or will receive."""

ASSUMED = (
    "there is no tax, discount, credit or customer balance",
    "there are no invoice items besides the subscription's prices, and these do not change within the period",
    "only meterkit sends meter events for this customer",
)
"""Assumptions of every preview: Stripe applies what they leave out when it finalises the invoice."""


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """
    One line of an invoice.

    Attributes:
        price: Id of the Stripe price.
        event_name: Event name of the meter; None for a licensed price, which is billed in advance.
        quantity: Units on this line; 0 for a flat fee.
        unit_price: Price of one unit or one package, or the flat fee, in whole currency.
        amount: Line total in whole currency, rounded to the minor unit.
        tier: Number of the tier, from 1; 0 if the price has no tiers.
    """

    price: str
    event_name: str | None
    quantity: int
    unit_price: Decimal
    amount: Decimal
    tier: int


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
        lines: Invoice lines, in the order of the subscription's prices.
        total: Sum of the lines, in whole currency.
        assumed: Assumptions that the amounts rest on, one sentence each.
    """

    company: str
    customer: str
    subscription: str
    status: str
    currency: str
    period_start: int
    period_end: int
    lines: tuple[PreviewLine, ...]
    total: Decimal
    assumed: tuple[str, ...]


def previews(database: Database, company: str, *, clock: Callable[[], float]) -> list[Preview]:
    """
    Return the next invoice of each subscription that pays for *company*, including usage that is not reported yet.

    Raises:
        LedgerError: The ledger cannot be read.
        ConfigurationError: A price cannot be computed; the message names it and says why.
    """
    found = []
    with database.snapshot() as connection:
        customer = payer_of(connection, company)
        running = sa.select(schema.subscriptions).filter_by(customer=customer, ended_at=None)
        for subscription in connection.execute(running.order_by(schema.subscriptions.c.created)).all():
            items = sa.select(schema.items).filter_by(subscription=subscription.id).order_by(schema.items.c.id)
            rows = connection.execute(items).all()
            if customer is not None and rows:
                found.append(
                    _preview(connection, company, customer, subscription=subscription, items=rows, now=clock())
                )
    return found


def _preview(
    connection: sa.Connection, company: str, customer: str, *, subscription: Any, items: Sequence[Any], now: float
) -> Preview:
    lines: list[PreviewLine] = []
    assumed = list(ASSUMED)
    currency = ""
    end = max(item.period_end for item in items)
    for item in items:
        known = json.loads(item.price)
        currency = known["currency"]
        if item.event_name is None and subscription.cancel_at is not None and subscription.cancel_at <= end:
            continue  # billed in advance, and there is no next period
        used = item.quantity or 0
        if item.event_name is not None:
            used = max(0, _used(connection, customer, item.event_name, item.period_start, item.period_end))
        lines += [_line(known["id"], item.event_name, line) for line in _lines(known, item.event_name, used)]
    if subscription.status == "trialing":
        assumed.append("the trial is over; Stripe bills nothing while it lasts")
    if end <= now:
        assumed.append("the period has ended, and the next one is not known yet: run meterkit sync")
    with localcontext(EXACT):
        total = sum((line.amount for line in lines), Decimal(0))
    return Preview(
        company=company,
        customer=customer,
        subscription=subscription.id,
        status=subscription.status,
        currency=currency,
        period_start=min(item.period_start for item in items),
        period_end=end,
        lines=tuple(lines),
        total=total,
        assumed=tuple(assumed),
    )


def _lines(known: dict[str, Any], event_name: str | None, used: int) -> list[Line]:
    try:
        return price_of(known, Meter(event_name or "licensed")).lines(used)
    except (ConfigurationError, KeyError) as error:
        raise ConfigurationError(f"Stripe's price {known.get('id')} cannot be computed here: {error}") from error


def _line(price: str, event_name: str | None, line: Line) -> PreviewLine:
    return PreviewLine(price, event_name, line.quantity, line.price, line.amount, line.tier)


def _used(connection: sa.Connection, customer: str, event_name: str, start: int, end: int) -> int:
    """Return the quantity that the invoice of a period will bill for a meter: reported, or still to be reported."""
    reports, usage, accounts = schema.reports, schema.usage, schema.accounts
    reported = (
        sa.select(sum_of(reports.c.quantity))
        .where(reports.c.customer == customer, reports.c.event_name == event_name, reports.c.state.in_(BILLED))
        .where(reports.c.timestamp >= start, reports.c.timestamp < end)
    )
    pays_for = sa.select(accounts.c.company).filter_by(customer=customer)
    waiting = (
        sa.select(sum_of(subtracted(usage.c.quantity, usage.c.reported)))
        .where(usage.c.quantity != usage.c.reported, usage.c.event_name == event_name)
        .where(sa.or_(usage.c.company == customer, usage.c.company.in_(pays_for)))
        .where(usage.c.last_used >= start, usage.c.last_used < end)
    )
    return int(connection.scalar(reported) or 0) + int(connection.scalar(waiting) or 0)
