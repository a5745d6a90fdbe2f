"""What the bill of a subscription depends on, as the ledger has it: read for many customers at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import BillingCycle, Period
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH

NO_DISCOUNTS = "[]"

WITHIN_A_PERIOD = ("subscription_threshold", "subscription_update")
"""Billing reasons of invoices that are due before a period ends."""


@dataclass(slots=True)
class SubscriptionTerms:
    """
    A running subscription, and what its next invoice depends on.

    Attributes:
        subscription: Row of the subscription.
        items: Rows of its items, in their order.
        former: Rows of what its items were before they were changed or removed, oldest first.
        invoices: Rows of its invoices within the running periods, which a threshold or a change made due.
        discounts: Discounts of the subscription and its items.
        customer_discounts: Discounts of its customer, which count where the subscription has none.
    """

    subscription: Any
    items: list[Any] = field(default_factory=list)
    former: list[Any] = field(default_factory=list)
    invoices: list[Any] = field(default_factory=list)
    discounts: list[dict[str, Any]] = field(default_factory=list)
    customer_discounts: list[dict[str, Any]] = field(default_factory=list)

    def discounts_at(self, moment: int) -> list[dict[str, Any]]:
        """Return the discounts that apply to an invoice of the Unix second *moment*."""
        found = [each for each in self.discounts if _holds(each, moment)]
        if any(each["item"] is None for each in found):
            return found
        return found + [each for each in self.customer_discounts if _holds(each, moment)]

    def cycle(self, item: Any) -> BillingCycle:
        """Return the billing cycle of *item*."""
        known = Period(item.period_start, item.period_end)
        return BillingCycle(known, self.subscription.anchor, *recurrence(item.price))

    def period(self, item: Any, now: int | None) -> Period:
        """Return the billing period of *item*: as last read from Stripe, or the one that contains *now*."""
        if now is None or now < item.period_end:
            return Period(item.period_start, item.period_end)
        return self.cycle(item).at(now)


def _holds(discount: dict[str, Any], moment: int) -> bool:
    return discount["start"] <= moment and (discount["end"] is None or moment < discount["end"])


@lru_cache(maxsize=1000)
def recurrence(price: str) -> tuple[str, int]:
    """Return interval and interval count of a price, given as Stripe's JSON."""
    recurring = json.loads(price).get("recurring") or {}
    return str(recurring.get("interval", "month")), int(recurring.get("interval_count") or 1)


def read_terms(
    connection: sa.Connection, customers: Iterable[str], *, with_invoices: bool = False
) -> dict[str, list[SubscriptionTerms]]:
    """
    Return the running subscriptions of each of *customers*, oldest first.

    Args:
        connection: Connection to the ledger.
        customers: Ids of Stripe customers.
        with_invoices: Whether to read their invoices, too, which their costs do not depend on, but their next invoices.
    """
    ids = sorted(customers)
    found: dict[str, list[SubscriptionTerms]] = {}
    for start in range(0, len(ids), BATCH):
        by_id = _read(connection, ids[start : start + BATCH], found)
        if with_invoices and by_id:
            _add_invoices(connection, ids[start : start + BATCH], by_id)
    return found


