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
from meterkit.metering.meter import Meter
from meterkit.pricing.price import EXACT, Line
from meterkit.pricing.stripe_price import price_of

BILLED = ("pending", "sent", "uncertain")
"""States of reports that Stripe has, or will have."""

ASSUMED = (
    "no tax, no discount, no credit and no balance of the customer",
    "no invoice items besides the subscription's prices, and no change of them within the period",
    "nobody else writes meter events for this customer",
)
"""What a preview leaves out: Stripe applies it when the invoice becomes final."""


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """
    One line of an invoice.

    Attributes:
        price: Stripe's price, by id.
        event_name: Of the meter; None for a licensed price, which is billed ahead.
        quantity: Units on this line; 0 for a flat fee.
        unit_price: Of one unit, one package, or the flat fee, in whole currency.
        amount: Rounded to the minor unit, in whole currency.
        tier: From 1 in tiered prices; 0 otherwise.
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
    An invoice as it stands.

    Attributes:
        company: For whom.
        customer: Who pays.
        subscription: What for.
        status: The subscription's, in Stripe's word.
        currency: Three letters.
        period_start: Of the usage, unix seconds.
        period_end: The same.
        lines: In the order of the subscription's prices.
        total: Their sum, in whole currency.
        assumed: What it leaves out.
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
    The next invoice of each subscription that pays for *company*, with usage that is not reported yet.

    Raises:
        LedgerError: The ledger cannot be read.
        ConfigurationError: A price cannot be computed; the message says which, and why.
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
            continue  # it is billed ahead, and there is no next period
        used = item.quantity or 0
        if item.event_name is not None:
            used = max(0, _used(connection, customer, item.event_name, item.period_start, item.period_end))
        lines += [_line(known["id"], item.event_name, line) for line in _lines(known, item.event_name, used)]
    if subscription.status == "trialing":
        assumed.append("the trial is over: while it lasts, Stripe bills nothing")
    if end <= now:
        assumed.append("the period has ended, and Stripe has not told of the next yet: see meterkit sync")
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
        raise ConfigurationError(f"the price {known.get('id')} of Stripe cannot be computed here: {error}") from error


def _line(price: str, event_name: str | None, line: Line) -> PreviewLine:
    return PreviewLine(price, event_name, line.quantity, line.price, line.amount, line.tier)


def _used(connection: sa.Connection, customer: str, event_name: str, start: int, end: int) -> int:
    """What the invoice of a period will have of a meter: what is reported of it, and what is to be."""
    reports, usage, accounts = schema.reports, schema.usage, schema.accounts
    reported = (
        sa.select(sa.func.sum(reports.c.quantity))
        .where(reports.c.customer == customer, reports.c.event_name == event_name, reports.c.state.in_(BILLED))
        .where(reports.c.timestamp >= start, reports.c.timestamp < end)
    )
    pays_for = sa.select(accounts.c.company).filter_by(customer=customer)
    waiting = (
        sa.select(sa.func.sum(usage.c.quantity - usage.c.reported))
        .where(usage.c.quantity != usage.c.reported, usage.c.event_name == event_name)
        .where(sa.or_(usage.c.company == customer, usage.c.company.in_(pays_for)))
        .where(usage.c.last_used >= start, usage.c.last_used < end)
    )
    return int(connection.scalar(reported) or 0) + int(connection.scalar(waiting) or 0)
