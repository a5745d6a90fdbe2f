"""Inbox of webhook events: each is stored once, before Stripe gets a 200."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database, insert_once

KEPT_SECONDS = 30 * 24 * 3600
"""How long events are kept. Stripe repeats an event for 3 days, and shows it for 30."""


PAYMENT_FAILED = ("invoice.payment_failed", "v1.invoice.payment_failed")
"""Types of the events, snapshot and thin, that say that a payment of an invoice has failed."""


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """
    The parts of a webhook event that are used.

    Attributes:
        id: Event id, ``evt_...``, by which duplicates are recognised.
        type: Type of the event, such as ``invoice.paid``.
        created: Time of the event, Unix seconds.
        object_type: Type of the object: ``customer``, ``subscription``, ``invoice``, ...
        object_id: Id of the object.
        reason: Why the event is ignored; empty if it is not.
        told: What it says of a subscription at its time, as JSON; see `meterkit.webhooks.subscription_events`. Else
            empty.
    """

    id: str
    type: str
    created: int
    object_type: str
    object_id: str
    reason: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """
    A webhook event, and what became of it.

    Attributes:
        id: Event id, ``evt_...``.
        type: Type of the event, such as ``invoice.paid``.
        created: Time of the event, Unix seconds.
        object_type: Type of the object that the event is about.
        object_id: Id of the object that the event is about.
        received_at: Time at which it first arrived, Unix seconds.
        state: ``received``, ``applied`` or ``ignored``.
        reason: Why it was ignored, or could not be applied yet; else empty.
        settled_at: Time at which it was applied or ignored, Unix seconds, or None.
    """

    id: str
    type: str
    created: int
    object_type: str
    object_id: str
    received_at: int
    state: str
    reason: str
    settled_at: int | None


class Inbox:
    """
    Store of a ledger's webhook events.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, event: ParsedEvent) -> bool:
        """
        Store *event*; once this returns, it survives a power cut.

        Returns:
            False if it arrived before.
        """
        now = int(self._clock())
        row = {
            "id": event.id,
            "type": event.type,
            "created": event.created,
            "object_type": event.object_type,
            "object_id": event.object_id,
            "received_at": now,
            "state": "ignored" if event.reason else "received",
            "reason": event.reason,
            "settled_at": now if event.reason else None,
            "told": event.told,
        }
        with self._database.transaction() as connection:
            return insert_once(schema.webhook_events, connection, row)

    def waiting(self) -> dict[tuple[str, str], list[str]]:
        """Return the ids of events that are not applied yet, by the type and id of their object."""
        table = schema.webhook_events
        query = sa.select(table).filter_by(state="received").order_by(table.c.received_at, table.c.id).limit(BATCH)
        found: dict[tuple[str, str], list[str]] = {}
        with self._database.snapshot() as connection:
            for row in connection.execute(query):
                found.setdefault((row.object_type, row.object_id), []).append(row.id)
        return found

    def latest(self, connection: sa.Connection, events: Iterable[str]) -> int | None:
        """Return the Unix second of the latest of *events*; None if there is none."""
        table = schema.webhook_events
        latest: int | None = connection.scalar(sa.select(sa.func.max(table.c.created)).where(table.c.id.in_(events)))
        return latest

    def told(self, events: Iterable[str]) -> list[tuple[int, str]]:
        """Return what *events* say of subscriptions, each with its Unix second, oldest first."""
        table = schema.webhook_events
        query = sa.select(table.c.created, table.c.told).where(table.c.id.in_(events), table.c.told != "")
        with self._database.snapshot() as connection:
            return [(row.created, row.told) for row in connection.execute(query.order_by(table.c.created, table.c.id))]

    def payment_failed(self, connection: sa.Connection, events: Iterable[str]) -> int | None:
        """Return the Unix second of the first of *events* that says that a payment has failed; None if none does."""
        table = schema.webhook_events.c
        of_failures = sa.select(sa.func.min(table.created)).where(table.id.in_(events), table.type.in_(PAYMENT_FAILED))
        first: int | None = connection.scalar(of_failures)
        return first

    def settle(self, connection: sa.Connection, events: Iterable[str]) -> None:
        """Mark *events* as applied, in the transaction that stores their objects."""
        table = schema.webhook_events
        mine = sa.update(table).where(table.c.id.in_(sorted(events)))
        connection.execute(mine.values(state="applied", reason="", settled_at=int(self._clock())))

    def postpone(self, events: Iterable[str], reason: str) -> None:
        """Record why *events* could not be applied yet."""
        table = schema.webhook_events
        with self._database.transaction() as connection:
            connection.execute(sa.update(table).where(table.c.id.in_(sorted(events))).values(reason=reason))

    def forget(self) -> None:
        """Delete settled events that are older than `KEPT_SECONDS`."""
        table = schema.webhook_events
        old = table.c.received_at < int(self._clock()) - KEPT_SECONDS
        with self._database.transaction() as connection:
            connection.execute(sa.delete(table).where(table.c.state != "received", old))

    def events(self, *, limit: int) -> list[WebhookEvent]:
        """Return the latest *limit* events, newest first."""
        table = schema.webhook_events
        query = sa.select(table).order_by(table.c.received_at.desc(), table.c.id).limit(limit)
        with self._database.snapshot() as connection:
            return [
                WebhookEvent(**{name: getattr(row, name) for name in WebhookEvent.__slots__})
                for row in connection.execute(query)
            ]
