"""
Subscriptions as they are, and as they were.

Stripe keeps no history that can be asked for. A bill depends on it: on what an item cost until its price was changed,
and on the states that a subscription was in.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.models import Item, Subscription
from meterkit.ledger import schema
from meterkit.ledger.database import insert_into, put


def put_subscription(connection: sa.Connection, subscription: Subscription, *, changed_at: int | None) -> None:
    """
    Store *subscription*, and keep what has changed.

    Args:
        connection: Connection in a transaction.
        subscription: State of the subscription.
        changed_at: Unix second at which Stripe changed it; None if no event told, which means since it was last read.
    """
    until = subscription.checked_at if changed_at is None else changed_at
    query = sa.select(schema.subscriptions.c.checked_at).filter_by(id=subscription.id)
    after = connection.scalar(query) if changed_at is None else changed_at
    _keep_state(connection, subscription, until)
    known_items = connection.execute(sa.select(schema.items).filter_by(subscription=subscription.id))
    before = {row.id: row for row in known_items}
    items = []
    for item in subscription.items:
        row = asdict(item)
        known = before.pop(item.id, None)
        if known is not None:
            if _costs_the_same(known, item):
                row["since"] = known.since or item.since
            else:
                row["since"] = _keep_item(connection, known, until=until, after=after)
        items.append(row)
    for removed in before.values():
        _keep_item(connection, removed, until=until, after=after)
    row = asdict(subscription)
    del row["items"]
    put(schema.subscriptions, connection, row)
    connection.execute(sa.delete(schema.items).filter_by(subscription=subscription.id))
    if items:
        connection.execute(sa.insert(schema.items), items)


def _costs_the_same(known: sa.Row[tuple[Any, ...]], item: Item) -> bool:
    # Not the whole price: it may have lost its lookup key, or be known in another currency since an upgrade.
    return (_price(known.price), known.quantity) == (_price(item.price), item.quantity)


def _price(known: str) -> str:
    return str(json.loads(known)["id"])


def _keep_item(connection: sa.Connection, known: sa.Row[tuple[Any, ...]], *, until: int, after: int | None) -> int:
    """Keep what an item was until a moment *after* another; return the Unix second at which it ended, once it began."""
    until = max(until, known.since)
    kept = [column.name for column in schema.former_items.columns if column.name not in ("until", "changed_after")]
    row = {name: getattr(known, name) for name in kept}
    statement = insert_into(schema.former_items, connection).values(
        {**row, "until": until, "changed_after": until if after is None else after}
    )
    connection.execute(statement.on_conflict_do_nothing())
    return until


def _keep_state(connection: sa.Connection, subscription: Subscription, changed_at: int) -> None:
    table = schema.subscription_states
    query = sa.select(table).filter_by(subscription=subscription.id).order_by(table.c.since.desc()).limit(1)
    latest = connection.execute(query).one_or_none()
    state = {"status": subscription.status, "pause": subscription.pause}
    if latest is not None and (latest.status, latest.pause) == (subscription.status, subscription.pause):
        return
    since = subscription.created if latest is None else max(changed_at, latest.since)
    put(table, connection, {"subscription": subscription.id, "since": since, **state})
