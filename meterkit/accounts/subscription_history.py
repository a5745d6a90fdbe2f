"""
Subscriptions as they are, and as they were.

Stripe keeps no history that can be asked for. A bill depends on it: on what an item cost until its price was changed,
and on the states that a subscription was in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.models import Item, PastSubscription, Proration, Subscription
from meterkit.ledger import schema
from meterkit.ledger.database import insert_into, put

OUT_OF_ORDER_SECONDS = 60
"""Age of an event, before the last look at its subscription, from which what it says differs because it came late."""

MADE_WITHIN_SECONDS = 60
"""Most seconds between a change of an item and the invoice item that Stripe makes for it."""


def put_subscription(
    connection: sa.Connection,
    subscription: Subscription,
    *,
    changed_at: int | None,
    past: Sequence[PastSubscription] = (),
    prorations: Iterable[Proration] | None = None,
) -> None:
    """
    Store *subscription*, and keep what has changed.

    Args:
        connection: Connection in a transaction.
        subscription: State of the subscription.
        changed_at: Unix second at which Stripe changed it; None if no event told, which means since it was last read.
        past: What events say that it was, oldest first; of changes that they say, *changed_at* is not believed.
        prorations: Invoice items that Stripe has made of changes within the running periods; None if not known.
    """
    query = sa.select(schema.subscriptions.c.checked_at).filter_by(id=subscription.id)
    read_at = connection.scalar(query)
    late = [each for each in past if not _put_past(connection, each, read_at)]
    if past and (changed_at is None or changed_at <= past[-1].at):
        changed_at = None  # what is unlike the last event has changed since
    _put(connection, subscription, changed_at=changed_at)
    for each in late:
        _place(connection, each)
    if prorations is not None:
        _mark_prorated(connection, subscription, list(prorations))


def changed_since(
    connection: sa.Connection, subscription: Subscription, past: Iterable[PastSubscription]
) -> int | None:
    """
    Return the Unix second from which on metered items of *subscription* were changed within their periods.

    None if they were not, or if it is known what became of their usage; in classic billing mode nothing does.
    """
    if subscription.billing_mode != "flexible":
        return None
    now = {item.id: item for item in subscription.items}
    begins = [item.period_start for item in subscription.items]
    items, former = schema.items, schema.former_items
    known = connection.execute(sa.select(items).filter_by(subscription=subscription.id)).all()
    found = [each.at for each in past if each.before is not None]
    found += [
        row.since
        for row in known
        if row.event_name is not None and (row.id not in now or not _costs_the_same(row, now[row.id]))
    ]
    earlier = sa.select(former).filter_by(subscription=subscription.id).where(former.c.event_name.is_not(None))
    rows = connection.execute(earlier.where(former.c.prorated.is_not(True)))
    found += [row.changed_after for row in rows if row.until > min(begins, default=row.until)]
    return min(found, default=None)


def _put_past(connection: sa.Connection, past: PastSubscription, read_at: int | None) -> bool:
    """Store what an event says, if that is news to a ledger which has *read* the subscription; else return False."""
    items = schema.items
    rows = connection.execute(sa.select(items).filter_by(subscription=past.state.id)).all()
    known = {row.id: _price(row.price) for row in rows}
    follows = read_at is None or (
        past.at >= read_at if past.before is None else all(known.get(each) == past.before[each] for each in past.before)
    )
    if follows and (read_at is None or past.at >= read_at):
        is_exact = past.before is not None or not rows
        _put(connection, past.state, changed_at=past.at if is_exact else None)
        return True
    if read_at is not None and past.at > read_at + OUT_OF_ORDER_SECONDS:  # an event before it is missing
        _put(connection, past.state, changed_at=None)
        return True
    return False


def _place(connection: sa.Connection, past: PastSubscription) -> None:
    """Correct the history by an event that came after a later one was followed."""
    if past.before is None:
        return
    former, items = schema.former_items, schema.items
    for item in past.state.items:
        before = past.before.get(item.id)
        within = sa.select(former).filter_by(id=item.id).where(former.c.since < past.at, former.c.until > past.at)
        row = connection.execute(within).one_or_none()
        if row is None or before == _price(item.price) or before != _price(row.price):
            continue
        mine = sa.update(former).filter_by(id=item.id, since=row.since)
        connection.execute(mine.values(until=past.at, changed_after=past.at))
        for table in (items, former):
            following = connection.execute(sa.select(table).filter_by(id=item.id, since=row.until)).one_or_none()
            if following is not None and _price(following.price) == _price(item.price):
                connection.execute(sa.update(table).filter_by(id=item.id, since=row.until).values(since=past.at))
                break
        else:
            between = {**asdict(item), "since": past.at, "until": row.until, "changed_after": row.changed_after}
            connection.execute(insert_into(former, connection).values(between).on_conflict_do_nothing())


def _put(connection: sa.Connection, subscription: Subscription, *, changed_at: int | None) -> None:
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


def _mark_prorated(connection: sa.Connection, subscription: Subscription, prorations: list[Proration]) -> None:
    """Keep of what was changed within the running periods whether Stripe has made an invoice item of its usage."""
    table = schema.former_items
    begin = min((item.period_start for item in subscription.items), default=0)
    query = sa.select(table).filter_by(subscription=subscription.id).where(table.c.event_name.is_not(None))
    for row in connection.execute(query.where(table.c.until > begin, table.c.prorated.is_not(True))).all():
        if subscription.trial_end is not None and row.until <= subscription.trial_end:
            continue  # its usage is free
        made = any(_is_of(each, row) for each in prorations)
        connection.execute(sa.update(table).filter_by(id=row.id, since=row.since).values(prorated=made))


def _is_of(proration: Proration, row: Any) -> bool:
    return (proration.item, proration.price) == (
        row.id,
        _price(row.price),
    ) and row.changed_after - MADE_WITHIN_SECONDS <= proration.at <= row.until + MADE_WITHIN_SECONDS


def _costs_the_same(known: sa.Row[tuple[Any, ...]], item: Item) -> bool:
    # Not the whole price: it may have lost its lookup key, or be known in another currency since an upgrade.
    return (_price(known.price), known.quantity) == (_price(item.price), item.quantity)


def _price(known: str) -> str:
    return str(json.loads(known)["id"])


def _keep_item(connection: sa.Connection, known: sa.Row[tuple[Any, ...]], *, until: int, after: int | None) -> int:
    """Keep what an item was until a moment *after* another; return the Unix second at which it ended, once it began."""
    until = max(until, known.since)
    kept = [
        column.name
        for column in schema.former_items.columns
        if column.name not in ("until", "changed_after", "prorated")
    ]
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
