"""
Notices and their deliveries in the ledger, each written once.

A notice is written once, by whoever sees first what it is about: its key says what that is. A delivery is taken by one
process at a time, and again by another if that one does not come back: it may be told twice, under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database, insert_once
from meterkit.notices.notice import Kind, Notice

CLAIM_SECONDS = 120
"""For how long a delivery is somebody's; longer than any channel may take."""

FIRST_PAUSE = 30
LONGEST_PAUSE = 3600
"""Seconds between two attempts, doubled each time."""

GIVEN_UP_SECONDS = 3 * 24 * 3600
"""After so long, nobody wants to hear it any more."""

KEPT_SECONDS = 400 * 24 * 3600
"""Longer than the longest billing period: what was told in it is not told again."""


@dataclass(frozen=True, slots=True)
class NoticeDelivery:
    """
    A notice on its way. Times are in unix seconds.

    Attributes:
        notice: It.
        channel: By name.
        state: ``waiting``, ``delivered`` or ``given_up``.
        attempts: How many there were.
        next_attempt_at: When it is tried again.
        error: What went wrong last.
        settled_at: When it was delivered, or given up.
    """

    notice: Notice
    channel: str
    state: str
    attempts: int
    next_attempt_at: int
    error: str
    settled_at: int | None


class NoticeStore:
    """
    The notices of a ledger.

    Args:
        database: Where they are kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, notices: Iterable[tuple[Notice, Iterable[str]]]) -> int:
        """
        Write notices, each with the names of its channels, but for those that were written before.

        Returns:
            How many are new.

        Raises:
            LedgerError: None was written.
        """
        new = 0
        with self._database.transaction() as connection:
            for notice, channels in notices:
                row = {
                    "key": notice.key,
                    "kind": notice.kind,
                    "company": notice.company,
                    "title": notice.title,
                    "text": notice.text,
                    "fields": json.dumps(dict(notice.fields)),
                    "created_at": notice.created_at,
                }
                new += insert_once(schema.notices, connection, row)
                for channel in channels:
                    delivery = {
                        "notice": notice.key,
                        "channel": channel,
                        "state": "waiting",
                        "attempts": 0,
                        "next_attempt_at": notice.created_at,
                        "error": "",
                    }
                    insert_once(schema.deliveries, connection, delivery)
        return new

    def claim(self, channel: str) -> NoticeDelivery | None:
        """The next delivery that is due through *channel*, which nobody else gets for a while."""
        now = int(self._clock())
        table = schema.deliveries
        due = (
            sa.select(table, schema.notices)
            .join(schema.notices, schema.notices.c.key == table.c.notice)
            .where(table.c.state == "waiting", table.c.channel == channel, table.c.next_attempt_at <= now)
            .order_by(schema.notices.c.created_at, table.c.notice)
            .limit(1)
        )
        while True:
            with self._database.transaction() as connection:
                row = connection.execute(due).one_or_none()
                if row is None:
                    return None
                mine = sa.update(table).where(
                    table.c.notice == row.notice,
                    table.c.channel == channel,
                    table.c.attempts == row.attempts,
                    table.c.state == "waiting",
                )
                taken = mine.values(attempts=row.attempts + 1, next_attempt_at=now + CLAIM_SECONDS)
                if connection.execute(taken).rowcount == 1:
                    return _delivery(row)

    def settle(self, delivery: NoticeDelivery, error: str | None) -> None:
        """Write down what became of *delivery*: None where it was delivered."""
        now = int(self._clock())
        table = schema.deliveries
        changes: dict[str, Any]
        if error is None:
            changes = {"state": "delivered", "error": "", "settled_at": now}
        elif now - delivery.notice.created_at >= GIVEN_UP_SECONDS:
            changes = {"state": "given_up", "error": error, "settled_at": now}
        else:
            pause = min(FIRST_PAUSE * 2 ** min(delivery.attempts, 20), LONGEST_PAUSE)
            changes = {"error": error, "next_attempt_at": now + pause}
        mine = sa.update(table).filter_by(notice=delivery.notice.key, channel=delivery.channel)
        with self._database.transaction() as connection:
            connection.execute(mine.values(**changes))

    def deliveries(self, *, limit: int = 100, company: str | None = None) -> list[NoticeDelivery]:
        """The latest, newest first, so many at most."""
        table = schema.deliveries
        query = sa.select(table, schema.notices).join(schema.notices, schema.notices.c.key == table.c.notice)
        if company is not None:
            query = query.where(schema.notices.c.company == company)
        query = query.order_by(schema.notices.c.created_at.desc(), schema.notices.c.key, table.c.channel).limit(limit)
        with self._database.snapshot() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of *keys* were written, were they delivered or not."""
        query = sa.select(schema.notices.c.key).where(schema.notices.c.key.in_(list(keys)))
        with self._database.snapshot() as connection:
            return set(connection.scalars(query))

    def of_kinds(self, *kinds: Kind) -> list[tuple[str, str, str]]:
        """Key, kind and company of all that is kept of some kinds."""
        table = schema.notices
        query = sa.select(table.c.key, table.c.kind, table.c.company).where(table.c.kind.in_(kinds))
        with self._database.snapshot() as connection:
            return [(row.key, row.kind, row.company) for row in connection.execute(query.order_by(table.c.created_at))]

    def forget(self) -> None:
        """What nobody needs to know any more."""
        old = sa.select(schema.notices.c.key).where(schema.notices.c.created_at < int(self._clock()) - KEPT_SECONDS)
        with self._database.transaction() as connection:
            connection.execute(sa.delete(schema.deliveries).where(schema.deliveries.c.notice.in_(old)))
            connection.execute(sa.delete(schema.notices).where(schema.notices.c.key.in_(old)))


def _delivery(row: Any) -> NoticeDelivery:
    return NoticeDelivery(
        notice=Notice(
            key=row.key,
            kind=cast("Kind", row.kind),
            company=row.company,
            title=row.title,
            text=row.text,
            created_at=row.created_at,
            fields=json.loads(row.fields),
        ),
        channel=row.channel,
        state=row.state,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        error=row.error,
        settled_at=row.settled_at,
    )
