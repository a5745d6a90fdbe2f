"""
Notices and their deliveries in the ledger, each written once.

A notice is written once, by the first process that finds it due: its key says what it is about. A delivery is claimed
by one process at a time, and by another if that one dies: the notice may then be sent twice, under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database, insert_once
from meterkit.ledger.payers import payer_of
from meterkit.notices.notice import Kind, Notice

CLAIM_SECONDS = 120
"""How long a claim on a delivery lasts; longer than any channel may take."""

FIRST_PAUSE = 30
LONGEST_PAUSE = 3600
"""Shortest and longest delay between two attempts, in seconds; doubled each time."""

GIVEN_UP_SECONDS = 3 * 24 * 3600
"""Age of a notice at which a failed delivery is no longer retried."""

KEPT_SECONDS = 400 * 24 * 3600
"""How long notices are kept: longer than the longest billing period, so that none is sent twice in it."""


@dataclass(frozen=True, slots=True)
class NoticeDelivery:
    """
    The delivery of one notice through one channel.

    Attributes:
        notice: Notice to deliver.
        channel: Name of the channel.
        state: ``waiting``, ``delivered`` or ``given_up``.
        attempts: Number of attempts so far.
        next_attempt_at: Time of the next attempt, Unix seconds.
        error: Error of the last attempt, or empty.
        settled_at: Time at which it was delivered or given up, Unix seconds, or None.
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
    Store of a ledger's notices.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def put(self, notices: Iterable[tuple[Notice, Iterable[str]]]) -> int:
        """
        Write notices, each with the names of its channels; those that were written before stay as they are.

        Returns:
            Number of new notices.

        Raises:
            LedgerError: The ledger failed; nothing was written.
        """
        new = 0
        names: dict[str | None, str] = {None: ""}
        with self._database.transaction() as connection:
            for notice, channels in notices:
                if notice.company not in names:
                    names[notice.company] = _name_of(connection, str(notice.company))
                name = names[notice.company]
                row = {
                    "key": notice.key,
                    "kind": notice.kind,
                    "company": notice.company,
                    "title": notice.title,
                    "text": notice.text,
                    "fields": json.dumps({**notice.fields, **({"name": name} if name else {})}),
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
        """Claim and return the next delivery that is due through *channel*; None if there is none."""
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
        """Record the outcome of *delivery*: its *error*, or None if it was delivered."""
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
        """Return the latest *limit* deliveries, newest first."""
        table = schema.deliveries
        query = sa.select(table, schema.notices).join(schema.notices, schema.notices.c.key == table.c.notice)
        if company is not None:
            query = query.where(schema.notices.c.company == company)
        query = query.order_by(schema.notices.c.created_at.desc(), schema.notices.c.key, table.c.channel).limit(limit)
        with self._database.snapshot() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def known(self, keys: Iterable[str]) -> set[str]:
        """Return those of *keys* that were written, whether delivered or not."""
        query = sa.select(schema.notices.c.key).where(schema.notices.c.key.in_(list(keys)))
        with self._database.snapshot() as connection:
            return set(connection.scalars(query))

    def of_kinds(self, *kinds: Kind) -> list[tuple[str, str, str]]:
        """Return key, kind and company of all stored notices of *kinds*, oldest first."""
        table = schema.notices
        query = sa.select(table.c.key, table.c.kind, table.c.company).where(table.c.kind.in_(kinds))
        with self._database.snapshot() as connection:
            return [(row.key, row.kind, row.company) for row in connection.execute(query.order_by(table.c.created_at))]

    def forget(self) -> None:
        """Delete notices that are older than `KEPT_SECONDS`, with their deliveries."""
        old = sa.select(schema.notices.c.key).where(schema.notices.c.created_at < int(self._clock()) - KEPT_SECONDS)
        with self._database.transaction() as connection:
            connection.execute(sa.delete(schema.deliveries).where(schema.deliveries.c.notice.in_(old)))
            connection.execute(sa.delete(schema.notices).where(schema.notices.c.key.in_(old)))


def _name_of(connection: sa.Connection, company: str) -> str:
    """Return the name of the Stripe customer that pays for *company*; empty if it is not known."""
    customers = schema.customers
    query = sa.select(customers.c.name).where(customers.c.id == payer_of(connection, company))
    return connection.scalar(query) or ""


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
