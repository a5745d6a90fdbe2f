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
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.filesystem import ephemeral
from meterkit.core.problems import Problems, log_event
from meterkit.core.threads import DaemonThread, Event, WakeUp
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.core.windows import Windows
from meterkit.errors import LedgerError
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
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.ledger.record_keys import Conflict
    from meterkit.metering.meter import Meter
    from meterkit.notices.dispatcher import MakeDispatcher
    from meterkit.publishing.publisher import Publisher
    from meterkit.publishing.rules import SnapshotRules
    from meterkit.snapshot.reader import SnapshotFile, SnapshotSource

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
        source: Snapshot that requests are checked against, which is published after each flush.
        rules: What it follows from.
        governor: Governor of the kit, or None.
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
        source: SnapshotSource,
        rules: SnapshotRules | None,
        governor: Governor | None = None,
        plans: CompanyPlans | None = None,
        dispatcher: MakeDispatcher | None = None,
    ) -> None:
        self._settings = settings
        self._problems = problems
        self._windows = windows
        self._wake = WakeUp()
        self._meters = meters
        self._source, self._rules = source, rules
        self._publisher: Publisher | None = None
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
            self._refresh_governor()
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
        self._edges().read(self.database())  # before folding: it may be news to what was counted
        self._fold_retired()  # before retiring more: while the ledger fails, generations must not pile up
        self.journal.rotate(now=self._settings.clock())
        self._fold_retired()
        self._fold_orphans()
        self.journal.prepare()
        if time.monotonic() >= self._next_chores or self._stop.is_set():
            self._do_chores()

    def _refresh_governor(self) -> None:
        if self._plans is not None:
            self._plans.refresh(self.database())  # limits depend on them
        if self._rules is not None:
            self._source.use(self._publish(self._rules))
        if self._governor is not None:
            self._governor.renew(self.journal)
            self._governor.write(self.database(), self.journal)

    def _publish(self, rules: SnapshotRules) -> SnapshotFile:
        settings = self._settings
        if self._publisher is None:
            about = (settings.ledger, is_live(settings.stripe_key), settings.stripe_account, settings.customer_ids)
            self._publisher = rules.publisher(self.database(), self.usage(), rules.fingerprint(about))
        return self._publisher.publish(
            None, int(settings.clock()), edges=self._windows.boundaries, past=self._windows.past
        )

    def _edges(self) -> PeriodEdges:
        from meterkit.accounts.period_edges import PeriodEdges

        if self._period_edges is None:
            self._period_edges = PeriodEdges(self._windows, clock=self._settings.clock)
        return self._period_edges

    def _fold_retired(self) -> None:
        from meterkit.ledger.database import UnstorableError

        edges = self._edges()
        for generation in self.journal.retired():
            reservations = None if self._governor is None else self._governor.reservations
            try:
                self.ledger().fold(
                    generation.id,
                    edges.placed(intact(generation.cells()), since=generation.begun),
                    folded=None if reservations is None else reservations.move,
                    conflict=self._note_conflict,
                )
            except (UnstorableError, ForeignFileError) as error:
                self.journal.give_up(generation, str(error))
                continue
            if not generation.is_full:  # the companies of a full one may be invented, and many
                self.journal.cardinality.remember(company for (_, _, company, _, _), _, _ in generation.cells())
            self.journal.forget(generation)
            self._folded.append(generation.id)
            self.journal.prepare()  # counts may arrive faster than they are folded

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

        try:
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
            self._folded.append(orphan.id)

    def _note_conflict(self, found: Conflict) -> None:
        self._problems.note(
            "key_reused",
            f"record(key={found.key!r:.100}) of {found.meter} for {found.company!r:.100} counted {found.counted:,}, "
            f"and was called again with {found.ignored:,}, which does not count: give each piece of work its own key",
            meter=found.meter,
            company=found.company,
        )

    def _do_chores(self) -> None:
        self._next_chores = time.monotonic() + CHORES_SECONDS
        recovery.sweep(self.journal.directory)
        self.inbox().forget()
        self._windows.past = self.accounts().boundaries(since=int(self._settings.clock()) - OLDEST_SECONDS)
        self.journal.cardinality.remember(self.accounts().linked_companies(limit=MOST_KNOWN))
        # Once a removed file cannot come back after a power cut, the record that it was folded can be deleted.
        folded = list(self._folded)
        if folded and recovery.sync(self.journal.directory):
            self.ledger().forget(folded)
            del self._folded[: len(folded)]

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
