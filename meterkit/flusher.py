"""
Wiring: all of a kit that belongs to one process: its journal, its connection to the ledger, its background thread.

The thread flushes every few seconds and reports every hour. It makes things sooner, never right or wrong: a process
without it, or one that is killed, leaves its journal to the next that flushes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from meterkit.configuration import Settings
from meterkit.errors import LedgerError
from meterkit.journal import Journal
from meterkit.problems import Problems

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by the thread, or by a call that needs them
    from meterkit.ledger import Ledger
    from meterkit.outbox import Outbox, Summary
    from meterkit.reporter import Reporter

NO_KEY = "there is no stripe_key= and no STRIPE_SECRET_KEY: usage is counted and kept, and not reported to Stripe"

STOP_SECONDS = 1.0
"""How long an exit waits for the thread, which may be in the midst of a call to Stripe."""

FIRST_RETRY_SECONDS = 60.0
"""After a report that could not send everything; doubled each time, up to the report interval."""


class Flusher:
    """
    Moves usage from the journal to the ledger, and from there to Stripe.

    Attributes:
        pid: Of the process it belongs to.
        counts: It is ready to count.
        last_report: What the latest report did, in this process.
    """

    def __init__(self, settings: Settings, problems: Problems) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._problems = problems
        # Not an Event, whose set() is not safe in a signal handler; put() is.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self.journal = Journal(settings.data_dir / "journal", problems=problems, wake=lambda: self._wake.put(None))
        self.counts = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._flushing = threading.RLock()
        self._opening = threading.Lock()
        self._ledger: Ledger | None = None
        self._outbox: Outbox | None = None
        self._reporter: Reporter | None = None
        self._next_report = time.monotonic()  # at once: a former process may have left something
        self._retry_seconds = FIRST_RETRY_SECONDS
        self.last_report: Summary | None = None

    def start(self) -> None:
        """Begin to count, and to flush in the background. The caller holds a lock; `report_trouble` comes after."""
        self.journal.open()
        thread = threading.Thread(target=self._run, name="meterkit", daemon=True)
        with suppress(RuntimeError):  # at interpreter shutdown; the next process flushes what is counted now
            thread.start()
            self._thread = thread
        self.counts = True

    def report_trouble(self) -> None:
        """Tell what the start could not."""
        self.journal.report_trouble()
        if self._settings.stripe_key is None:
            self._problems.note("no_stripe_key", NO_KEY)

    def flush(self, *, timeout: float = -1) -> None:
        """
        Fold into the ledger what this process counted, and what dead processes left.

        Args:
            timeout: Seconds to wait for a flush in another thread; -1 waits until it is done.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; flush again.
        """
        if not self._flushing.acquire(timeout=timeout):
            raise LedgerError("another flush is under way, and takes long")
        try:
            self._fold_retired()  # before retiring more: while the ledger fails, generations must not pile up
            self.journal.rotate()
            self._fold_retired()
            self._fold_orphans()
            self.journal.prepare()
        finally:
            self._flushing.release()
        self._problems.clear("flush_failed")

    def report(self, *, include_open: bool = False, between: Callable[[], None] = lambda: None) -> Summary:
        """
        Send to Stripe what is due.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; report again.
        """
        from meterkit.outbox import Summary

        if self._settings.stripe_key is None:
            return Summary(error=NO_KEY)
        from meterkit.reporter import Reporter

        outbox = self.outbox()
        with self._opening:
            if self._reporter is None:
                key, base = self._settings.stripe_key, self._settings.stripe_base
                self._reporter = Reporter(outbox, api_key=key, base=base, stop=self._stop)
        self.last_report = self._reporter.run(include_open=include_open, between=between)
        return self.last_report

    def close(self) -> None:
        """Stop the thread, flush what can be flushed in a moment, and let go of all files."""
        self._stop.set()
        self._wake.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)
        try:
            self.flush(timeout=STOP_SECONDS)
        except Exception as error:
            self._note_flush_failed(error)
        self.journal.close()
        if self._reporter is not None and (thread is None or not thread.is_alive()):
            self._reporter.close()

    def abandon(self) -> None:
        """In a forked child: forget the parent's files; its thread is not here, its connections are not ours."""
        self.journal.abandon()

    def ledger(self) -> Ledger:
        """The ledger; opened by its first use."""
        self._open()
        assert self._ledger is not None
        return self._ledger

    def outbox(self) -> Outbox:
        """The outbox; opened by its first use."""
        self._open()
        assert self._outbox is not None
        return self._outbox

    def _open(self) -> None:
        from meterkit.database import Database
        from meterkit.ledger import Ledger
        from meterkit.outbox import Outbox

        with self._opening:
            if self._ledger is None:
                database = Database(self._settings.ledger)
                self._ledger = Ledger(database, clock=self._settings.clock)
                self._outbox = Outbox(database, clock=self._settings.clock)

    def _fold_retired(self) -> None:
        for generation in self.journal.retired():
            self.ledger().fold(generation.id, generation.cells())
            self.journal.forget(generation)

    def _fold_orphans(self) -> None:
        for orphan in self.journal.orphans():
            try:
                self.ledger().fold(orphan.id, orphan.cells)
            except BaseException:
                orphan.release()
                raise
            if orphan.torn is None:
                orphan.discard()
            else:
                self.journal.report_torn(orphan)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(Empty):
                self._wake.get(timeout=self._settings.flush_interval)
            if not self._stop.is_set():
                self._flush_in_background()
            if not self._stop.is_set() and time.monotonic() >= self._next_report:
                self._report_in_background()
        if self._reporter is not None:
            self._reporter.close()

    def _flush_in_background(self) -> None:
        try:
            self.flush()
        except Exception as error:
            self._note_flush_failed(error)

    def _report_in_background(self) -> None:
        interval = self._settings.report_interval
        # Soon after the hour, when every process has flushed what it counted in it.
        grace = 2 * self._settings.flush_interval
        self._next_report = time.monotonic() + interval - self._settings.clock() % interval + grace
        try:
            summary = self.report(between=self._flush_between_events())
            trouble = summary.error if summary.postponed or summary.rejected or summary.uncertain else ""
        except Exception as error:
            trouble = repr(error)
        if not trouble:
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._problems.clear("report_failed")
            return
        self._problems.note("report_failed", f"usage could not be reported to Stripe: {trouble}", level=logging.ERROR)
        self._next_report = min(self._next_report, time.monotonic() + self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, interval)

    def _flush_between_events(self) -> Callable[[], None]:
        due = time.monotonic() + self._settings.flush_interval

        def flush_if_due() -> None:
            nonlocal due
            if time.monotonic() >= due and not self._stop.is_set():
                self._flush_in_background()
                due = time.monotonic() + self._settings.flush_interval

        return flush_if_due

    def _note_flush_failed(self, error: Exception) -> None:
        self._problems.note(
            "flush_failed",
            f"usage could not be moved to the ledger, and stays in the journal: {error}",
            level=logging.ERROR,
        )
