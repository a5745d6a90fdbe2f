"""
What the process that flushes does, for all that share its `data_dir`.

It folds what they have counted, starts the `meterkit.runtime.stripe_jobs` when they are due, and sends notices.
Correctness does not depend on there being only one: another may be killed, and each does only what is left to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from meterkit.core.problems import Problems
from meterkit.core.threads import Event
from meterkit.errors import LedgerError
from meterkit.flusher.fold import Folder
from meterkit.flusher.periodic import PeriodicTask
from meterkit.journal import recovery
from meterkit.journal.journal import Journal

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from sqlalchemy import Connection

    from meterkit.accounts.period_edges import PeriodEdges
    from meterkit.jetstream.publisher import JetStreamPublisher
    from meterkit.ledger.daily_totals import UsageRow
    from meterkit.ledger.database import Database
    from meterkit.notices.dispatcher import Dispatcher
    from meterkit.wallets.balances import Balances

CHORES_SECONDS = 3600.0
"""Interval at which old records are deleted."""


class Jobs(Protocol):
    """Jobs that talk to Stripe, as of `meterkit.runtime.stripe_jobs`."""

    def tick(self) -> None:
        """Start those that are due."""


class Flusher:
    """
    Moves usage from the journal to the ledger, and from there to Stripe. For one thread at a time.

    Args:
        journal: Journal of this process, in whose directory are those of the others.
        problems: Where problems are reported.
        database: Function that opens and returns the ledger's database.
        edges: Function that returns the edges of billing periods, which decide on windows.
        jobs: Jobs that talk to Stripe.
        dispatcher: Dispatcher of notices, or None.
        clock: Function that returns Unix seconds.
        interval: Seconds between two evaluations of the rules of notices.
        stop: Event that is set when the process ends.
        balances: Function that returns the balances of the kit's wallets, which usage spends.
        publisher: Function that returns what publishes to JetStream; None to fold into the ledger.
    """

    def __init__(
        self,
        journal: Journal,
        problems: Problems,
        *,
        database: Callable[[], Database],
        edges: Callable[[], PeriodEdges],
        jobs: Jobs,
        dispatcher: Dispatcher | None,
        clock: Callable[[], float],
        interval: float,
        stop: Event,
        balances: Callable[[], Balances],
        publisher: Callable[[], JetStreamPublisher] | None = None,
    ) -> None:
        self._journal = journal
        self._problems = problems
        self._folder = Folder(
            journal,
            problems,
            database=database,
            edges=edges,
            publisher=publisher,
            clock=clock,
            spend=self._spend,
        )
        self._needs_ledger = publisher is None
        self._database = database
        self._edges = edges
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._clock = clock
        self._stop = stop
        self._balances = balances
        self._notifying = PeriodicTask(self._notify_in_background, "meterkit-notices", interval)
        self._next_chores = time.monotonic()

    def flush(self) -> None:
        """
        Fold everything that this process has counted, and all orphans, into the ledger.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; flush again.
        """
        self._read_edges()  # before folding: it may be news to what was counted
        self._folder.fold_retired()  # before retiring more: while the ledger fails, generations must not pile up
        self._journal.rotate(now=self._clock())
        self._folder.fold_retired()
        self._folder.fold_orphans()
        self._journal.prepare()
        if time.monotonic() >= self._next_chores or self._stop.is_set():
            self._do_chores()

    def fold_retired(self) -> None:
        """
        Fold only what this process has counted and retired.

        Raises:
            LedgerError: The ledger failed; it stays in the journal.
        """
        self._read_edges()
        self._folder.fold_retired()

    def fold_orphans(self) -> None:
        """
        Fold only what other processes have handed over, or left.

        Raises:
            LedgerError: The ledger failed; it stays in the journal.
        """
        self._read_edges()
        self._folder.fold_orphans()

    def take_folded(self) -> list[str]:
        """Return the ids of the generations that were folded since the last call."""
        return self._folder.take_folded()

    def start_jobs(self) -> None:
        """Report, follow and notify, each in a thread of its own, if it is due."""
        self._jobs.tick()
        self.start_notices()

    def start_notices(self) -> None:
        """Evaluate the rules of notices in a thread of its own, if that is due."""
        if self._dispatcher is not None and not self._stop.is_set():
            self._notifying.start_if_due()

    def _read_edges(self) -> None:
        with self.ledger_noted():
            self._edges().read(self._database())
            self._problems.clear("ledger_failed")

    def _spend(self, connection: Connection, rows: Iterable[UsageRow], held: Mapping[tuple[str, str], int]) -> None:
        """Spend what usage is worth; see `meterkit.flusher.fold.Folder`."""
        balances = self._balances()
        balances.spend(connection, rows, held)
        for message in balances.unknown(held):
            self._problems.note("wallet_not_spent", message, level=logging.ERROR)

    def _do_chores(self) -> None:
        from meterkit.accounts.inbox import Inbox

        self._next_chores = time.monotonic() + CHORES_SECONDS
        recovery.sweep(self._journal.directory)
        with self.ledger_noted():
            Inbox(self._database(), clock=self._clock).forget()
            self._folder.forget_folded()
            balances = self._balances()
            if balances.wallets:
                with self._database().transaction() as connection:
                    balances.expire_due(connection)

    @contextmanager
    def ledger_noted(self) -> Iterator[None]:
        """If usage does not wait for the ledger, because it is published, only note that the ledger fails."""
        try:
            yield
        except LedgerError as error:
            if self._needs_ledger:
                raise
            message = f"usage goes on to JetStream, but what depends on the ledger waits: {error}"
            self._problems.note("ledger_failed", message, level=logging.ERROR)

    def _notify_in_background(self) -> float:
        assert self._dispatcher is not None
        try:
            self._dispatcher.run()
        except Exception as error:
            self._problems.note("notify_failed", f"notices could not be created: {error}", level=logging.ERROR)
        return time.monotonic()
