"""
The ledger's figures, read in a thread at most once in a while.

A scrape may come in an event loop, from several servers at once, or while the ledger is away: it never queries the
ledger itself, and waits a moment at most.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meterkit.core import threads
from meterkit.core.periods import DAY
from meterkit.core.threads import DaemonThread

if TYPE_CHECKING:
    from meterkit.kit import MeterKit

WAIT_SECONDS = 2.0
"""How long a scrape waits for the figures to be read. Not in an event loop, which would serve nobody meanwhile."""

STALE_SECONDS = 300.0
"""Age at which figures are no longer shown, because the ledger does not respond."""

SHARE = 10
"""Reading takes at most one part in so many of the time: what takes long is read less often."""

DAYS = 7
"""Days back to the webhook events and notices that are counted. Those that wait are counted however old they are."""

_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """
    What was read of the ledger.

    Attributes:
        up: Whether the ledger could be read. If not, all others are empty.
        read_at: Time of reading, Unix seconds.
        attention: Number of sentences in ``health()["attention"]``.
        books: Where each meter's usage is: ``health()["books"]``.
        oldest_unsent: Time at which the oldest meter event was written that could not be sent yet, Unix seconds.
        webhook_events: Number of webhook events, by state.
        notices: Number of notices, one for each channel, by state.
    """

    up: bool
    read_at: float
    attention: int
    books: dict[str, dict[str, int]]
    oldest_unsent: int | None
    webhook_events: dict[str, int]
    notices: dict[str, int]


class LedgerReader:
    """
    Reads a kit's ledger in a thread, for whoever asks, at most once in *max_age* seconds.

    Args:
        kit: Kit to read.
        max_age: Seconds for which figures are shown again.
    """

    def __init__(self, kit: MeterKit, *, max_age: float) -> None:
        self._kit = kit
        self._max_age = max_age
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threads.lock()
        self._thread: DaemonThread | None = None
        self._found: LedgerFigures | None = None
        self._due = self._read = float("-inf")
        self._began = float("inf")

    def figures(self) -> LedgerFigures | None:
        """
        Return the latest figures.

        Returns:
            None if they have not been read yet, or so long ago that they say nothing.
        """
        if self._process != os.getpid():  # forked; a thread of the parent may have held the lock
            self._begin()
        with self._lock:
            if (self._thread is None or not self._thread.is_alive) and time.monotonic() >= self._due:
                with suppress(RuntimeError):  # at interpreter shutdown
                    self._thread = DaemonThread(self._work, name="meterkit-metrics")
            thread = self._thread
        if thread is not None and not _in_event_loop():
            until = time.monotonic() + WAIT_SECONDS
            while thread.is_alive and time.monotonic() < until:
                time.sleep(_PAUSE_SECONDS)  # gevent's own, where it has patched it
        now = time.monotonic()
        if now - self._read < STALE_SECONDS:
            return self._found
        return _away() if thread is not None and thread.is_alive and now - self._began >= STALE_SECONDS else None

    def _work(self) -> None:
        self._began = began = time.monotonic()
        found = read(self._kit)
        ended = time.monotonic()
        self._found, self._read = found, ended
        self._due = ended + max(self._max_age, (SHARE - 1) * (ended - began)) if self._max_age else ended


def read(kit: MeterKit) -> LedgerFigures:
    """Read the figures now, which may take as long as ``kit.health()``. Never raises."""
    at = time.time()
    health = kit.health()
    if health["books"] is not None:
        with suppress(Exception):
            return LedgerFigures(True, at, len(health["attention"]), health["books"], *_counted(kit))
    return _away()


def _away() -> LedgerFigures:
    return LedgerFigures(False, 0.0, 0, {}, None, {}, {})


def _counted(kit: MeterKit) -> tuple[int | None, dict[str, int], dict[str, int]]:
    import sqlalchemy as sa

    from meterkit.ledger import schema

    reports, events = schema.reports, schema.webhook_events
    notices, deliveries = schema.notices, schema.deliveries
    since = int(kit.clock()) - DAYS * DAY
    oldest = sa.select(sa.func.min(reports.c.created_at)).where(reports.c.state == "pending")
    events_by_state = [
        sa.select(events.c.state, sa.func.count()).where(events.c.state == "received"),
        sa.select(events.c.state, sa.func.count()).where(events.c.state != "received", events.c.received_at >= since),
    ]
    notices_by_state = [
        sa.select(deliveries.c.state, sa.func.count()).where(deliveries.c.state == "waiting"),
        sa.select(deliveries.c.state, sa.func.count())
        .join(notices, notices.c.key == deliveries.c.notice)
        .where(deliveries.c.state != "waiting", notices.c.created_at >= since),
    ]
    with kit.process().database().snapshot() as connection:

        def by_state(states: tuple[str, ...], table: sa.Table, queries: list[sa.Select[Any]]) -> dict[str, int]:
            found = dict.fromkeys(states, 0)
            for query in queries:
                found.update(
                    (str(state), int(number)) for state, number in connection.execute(query.group_by(table.c.state))
                )
            return found

        return (
            connection.scalar(oldest),
            by_state(("received", "applied", "ignored"), events, events_by_state),
            by_state(("waiting", "delivered", "given_up"), deliveries, notices_by_state),
        )


def _in_event_loop() -> bool:
    """Return whether an event loop of asyncio runs in this thread, which a wait would stop."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - get_running_loop raises
