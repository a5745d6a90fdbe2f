"""What the bill of a subscription depends on, as the ledger has it: read for many customers at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import BillingCycle, Period
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH

NO_DISCOUNTS = "[]"


@dataclass(slots=True)
class SubscriptionTerms:
    """
    A running subscription, and what its next invoice depends on.

    Attributes:
        subscription: Row of the subscription.
        items: Rows of its items, in their order.
        former: Rows of what its items were before they were changed or removed, oldest first.
        threshold_invoices: Rows of its invoices that were due because a billing threshold was reached.
        discounts: Discounts of the subscription and its items, or of the customer if the subscription has none.
    """

    subscription: Any
    items: list[Any] = field(default_factory=list)
    former: list[Any] = field(default_factory=list)
    threshold_invoices: list[Any] = field(default_factory=list)
    discounts: list[dict[str, Any]] = field(default_factory=list)

    def period(self, item: Any, now: int | None) -> Period:
        """Return the billing period of *item*: as last read from Stripe, or the one that contains *now*."""
        known = Period(item.period_start, item.period_end)
        if now is None or now < known.end:
            return known
        return BillingCycle(known, self.subscription.anchor, *recurrence(item.price)).at(now)

    def is_plain(self, item: Any, start: int) -> bool:
        """Return whether all usage from *start*, the beginning of a period, on is billed at the price of *item*."""
        known = self.subscription
        return (
            not any(each.event_name for each in self.former)
            and not self.discounts
            and known.pause is None
            and known.status != "paused"
            and (known.trial_end is None or known.trial_end <= start)
            and (item.since <= known.created or item.since <= start)
        )


@lru_cache(maxsize=1000)
def recurrence(price: str) -> tuple[str, int]:
    """Return interval and interval count of a price, given as Stripe's JSON."""
    recurring = json.loads(price).get("recurring") or {}
    return str(recurring.get("interval", "month")), int(recurring.get("interval_count") or 1)


def read_terms(connection: sa.Connection, customers: Iterable[str]) -> dict[str, list[SubscriptionTerms]]:
    """Return the running subscriptions of each of *customers*, oldest first."""
    ids = sorted(customers)
    found: dict[str, list[SubscriptionTerms]] = {}
    for start in range(0, len(ids), BATCH):
        _read(connection, ids[start : start + BATCH], found)
    return found


def _read(connection: sa.Connection, customers: list[str], found: dict[str, list[SubscriptionTerms]]) -> None:
    subscriptions, items, former = schema.subscriptions, schema.items, schema.former_items
    by_id: dict[str, SubscriptionTerms] = {}
    running = sa.select(subscriptions).where(
        subscriptions.c.customer.in_(customers), subscriptions.c.ended_at.is_(None)
    )
    for row in connection.execute(running.order_by(subscriptions.c.created, subscriptions.c.id)):
        terms = by_id[row.id] = SubscriptionTerms(row)
        found.setdefault(row.customer, []).append(terms)
    if not by_id:
        return
    for row in connection.execute(sa.select(items).where(items.c.customer.in_(customers)).order_by(items.c.id)):
        if row.subscription in by_id:
            by_id[row.subscription].items.append(row)
    for row in connection.execute(sa.select(former).where(former.c.customer.in_(customers)).order_by(former.c.since)):
        if row.subscription in by_id:
            _add_former(by_id[row.subscription], row)
    _add_threshold_invoices(connection, customers, by_id)
    _add_discounts(connection, customers, found)


def _add_discounts(connection: sa.Connection, customers: list[str], found: dict[str, list[SubscriptionTerms]]) -> None:
    for terms in chain.from_iterable(found.get(customer, ()) for customer in customers):
        if terms.subscription.discounts != NO_DISCOUNTS:
            terms.discounts = json.loads(terms.subscription.discounts)
    table = schema.customers
    query = sa.select(table.c.id, table.c.discounts)
    for row in connection.execute(query.where(table.c.id.in_(customers), table.c.discounts != NO_DISCOUNTS)):
        for terms in found.get(row.id, ()):
            if not any(each["item"] is None for each in terms.discounts):
                terms.discounts = [*terms.discounts, *json.loads(row.discounts)]


def _add_former(terms: SubscriptionTerms, row: Any) -> None:
    """Keep what an item was, if that still matters: within the running period of any item."""
    if terms.items and row.until > min(item.period_start for item in terms.items) and row.until > row.since:
        terms.former.append(row)


def _add_threshold_invoices(
    connection: sa.Connection, customers: list[str], by_id: dict[str, SubscriptionTerms]
) -> None:
    invoices = schema.invoices
    query = sa.select(invoices).where(
        invoices.c.customer.in_(customers),
        invoices.c.billing_reason == "subscription_threshold",
        invoices.c.status != "void",
    )
    for row in connection.execute(query.order_by(invoices.c.created)):
        if row.subscription in by_id:
            by_id[row.subscription].threshold_invoices.append(row)
