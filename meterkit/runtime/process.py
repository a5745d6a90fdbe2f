"""
Runtime of one process: journal, database and the background flush.

One thread flushes every few seconds, and sends the `meterkit.runtime.stripe_jobs` to Stripe. The threads make things
sooner, never right or wrong: a process without them, or one that is killed, leaves its journal to the next that
flushes.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.threads import DaemonThread, Event, WakeUp
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.core.windows import Windows
from meterkit.errors import LedgerError
from meterkit.journal import recovery
from meterkit.journal.cardinality import MOST_KNOWN
from meterkit.journal.journal import Journal
from meterkit.runtime.periodic import PeriodicTask
from meterkit.runtime.settings import Settings
from meterkit.runtime.stripe_commands import StripeCommands
from meterkit.runtime.stripe_jobs import NO_KEY, StripeJobs

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from meterkit.accounts.accounts import Accounts
    from meterkit.accounts.inbox import Inbox
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.governance.governor import Governor
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.notices.dispatcher import MakeDispatcher
    from meterkit.outbox.corrections import Corrections
    from meterkit.outbox.late_usage import Late
    from meterkit.outbox.outbox import Outbox

STOP_SECONDS = 1.5
"""How long an exit waits for the last flush. What it does not move, the next process that flushes does."""

LOOK_SECONDS = 60.0
"""Between two looks at which billing periods end within the hour."""

CHORES_SECONDS = 3600.0
"""Between two looks at what need not be remembered any more, and at who is known."""


class ProcessRuntime:
    """
    Moves usage from the journal to the ledger, and from there to Stripe.

    Attributes:
        courier: Goes to Stripe.
    """

    def __init__(
        self,
        settings: Settings,
        problems: Problems,
        windows: Windows,
        *,
        governor: Governor | None = None,
        dispatcher: MakeDispatcher | None = None,
    ) -> None:
        self._settings = settings
        self._problems = problems
        self._windows = windows
        self._wake = WakeUp()
        self._governor = governor
        self.journal = Journal(
            settings.data_dir / "journal",
            problems=problems,
            wake=self._wake.ring,
            watched=frozenset() if governor is None else governor.watched,
        )
        self._stop = Event()
        self._thread: DaemonThread | None = None
        # Both re-entrant, because a signal handler may flush or close.
        self._flushing = threads.rlock()
        self._opening = threads.rlock()
        self._flushing_thread: int | None = None
        self._database: Database | None = None
        self._usage: UsageByPeriod | None = None
        self.stripe_jobs = StripeJobs(
            settings, problems, database=self.database, stop=self._stop, changed=self._wake.ring
        )
        self.dispatcher = (
            None if dispatcher is None else dispatcher(database=self.database, usage=self.usage, stop=self._stop)
        )
        self._notifying = PeriodicTask(self._notify_in_background, "meterkit-notices", settings.flush_interval)
        self._folded: list[str] = []  # generations whose files are removed
        self._next_chores = self._next_look = time.monotonic()

    def start(self) -> None:
        """Begin to count, and to flush in the background. The caller holds a lock; `report_trouble` comes after."""
        self.journal.open()
        with suppress(RuntimeError):  # at interpreter shutdown; the next process flushes what is counted now
            self._thread = DaemonThread(self._run, name="meterkit")

    @property
    def counts(self) -> bool:
        """It is ready to count, and a thread flushes."""
        return self.journal.counts

    def report_trouble(self) -> None:
        """Tell what the start could not."""
        self.journal.pool.report_trouble()
        if self._settings.stripe_key is None:
            self._problems.note("no_stripe_key", NO_KEY)
        if _has_no_threads():
            self._problems.note(
                "no_threads",
                "this uWSGI runs no Python threads, so usage stays in the journal until the worker ends: start it "
                "with enable-threads",
                level=logging.ERROR,
            )

    def flush(self, *, timeout: float = -1) -> None:
        """
        Fold into the ledger what this process counted, and what dead processes left.

        Args:
            timeout: Seconds to wait for a flush in another thread; -1 waits until it is done.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; flush again.
        """
        if self._flushing_thread == threads.thread_id():
            raise LedgerError("this thread is in the midst of a flush, which goes on when this returns")
        if not self._flushing.acquire(timeout=timeout):
            raise LedgerError("another flush is under way, and takes long")
        try:
            self._flushing_thread = threads.thread_id()
            self._fold_retired()  # before retiring more: while the ledger fails, generations must not pile up
            self.journal.rotate()
            self._fold_retired()
            self._fold_orphans()
            self.journal.prepare()
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_SECONDS
                self._windows.boundaries = self.accounts().boundaries()
            if time.monotonic() >= self._next_chores or self._stop.is_set():
                self._do_chores()
            if self._governor is not None:
                self._governor.refresh(self.database(), self.usage(), self.journal)
        finally:
            self._flushing_thread = None
            self._flushing.release()
        self._problems.clear("flush_failed")

    def begin(self) -> Journal:
        """Look now who may pass, or nobody would be stopped before the next flush; answers where it is counted."""
        self._wake.ring()
        return self.journal

    def close(self) -> None:
        """Stop the threads, after a last flush if that takes but a moment, and let go of all files."""
        if self._database is not None:
            self._database.hurry()
        self._stop.set()
        self._wake.ring()
        if self._flushing_thread == threads.thread_id():
            return  # called by a signal handler amidst a flush, which goes on; the files go when the process does
        thread = self._thread
        if thread is None:
            if self.counts:
                self._flush_in_background()
        elif not thread.is_current and not thread.join(STOP_SECONDS):
            self._note_flush_failed(LedgerError("the last flush takes too long to wait for"))
        self.stripe_jobs.close()
        if self.dispatcher is not None:
            self.dispatcher.close()
        self.journal.close(flushing=self._flushing_thread is not None)

    def abandon(self) -> None:
        """In a forked child: forget the parent's files; its threads are not here, its connections are not ours."""
        self.journal.abandon()

    def ledger(self) -> Ledger:
        """The ledger; opened by its first use."""
        from meterkit.ledger.ledger import Ledger

        return Ledger(self.database(), clock=self._settings.clock)

    def outbox(self) -> Outbox:
        """The outbox; opened by its first use."""
        from meterkit.outbox.outbox import Outbox

        return Outbox(self.database(), clock=self._settings.clock)

    def late(self) -> list[Late]:
        """What reached Stripe in the last 35 days after its invoice was final, and is on none."""
        from meterkit.outbox.late_usage import late_reports

        return late_reports(self.database(), "sent", since=int(self._settings.clock()) - OLDEST_SECONDS)

    def commands(self) -> StripeCommands:
        """Return what runs the operations on Stripe that somebody asks for."""
        return StripeCommands(self._settings, database=self.database, stripe_jobs=self.stripe_jobs)

    def accounts(self) -> Accounts:
        """Who pays; opened by its first use."""
        from meterkit.accounts.accounts import Accounts

        return Accounts(self.database(), clock=self._settings.clock)

    def mending(self) -> Corrections:
        """What was taken back; opened by its first use."""
        from meterkit.outbox.corrections import Corrections

        return Corrections(self.database(), clock=self._settings.clock)

    def inbox(self) -> Inbox:
        """The webhook events; opened by its first use."""
        from meterkit.accounts.inbox import Inbox

        return Inbox(self.database(), clock=self._settings.clock)

    def database(self) -> Database:
        """Where both are kept."""
        from meterkit.ledger.database import Database

        with self._opening:
            if self._database is None:
                self._database = Database(self._settings.ledger)
            return self._database

    def usage(self) -> UsageByPeriod:
        """Return the usage in the current periods, which governance and notices share."""
        from meterkit.accounts.period_usage import UsageByPeriod

        database = self.database()
        with self._opening:
            if self._usage is None:
                self._usage = UsageByPeriod(database)
            return self._usage

    def _fold_retired(self) -> None:
        for generation in self.journal.retired():
            reservations = None if self._governor is None else self._governor.reservations
            self.ledger().fold(
                generation.id, generation.cells(), folded=None if reservations is None else reservations.move
            )
            if not generation.is_full:  # or they may be invented, and many
                self.journal.flood.know(company for (_, _, company, _, _), _, _ in generation.cells())
            self.journal.forget(generation)
            self._folded.append(generation.id)
            self.journal.prepare()  # more may come, faster than this

    def _fold_orphans(self) -> None:
        for orphan in self.journal.orphans():
            try:
                self.ledger().fold(orphan.id, orphan.cells)
            except BaseException:
                orphan.release()
                raise
            if orphan.torn is None:
                orphan.discard()
                self._folded.append(orphan.id)
            else:
                orphan.keep_torn(self._problems)

    def _do_chores(self) -> None:
        self._next_chores = time.monotonic() + CHORES_SECONDS
        recovery.sweep(self.journal.directory)
        self.inbox().forget()
        self._windows.past = self.accounts().boundaries(since=int(self._settings.clock()) - OLDEST_SECONDS)
        self.journal.flood.know(self.accounts().linked_companies(limit=MOST_KNOWN))
        # Once a removed file cannot come back, with a power cut, nobody needs to know that it was folded.
        folded = list(self._folded)
        if folded and recovery.sync(self.journal.directory):
            self.ledger().forget(folded)
            del self._folded[: len(folded)]

    def _run(self) -> None:
        try:
            is_last = False
            while not is_last:
                self._wake.wait(self._settings.flush_interval)
                is_last = self._stop.is_set()  # asked before: a flush that a stop comes upon has not seen all
                self._flush_in_background()
                self.stripe_jobs.tick()
                if self.dispatcher is not None and not self._stop.is_set():
                    self._notifying.start_if_due()
        finally:
            self._thread, self.journal.counts = None, False  # by what no flush may raise; the next count starts another

    def _flush_in_background(self) -> None:
        try:
            self.flush(timeout=STOP_SECONDS if self._stop.is_set() else -1)
        except Exception as error:
            self._note_flush_failed(error)

    def _notify_in_background(self) -> float:
        assert self.dispatcher is not None
        try:
            self.dispatcher.run()
        except Exception as error:
            self._problems.note("notify_failed", f"nobody could be told of what happens: {error}", level=logging.ERROR)
        return time.monotonic()

    def _note_flush_failed(self, error: Exception) -> None:
        self._problems.note(
            "flush_failed",
            f"usage could not be moved to the ledger, and stays in the journal: {error}",
            level=logging.ERROR,
        )


def _has_no_threads() -> bool:
    """Whether this is a uWSGI that holds the interpreter's lock between requests; only it has such a module."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None or uwsgi.version_info[:3] >= (2, 0, 27):  # from then on it has threads in any case
        return False
    return not {"enable-threads", "threads"} & set(uwsgi.opt)
