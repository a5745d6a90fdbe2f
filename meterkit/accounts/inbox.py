"""Inbox of webhook events: each is stored once, before Stripe hears 200."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database, insert_once

KEPT_SECONDS = 30 * 24 * 3600
"""Stripe repeats an event for 3 days, and shows it for 30."""


@dataclass(frozen=True, slots=True)
class Notification:
    """
    What an event is about.

    Attributes:
        id: ``evt_...``, by which a repetition is known.
        type: Such as ``invoice.paid``.
        created: Unix seconds.
        object_type: ``customer``, ``subscription``, ``invoice``, ...
        object_id: Of the object.
        reason: Why there is nothing to do about it; empty if there is.
    """

    id: str
    type: str
    created: int
    object_type: str
    object_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """
    An event that came in.

    Attributes:
        id: ``evt_...``.
        type: Such as ``invoice.paid``.
        created: When it happened, unix seconds, as all times here.
        object_type: What it is about.
        object_id: Which one.
        received_at: When it came for the first time.
        state: ``received``, ``applied`` or ``ignored``.
        reason: Why it was ignored, or could not be applied yet.
        settled_at: When it was applied or ignored.
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
    The webhook events of a ledger.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, event: Notification) -> bool:
        """
        Keep *event*; when this returns, it survives a power cut.

        Returns:
            False if it has come before.
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
        }
        with self._database.transaction() as connection:
            return insert_once(schema.webhook_events, connection, row)

    def waiting(self) -> dict[tuple[str, str], list[str]]:
        """The ids of events that are not applied, by the type and id of the object that they are about."""
        table = schema.webhook_events
        query = sa.select(table).filter_by(state="received").order_by(table.c.received_at, table.c.id).limit(BATCH)
        found: dict[tuple[str, str], list[str]] = {}
        with self._database.snapshot() as connection:
            for row in connection.execute(query):
                found.setdefault((row.object_type, row.object_id), []).append(row.id)
        return found

    def settle(self, connection: sa.Connection, events: Iterable[str]) -> None:
        """Within a transaction that writes down what was found: *events* are applied."""
        table = schema.webhook_events
        mine = sa.update(table).where(table.c.id.in_(sorted(events)))
        connection.execute(mine.values(state="applied", reason="", settled_at=int(self._clock())))

    def postpone(self, events: Iterable[str], reason: str) -> None:
        """Say why *events* could not be applied yet."""
        table = schema.webhook_events
        with self._database.transaction() as connection:
            connection.execute(sa.update(table).where(table.c.id.in_(sorted(events))).values(reason=reason))

    def forget(self) -> None:
        """Events of long ago will not be repeated."""
        table = schema.webhook_events
        old = table.c.received_at < int(self._clock()) - KEPT_SECONDS
        with self._database.transaction() as connection:
            connection.execute(sa.delete(table).where(table.c.state != "received", old))

    def events(self, *, limit: int) -> list[WebhookEvent]:
        """The latest that came, newest first."""
        table = schema.webhook_events
        query = sa.select(table).order_by(table.c.received_at.desc(), table.c.id).limit(limit)
        with self._database.snapshot() as connection:
            return [
                WebhookEvent(**{name: getattr(row, name) for name in WebhookEvent.__slots__})
                for row in connection.execute(query)
            ]
