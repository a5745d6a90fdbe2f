"""
Runtime of one process: journal, database and the background flush.

One thread flushes every few seconds, and starts the `meterkit.runtime.stripe_jobs` when they are due. Correctness does
not depend on threads: a process without them, or one that is killed, leaves its journal to the next process that
flushes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.filesystem import ephemeral
from meterkit.core.problems import Problems, log_event
from meterkit.core.threads import DaemonThread, Event, WakeUp
from meterkit.core.usage_key import Counted
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.core.windows import Windows
from meterkit.errors import ConfigurationError, LedgerError
from meterkit.journal import recovery
from meterkit.journal.cardinality import MOST_KNOWN
from meterkit.journal.file_format import ForeignFileError, intact
from meterkit.journal.journal import Journal
from meterkit.runtime.periodic import PeriodicTask
from meterkit.runtime.settings import Settings, is_live
from meterkit.runtime.stripe_commands import StripeCommands
from meterkit.runtime.stripe_jobs import NO_KEY, StripeJobs

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from meterkit.accounts.accounts import Accounts
    from meterkit.accounts.inbox import Inbox
    from meterkit.accounts.period_edges import PeriodEdges
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor
    from meterkit.jetstream.collector import Collector
    from meterkit.jetstream.message import Sender
    from meterkit.jetstream.publisher import Publisher
    from meterkit.journal.generation import Generation
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.ledger.record_keys import Conflict
    from meterkit.metering.meter import Meter
    from meterkit.notices.dispatcher import MakeDispatcher

STOP_SECONDS = 1.5
"""How long an exit waits for the last flush. The next process that flushes moves what it leaves."""

LAST_REPORT_SECONDS = 5.0
"""How long an exit waits for the report of the open hour after that, if ``report_on_close=`` asks for it."""

CHORES_SECONDS = 3600.0
"""Interval at which old records are deleted, and linked companies and past billing periods are read."""


class ProcessRuntime:
    """
    Moves usage from the journal to the ledger, and from there to Stripe.

    Args:
        settings: Settings of the kit.
        problems: Where problems are reported.
        windows: Billing period boundaries, which this keeps up to date.
        meters: Meters of the kit, by name.
        governor: Governor of the kit, whose snapshot is rebuilt after each flush, or None.
        plans: Plans of the companies, which are read after each flush, or None.
        dispatcher: Function that builds the dispatcher of notices, or None.

    Attributes:
        journal: Journal of this process.
        stripe_jobs: Background jobs that talk to Stripe.
        dispatcher: Dispatcher of notices, or None.
    """

    def __init__(
        self,
        settings: Settings,
        problems: Problems,
        windows: Windows,
        *,
        meters: Mapping[str, Meter],
        governor: Governor | None = None,
        plans: CompanyPlans | None = None,
        dispatcher: MakeDispatcher | None = None,
    ) -> None:
        self._settings = settings
        self._problems = problems
        self._windows = windows
        self._wake = WakeUp()
        self._meters = meters
        self._governor = governor
        self._plans = plans
        self.journal = Journal(
            settings.data_dir / "journal",
            problems=problems,
            wake=self._wake.ring,
            watched=frozenset() if governor is None else governor.watched,
        )
        self._stop, self._flushed = Event(), Event()
        self._thread: DaemonThread | None = None
        # Both re-entrant, because a signal handler may flush or close.
        self._flushing = threads.rlock()
        self._opening = threads.rlock()
        self._flushing_thread: int | None = None
        self._database: Database | None = None
        self._period_edges: PeriodEdges | None = None
        self._usage: UsageByPeriod | None = None
        self._publisher: Publisher | None = None
        self.stripe_jobs = StripeJobs(
            settings, problems, database=self.database, stop=self._stop, changed=self._wake.ring
        )
        self.dispatcher = (
            None if dispatcher is None else dispatcher(database=self.database, usage=self.usage, stop=self._stop)
        )
        self._notifying = PeriodicTask(self._notify_in_background, "meterkit-notices", settings.flush_interval)
        self._folded: list[str] = []  # generations whose files are removed
        self._next_chores = time.monotonic()

    def start(self) -> None:
        """Open the journal and start the flushing thread. The caller holds a lock, and calls `report_trouble` later."""
        self.journal.open(now=self._settings.clock())
        with suppress(RuntimeError):  # at interpreter shutdown; the next process flushes what is counted now
            self._thread = DaemonThread(self._run, name="meterkit")

    @property
    def counts(self) -> bool:
        """Whether the journal is open and the flushing thread is running."""
        return self.journal.counts

    def report_trouble(self) -> None:
        """Report the problems that `start` found; logging must not happen under its caller's lock."""
        self.journal.pool.report_trouble()
        if self._settings.stripe_key is None:
            self._problems.note("no_stripe_key", NO_KEY)
        if self._settings.has_default_ledger:
            lost_with = ephemeral(self._settings.data_dir)
            if lost_with is not None:
                message = _EPHEMERAL.format(directory=self._settings.data_dir, lost_with=lost_with)
                log_event("ledger_ephemeral", message)
        if _has_no_threads():
            self._problems.note(
                "no_threads",
                "this uWSGI runs no Python threads, so usage stays in the journal until the worker ends: start it "
                "with enable-threads",
                level=logging.ERROR,
            )

    def flush(self, *, timeout: float = -1) -> None:
        """
        Fold everything that this process has counted, and all orphans, into the ledger.

        Args:
            timeout: Seconds to wait for a flush in another thread; -1 waits without limit.

        Raises:
            LedgerError: The ledger failed. Nothing is lost; flush again.
        """
        if self._flushing_thread == threads.thread_id():
            raise LedgerError("this thread is already flushing; that flush continues when this call returns")
        if not self._flushing.acquire(timeout=timeout):
            raise LedgerError("another flush is in progress, and takes too long")
        try:
            self._flushing_thread = threads.thread_id()
            try:
                self._fold()
            except Exception:
                if not self._stop.is_set():  # what requests are checked against must not grow old because of it
                    with suppress(LedgerError):
                        self._refresh_governor()
                raise
            try:
                self._refresh_governor()
            except LedgerError as error:
                if self._settings.jetstream is None:
                    raise
                self._note_ledger_failed(error)
        finally:
            self._flushing_thread = None
            self._flushing.release()
        self._problems.clear("flush_failed")

    def try_flush(self) -> None:
        """Flush; a failure is noted, not raised."""
        try:
            self.flush(timeout=STOP_SECONDS if self._stop.is_set() else -1)
        except Exception as error:
            self._note_flush_failed(error)

    def begin(self) -> Journal:
        """Flush now, so that requests are checked before the next regular flush, and return the journal."""
        self._wake.ring()
        return self.journal

    def wake(self) -> None:
        """Flush soon, if this process flushes at all."""
        self._wake.ring()

    def close(self) -> None:
        """Flush a last time if that takes only a moment, stop the threads, and close all files."""
        if self._database is not None:
            self._database.hurry()
        self._stop.set()
        self._wake.ring()
        if self._flushing_thread == threads.thread_id():
            return  # called by a signal handler during a flush, which continues; the files are closed at exit
        thread = self._thread
        if thread is None:
            if self.counts:
                self.try_flush()
        elif not thread.is_current:
            self._wait_for(thread)
        self.stripe_jobs.close()
        if self.dispatcher is not None:
            self.dispatcher.close()
        self.journal.close(flushing=self._flushing_thread is not None)
        if self._publisher is not None and self._flushing_thread is None:
            self._publisher.close()

    def _wait_for(self, thread: DaemonThread) -> None:
        """Wait a moment for the last flush, and longer for the last report if there is to be one."""
        reports = self._settings.report_on_close
        if not (self._flushed.wait(STOP_SECONDS) if reports else thread.join(STOP_SECONDS)):
            self._note_flush_failed(LedgerError("the last flush takes too long to wait for"))
        elif reports and not thread.join(LAST_REPORT_SECONDS):
            self.stripe_jobs.end_last_report()
            self.stripe_jobs.note_last_report_failed("it takes too long to wait for")

    def abandon(self) -> None:
        """Discard the parent's files, in a forked child. Its threads do not run here; its connections stay open."""
        self.journal.abandon()

    def ledger(self) -> Ledger:
        """Return the ledger; its database is opened when it is first used."""
        from meterkit.ledger.ledger import Ledger

        return Ledger(self.database(), clock=self._settings.clock)

    def commands(self) -> StripeCommands:
        """Return the operations on Stripe that run on demand."""
        return StripeCommands(self._settings, database=self.database, stripe_jobs=self.stripe_jobs)

    def accounts(self) -> Accounts:
        """Return the store of companies and customers; its database is opened when it is first used."""
        from meterkit.accounts.accounts import Accounts

        return Accounts(self.database(), clock=self._settings.clock)

    def inbox(self) -> Inbox:
        """Return the inbox of webhook events; its database is opened when it is first used."""
        from meterkit.accounts.inbox import Inbox

        return Inbox(self.database(), clock=self._settings.clock)

    def database(self) -> Database:
        """Return the ledger's database; it is opened when it is first used."""
        from meterkit.ledger.database import Database

        with self._opening:
            if self._database is None:
                settings = self._settings
                self._database = Database(
                    settings.ledger,
                    customer_ids=settings.customer_ids,
                    live=is_live(settings.stripe_key),
                    account=settings.stripe_account,
                )
            return self._database

    def usage(self) -> UsageByPeriod:
        """Return the usage in the current periods, which governance and notices share."""
        from meterkit.accounts.period_usage import UsageByPeriod

        database = self.database()
        with self._opening:
            if self._usage is None:
                self._usage = UsageByPeriod(database, {name: each.event_name for name, each in self._meters.items()})
            return self._usage

    def _fold(self) -> None:
        is_published = self._settings.jetstream is not None
        try:
            self._edges().read(self.database())  # before folding: it may be news to what was counted
            self._problems.clear("ledger_failed")
        except LedgerError as error:
            if not is_published:  # otherwise, usage does not wait for the ledger here
                raise
            self._note_ledger_failed(error)
        self._fold_retired()  # before retiring more: while the ledger fails, generations must not pile up
        self.journal.rotate(now=self._settings.clock())
        self._fold_retired()
        self._fold_orphans()
        self.journal.prepare()
        if time.monotonic() >= self._next_chores or self._stop.is_set():
            try:
                self._do_chores()
            except LedgerError as error:
                if not is_published:
                    raise
                self._note_ledger_failed(error)

    def _refresh_governor(self) -> None:
        awaited = self.journal.awaited if self._governor is not None else []
        if awaited:
            self.journal.arrived(self.ledger().folded(awaited))  # what the governor is about to read
        if self._plans is not None:
            self._plans.refresh(self.database())  # limits depend on them
        if self._governor is not None:
            self._governor.refresh(self.database(), self.usage(), self.journal)

    def _edges(self) -> PeriodEdges:
        from meterkit.accounts.period_edges import PeriodEdges

        if self._period_edges is None:
            is_patient = self._settings.jetstream is not None  # collectors place what is published
            self._period_edges = PeriodEdges(self._windows, clock=self._settings.clock, is_patient=is_patient)
        return self._period_edges

    def _fold_retired(self) -> None:
        from meterkit.ledger.database import UnstorableError

        for generation in self.journal.retired():
            reservations = None if self._governor is None else self._governor.reservations
            try:
                is_published = self._publish(generation, intact(generation.cells()))
                if not is_published:
                    self.ledger().fold(
                        generation.id,
                        self._edges().placed(intact(generation.cells()), since=generation.begun),
                        folded=None if reservations is None else reservations.move,
                        conflict=self._note_conflict,
                    )
            except (UnstorableError, ForeignFileError) as error:
                self.journal.give_up(generation, str(error))
                continue
            if not generation.is_full:  # the companies of a full one may be invented, and many
                self.journal.cardinality.remember(company for (_, _, company, _, _), _, _ in generation.cells())
            self.journal.forget(generation, published=is_published)
            self._folded.append(generation.id)
            self.journal.prepare()  # counts may arrive faster than they are folded

    def _publish(self, generation: Generation | recovery.Orphan, cells: Iterable[Counted]) -> bool:
        """
        Publish *generation*, unless the kit folds into the ledger itself; return whether JetStream has it.

        Raises:
            LedgerError: It is not certain that JetStream has it.
        """
        if self._settings.jetstream is None:
            return False
        from meterkit.jetstream.client import TooLargeError

        if isinstance(generation, recovery.Orphan) and not generation.cells:
            return True
        with suppress(OSError):  # it matters only to a kit that is built without jetstream= later
            generation.mark_published()
        try:
            self.publisher().publish(generation.id, cells, begun=generation.begun)
        except TooLargeError:  # rare, and the ledger takes it as well
            return False
        return True

    def publisher(self) -> Publisher:
        """Return what publishes to JetStream, with ``jetstream=``."""
        from meterkit.jetstream.publisher import Publisher

        assert self._settings.jetstream is not None
        with self._opening:
            if self._publisher is None:
                self._publisher = Publisher(self._settings.jetstream, self._sender())
            return self._publisher

    def collector(self, *, batch: int) -> Collector:
        """
        Return what folds what hosts have published.

        Args:
            batch: Generations in one transaction at most.

        Raises:
            ConfigurationError: The kit has no ``jetstream=``.
        """
        from meterkit.jetstream.collector import Collector

        settings = self._settings
        if settings.jetstream is None:
            raise ConfigurationError("this kit has no jetstream=, so its hosts publish nothing; add a JetStream")
        return Collector(
            settings.jetstream,
            self.database(),
            sender=self._sender(),
            problems=self._problems,
            clock=settings.clock,
            batch=batch,
        )

    def _sender(self) -> Sender:
        from meterkit.jetstream.message import Sender

        return Sender(is_live(self._settings.stripe_key), self._settings.stripe_account)

    def _fold_orphans(self) -> None:
        failed: Exception | None = None
        for orphan in self.journal.orphans():
            try:
                self._fold_orphan(orphan)
            except LedgerError:  # it would fail for the others, too
                raise
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _fold_orphan(self, orphan: recovery.Orphan) -> None:
        from meterkit.ledger.database import UnstorableError

        may_be_forgotten = self._settings.jetstream is not None or not orphan.published
        try:
            # What is not published any more may have been, and a collector may come to it: the ledger remembers it.
            if not self._publish(orphan, orphan.cells):
                cells = self._edges().placed(orphan.cells, since=orphan.begun)
                self.ledger().fold(orphan.id, cells, conflict=self._note_conflict)
        except UnstorableError as error:
            orphan.keep_refused(str(error), self._problems)
            return
        except BaseException:
            orphan.release()
            raise
        if orphan.torn is not None:
            orphan.keep(orphan.torn, self._problems)
            return
        try:
            orphan.discard()
        except OSError as error:  # the ledger remembers that it is folded
            message = f"{orphan.path} is in the ledger, but cannot be removed: {error}"
            self._problems.note("journal_unreadable", message, level=logging.ERROR)
        else:
            if may_be_forgotten:
                self._folded.append(orphan.id)

    def _note_conflict(self, found: Conflict) -> None:
        self._problems.note("key_reused", found.message, meter=found.meter, company=found.company)

    def _note_ledger_failed(self, error: LedgerError) -> None:
        message = f"usage goes on to JetStream, but what depends on the ledger waits: {error}"
        self._problems.note("ledger_failed", message, level=logging.ERROR)

    def _do_chores(self) -> None:
        self._next_chores = time.monotonic() + CHORES_SECONDS
        recovery.sweep(self.journal.directory)
        self.inbox().forget()
        self._windows.past = self.accounts().boundaries(since=int(self._settings.clock()) - OLDEST_SECONDS)
        self.journal.cardinality.remember(self.accounts().linked_companies(limit=MOST_KNOWN))
        # Once a removed file cannot come back after a power cut, the record that it was folded can be deleted.
        folded = list(self._folded)
        if folded and recovery.sync(self.journal.directory):
            # A copy of what was published may still come.
            forgotten = folded if self._settings.jetstream is None else self.publisher().forgettable(folded)
            del self._folded[: len(folded)]
            self.journal.arrived(forgotten)
            self.ledger().forget(forgotten)

    def _run(self) -> None:
        try:
            is_last = False
            while not is_last:
                self._wake.wait(self._settings.flush_interval)
                is_last = self._stop.is_set()  # read before the flush: one during which it is set may miss counts
                self.try_flush()
                threads.close_django_connections()  # of a limit= function that queries
                self.stripe_jobs.tick()
                if self.dispatcher is not None and not self._stop.is_set():
                    self._notifying.start_if_due()
            self._flushed.set()
            if self._settings.report_on_close:  # in this thread: at the exit of an interpreter, no other can be started
                self.stripe_jobs.report_last()
        finally:
            self._flushed.set()
            self._thread, self.journal.counts = None, False  # after an unexpected error, the next count starts another

    def _notify_in_background(self) -> float:
        assert self.dispatcher is not None
        try:
            self.dispatcher.run()
        except Exception as error:
            self._problems.note("notify_failed", f"notices could not be created: {error}", level=logging.ERROR)
        return time.monotonic()

    def _note_flush_failed(self, error: Exception) -> None:
        self._problems.note(
            "flush_failed",
            f"usage could not be moved to the ledger, and stays in the journal: {error}",
            level=logging.ERROR,
        )


_EPHEMERAL = (
    "the ledger is in {directory}, {lost_with}: what Stripe does not have by then is lost, which is all usage of the "
    "open hour. Put data_dir= on a volume that outlives the container, or set ledger= to PostgreSQL; "
    "report_on_close=True reports the open hour at each graceful stop"
)


def _has_no_threads() -> bool:
    """Return whether this is a uWSGI that runs no Python threads between requests. Only uWSGI has such a module."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None or uwsgi.version_info[:3] >= (2, 0, 27):  # from this version on, threads always run
        return False
    return not {"enable-threads", "threads"} & set(uwsgi.opt)