def plain_items(connection: sa.Connection, customers: Iterable[str]) -> Iterator[sa.Row[Any]]:
    """
    Yield the metered items of the running subscriptions of at most `BATCH` customers, oldest subscription first.

    Each row has ``customer``, ``event_name``, ``price``, ``period_start``, ``period_end``, ``anchor``, ``currency`` and
    ``is_plain``: whether all usage of the period is billed at that price, whatever else is known of the subscription.
    """
    subscriptions, items, former, table = schema.subscriptions, schema.items, schema.former_items, schema.customers
    changed = sa.exists().where(
        former.c.subscription == items.c.subscription,
        former.c.event_name.is_not(None),
        former.c.until > items.c.period_start,
    )
    known, start = subscriptions.c, items.c.period_start
    is_plain = sa.and_(
        known.discounts == NO_DISCOUNTS,
        sa.func.coalesce(table.c.discounts, NO_DISCOUNTS) == NO_DISCOUNTS,
        known.pause.is_(None),
        known.status != "paused",
        sa.func.coalesce(known.trial_end, start) <= start,
        sa.or_(items.c.since <= known.created, items.c.since <= start),
        ~changed,
    )
    query = (
        sa.select(
            items.c.customer,
            items.c.event_name,
            items.c.price,
            start,
            items.c.period_end,
            known.anchor,
            known.currency,
            is_plain.label("is_plain"),
        )
        .join_from(items, subscriptions, known.id == items.c.subscription)
        .join(table, table.c.id == items.c.customer, isouter=True)
        .where(items.c.customer.in_(customers), known.ended_at.is_(None), items.c.event_name.is_not(None))
        .order_by(known.created, items.c.id)
    )
    yield from connection.execute(query)


def _read(
    connection: sa.Connection, ids: list[str], found: dict[str, list[SubscriptionTerms]]
) -> dict[str, SubscriptionTerms]:
    subscriptions, items, former, customers = schema.subscriptions, schema.items, schema.former_items, schema.customers
    by_id: dict[str, SubscriptionTerms] = {}
    running = (
        sa.select(subscriptions, customers.c.discounts.label("of_customer"))
        .join_from(subscriptions, customers, customers.c.id == subscriptions.c.customer, isouter=True)
        .where(subscriptions.c.customer.in_(ids), subscriptions.c.ended_at.is_(None))
        .order_by(subscriptions.c.created, subscriptions.c.id)
    )
    for row in connection.execute(running):
        terms = by_id[row.id] = SubscriptionTerms(row)
        if row.discounts != NO_DISCOUNTS:
            terms.discounts = json.loads(row.discounts)
        if row.of_customer is not None and row.of_customer != NO_DISCOUNTS:
            terms.customer_discounts = json.loads(row.of_customer)
        found.setdefault(row.customer, []).append(terms)
    if by_id:
        for row in connection.execute(sa.select(items).where(items.c.customer.in_(ids)).order_by(items.c.id)):
            if row.subscription in by_id:
                by_id[row.subscription].items.append(row)
        for row in connection.execute(sa.select(former).where(former.c.customer.in_(ids)).order_by(former.c.since)):
            if row.subscription in by_id:
                _add_former(by_id[row.subscription], row)
    return by_id


def _add_former(terms: SubscriptionTerms, row: Any) -> None:
    """Keep what an item was, if that still matters: within the running period of any item."""
    if terms.items and row.until > min(item.period_start for item in terms.items) and row.until > row.since:
        terms.former.append(row)


def _add_invoices(connection: sa.Connection, customers: list[str], by_id: dict[str, SubscriptionTerms]) -> None:
    invoices = schema.invoices
    query = sa.select(invoices).where(
        invoices.c.customer.in_(customers), invoices.c.billing_reason.in_(WITHIN_A_PERIOD)
    )
    for row in connection.execute(query.order_by(invoices.c.created)):
        if row.subscription in by_id:
            by_id[row.subscription].invoices.append(row)


def moments() -> list[tuple[sa.Table, sa.Column[int]]]:
    """
    Return the columns with moments at which what usage costs changes, in Unix seconds, and their tables.

    Usage before and after must not be in one meter event. Each table has a ``customer``, too.
    """
    items, former, subscriptions = schema.items, schema.former_items, schema.subscriptions
    columns = {
        items: (items.c.period_start, items.c.period_end, items.c.since),
        former: (former.c.until,),
        subscriptions: (
            subscriptions.c.ended_at,
            subscriptions.c.cancel_at,
            subscriptions.c.trial_start,
            subscriptions.c.trial_end,
        ),
    }
    return [(table, column) for table, of_table in columns.items() for column in of_table]
