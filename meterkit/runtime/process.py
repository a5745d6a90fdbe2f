"""
Runtime of one process: journal, database and the background thread.

Of the processes that share a `data_dir`, the one that holds its lock flushes every few seconds, as
`meterkit.flusher.flusher` says; the others hand over what they have counted. Correctness does not depend on threads: a
process without them, or one that is killed, leaves its journal to the next process that flushes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.filesystem import ephemeral
from meterkit.core.problems import Problems, log_event
from meterkit.core.threads import DaemonThread, Event, WakeUp
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.core.windows import Windows
from meterkit.errors import LedgerError
from meterkit.flusher.flusher import Flusher
from meterkit.flusher.handover import HandOver, flushes_as, ledger_name, next_moment
from meterkit.flusher.lock import FlusherLock
from meterkit.journal.cardinality import MOST_KNOWN
from meterkit.journal.journal import Journal
from meterkit.publication.request_figures import RequestFigures
from meterkit.runtime.resources import Resources
from meterkit.runtime.settings import Settings, is_live
from meterkit.runtime.stripe_jobs import NO_KEY, StripeJobs

if TYPE_CHECKING:  # SQLAlchemy and stripe are imported by a thread, or by a call that needs them
    from meterkit.accounts.period_edges import PeriodEdges
    from meterkit.flusher.child import FlusherChild
    from meterkit.flusher.importable import Importable
    from meterkit.flusher.launch import Launch
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor
    from meterkit.metering.meter import Meter
    from meterkit.notices.dispatcher import MakeDispatcher
    from meterkit.publication.rules import SnapshotRules
    from meterkit.runtime.stripe_commands import StripeCommands
    from meterkit.snapshot.reader import SnapshotSource

STOP_SECONDS = 1.5
"""How long an exit waits for the last flush. The next process that flushes moves what it leaves."""

LAST_HAND_OVER_SECONDS = 0.5
"""How much of that it waits for the process that flushes for all. Then it flushes itself."""

LAST_REPORT_SECONDS = 5.0
"""How long an exit waits for the report of the open hour after that, if ``report_on_close=`` asks for it."""

POLL_SECONDS = 0.1
"""Interval at which the process that flushes looks whether another has asked it to fold what was handed over."""

HANDED_OVER_SECONDS = 30.0
"""How long `ProcessRuntime.flush` waits for what another process is moving to the ledger right then."""

LEARNING_SECONDS = 3600.0
"""Interval at which linked companies and past billing periods are read."""

REST = 4
"""How long figures are not published again for what was handed over, as a multiple of the time that it takes."""

_BUSY_SECONDS = 0.01


class ProcessRuntime(Resources):
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
        importable: The kit, as another process can import it, or None if no other is to flush for it.

    Attributes:
        journal: Journal of this process.
        lock: Lock of the `data_dir`; its holder flushes.
        flusher: What the holder does.
        figures: What requests are checked against.
        child: The process that this one starts to be the holder, or None if it starts none.
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
        rules: SnapshotRules,
        governor: Governor | None = None,
        plans: CompanyPlans | None = None,
        dispatcher: MakeDispatcher | None = None,
        importable: Importable | None = None,
    ) -> None:
        super().__init__(settings, problems, meters=meters)
        self._windows = windows
        self._wake = WakeUp()
        self._governor = governor
        self.journal = Journal(
            settings.data_dir / "journal",
            problems=problems,
            wake=self._wake.ring,
            watched=frozenset() if governor is None else governor.watched,
            ledger=ledger_name(settings),
            adopts_all=lambda: self.lock.held or self.lock.holder() is None,
            publishes=settings.jetstream is not None,
        )
        self._stop, self._flushed = Event(), Event()
        self._thread: DaemonThread | None = None
        self._flushing = threads.rlock()  # re-entrant, because a signal handler may flush or close
        self._flushing_thread: int | None = None
        self._period_edges: PeriodEdges | None = None
        self.stripe_jobs = StripeJobs(
            settings, problems, database=self.database, stop=self._stop, changed=self._note_change
        )
        self.dispatcher = (
            None if dispatcher is None else dispatcher(database=self.database, usage=self.usage, stop=self._stop)
        )
        self.lock = FlusherLock(settings.data_dir, ledger=flushes_as(settings, notifies=dispatcher is not None))
        self.child = None if importable is None else self._child_for(importable)
        self.flusher = Flusher(
            self.journal,
            problems,
            database=self.database,
            edges=self._edges,
            jobs=self.stripe_jobs,
            dispatcher=self.dispatcher,
            clock=settings.clock,
            interval=settings.flush_interval,
            stop=self._stop,
            balances=self.balances,
            publisher=None if settings.jetstream is None else self.jetstream,
        )
        self._hand_over = HandOver(
            self.journal,
            self.lock,
            problems,
            fold=self.flusher.fold_retired,
            clock=settings.clock,
        )
        self._next_learning = time.monotonic()
        self._is_leader = self._awaits = False
        self._next_refresh = time.monotonic()
        about = (ledger_name(settings), is_live(settings.stripe_key), settings.stripe_account, settings.customer_ids)
        self.figures = RequestFigures(
            self,
            source,
            rules,
            rules.fingerprint(about),
            data_dir=settings.data_dir,
            clock=settings.clock,
            interval=settings.flush_interval,
            journal=self.journal,
            windows=windows,
            governor=governor,
            plans=plans,
            folded=self.flusher.take_folded,
        )

    def start(self) -> None:
        """Open the journal and start the flushing thread. The caller holds a lock, and calls `report_trouble` later."""
        self.journal.open(now=self._settings.clock())
        with suppress(RuntimeError):  # at interpreter shutdown; the next process flushes what is counted now
            self._thread = DaemonThread(self._run, name="meterkit")

    @property
    def counts(self) -> bool:
        """Whether the journal is open and the flushing thread is running."""
        return self.journal.counts

    @property
    def is_shadow(self) -> bool:
        """Whether the kit is in shadow mode now."""
        return self._settings.is_shadow()

    def report_trouble(self) -> None:
        """Report the problems that `start` found; logging must not happen under its caller's lock."""
        self.journal.pool.report_trouble()
        if self._settings.stripe_key is None and not self._settings.is_shadow():
            self._problems.note("no_stripe_key", NO_KEY)
        if self._settings.is_shadow():
            log_event("shadow_mode", _SHADOW)  # in each process: what it counts is never billed
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
        Fold everything that this process has counted, and all orphans, into the ledger, whoever flushes otherwise.

        Args:
            timeout: Seconds to wait for a flush in another thread; -1 waits without limit.

        Raises:
            LedgerError: The ledger failed, or the process that flushes takes too long with what was handed over to it.
                Nothing is lost; flush again.
        """
        with self._one_flush(timeout):
            was_held = self.lock.held
            self.lock.try_acquire()  # if it is free, so that no other begins to do the same
            try:
                self.flusher.flush()
                self._await_handed_over()
                with self.flusher.ledger_noted():
                    self._learn()
            except Exception:
                if not self._stop.is_set():  # what requests are checked against must not grow old because of it
                    with suppress(LedgerError):
                        self._refresh_figures()
                raise
            finally:
                if not was_held:  # it belongs to a process with a thread
                    self.lock.release()
            with self.flusher.ledger_noted():
                self._refresh_figures()
        self._problems.clear("flush_failed")

    def try_flush(self) -> None:
        """Flush; a failure is noted, not raised."""
        self._try(lambda: self.flush(timeout=self._patience))

    def begin(self) -> Journal:
        """Flush now, so that requests are checked before the next regular flush, and return the journal."""
        self._wake.ring()
        return self.journal

    def wake(self) -> None:
        """Flush soon, if this process flushes at all, and ask the one that flushes for it."""
        self._note_change()

    def flush_for_all(self, *, ready: Callable[[], None]) -> bool:
        """
        Flush, report, follow and notify in this thread, as the holder of the lock, until `end` is called.

        Args:
            ready: Function that is called after the first flush that succeeded.

        Returns:
            Whether the last flush succeeded; if not, usage waits in the journal.
        """
        is_ready = is_last = False
        while not is_last:
            is_last = self._stop.is_set()  # read before the flush, as in `_run`
            if self._thread is None:  # otherwise something was counted in this process, and the thread flushes
                self._tick(is_last=is_last)
            is_well = "flush_failed" not in self._problems.as_dict()
            if is_well and not is_ready:
                ready()
                is_ready = True
            if not is_last:
                self._wait()
        if self._thread is None:
            self._resign()
            if self._settings.report_on_close:
                self.stripe_jobs.report_last()
        return is_well

    def end(self) -> None:
        """Have `flush_for_all` flush a last time and return. Safe in a signal handler."""
        self._stop.set()
        self._wake.ring()

    def wait_for_end(self, seconds: float) -> bool:
        """Wait for `end`, at most so many *seconds*; return whether it was called."""
        return self._stop.wait(seconds)

    def _note_change(self) -> None:
        """Follow up on a webhook event, or on what one has changed, in whichever process flushes."""
        self._wake.ring()
        if not self.lock.held:
            self.lock.ask()

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
        if self.child is not None:
            reports = LAST_REPORT_SECONDS if self._settings.report_on_close else 0
            self.child.close(STOP_SECONDS + reports)  # it flushes a last time for the others, too
        self.stripe_jobs.close()
        if self.dispatcher is not None:
            self.dispatcher.close()
        self._give_back()
        self.journal.close(flushing=self._flushing_thread is not None)
        if self._jetstream is not None and self._flushing_thread is None:
            self._jetstream.close()

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
        self.lock.abandon()
        if self.child is not None:
            self.child.abandon()

    def commands(self) -> StripeCommands:
        """Return the operations on Stripe that run on demand."""
        from meterkit.runtime.stripe_commands import StripeCommands

        return StripeCommands(self._settings, database=self.database, stripe_jobs=self.stripe_jobs)

    @contextmanager
    def _one_flush(self, timeout: float) -> Iterator[None]:
        """Wait for a flush in another thread, and keep others waiting."""
        if self._flushing_thread == threads.thread_id():
            raise LedgerError("this thread is already flushing; that flush continues when this call returns")
        if not self._flushing.acquire(timeout=timeout):
            raise LedgerError("another flush is in progress, and takes too long")
        try:
            self._flushing_thread = threads.thread_id()
            yield
        finally:
            self._flushing_thread = None
            self._flushing.release()

    @property
    def _patience(self) -> float:
        return STOP_SECONDS if self._stop.is_set() else -1

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            self._note_flush_failed(error)

    def _await_handed_over(self) -> None:
        """
        Wait until the ledger has what was handed over before, which the process that flushes may be folding now.

        Raises:
            LedgerError: It takes too long.
        """
        end = time.monotonic() + HANDED_OVER_SECONDS
        while self.journal.waiting():
            if time.monotonic() > end:
                raise LedgerError(
                    "what this process has counted is being moved to the ledger by the one that flushes for all "
                    f"({self.lock.holder() or 'which has just ended'}), and that takes too long; flush again"
                )
            threads.original("time", "sleep")(_BUSY_SECONDS)
            self.flusher.fold_orphans()  # it may have ended, or failed

    def _hand_over_now(self) -> None:
        """Hand over what was counted, and read what requests are checked against."""
        with self._one_flush(self._patience):
            try:
                if not self._hand_over.run(is_last=self._stop.is_set()):
                    self.flusher.flush()
                    self._hand_over.note_late()
            finally:
                if not self._stop.is_set() and not self._follow() and not self.figures.follower.is_patient:
                    with self.flusher.ledger_noted():
                        self._edges().read(self.database())
                        self._learn()
                        self._refresh_figures()
        if not self._stop.is_set():  # at the end it has to arrive, too
            self._problems.clear("flush_failed")

    def _hand_over_last(self) -> None:
        """Hand over what was counted, and see to it that it is in the ledger: its disk may be gone next."""
        end = time.monotonic() + LAST_HAND_OVER_SECONDS
        self._hand_over_now()
        while self.journal.waiting():
            if self.lock.try_acquire() or time.monotonic() > end:  # the one that flushed has ended, or is busy
                self.flush(timeout=STOP_SECONDS)
                return
            threads.original("time", "sleep")(_BUSY_SECONDS)

    def _child_for(self, importable: Importable) -> FlusherChild:
        from meterkit.flusher.child import FlusherChild
        from meterkit.flusher.launch import launch

        def described() -> Launch:
            return launch(self._settings, names=importable.names)

        def stays() -> str | None:
            from meterkit.flusher.default_shape import reason_to_stay

            return reason_to_stay(self._settings, functions=importable.functions)

        return FlusherChild(
            importable.path,
            described,
            lock=self.lock,
            problems=self._problems,
            stays=stays if self._settings.flusher_is_default else None,
        )

    def _flushes(self, *, is_last: bool) -> bool:
        """Return whether this process is to flush and has the lock; start the child that is to do it instead."""
        child = self.child
        if child is None or self.lock.held:
            return self.lock.try_acquire()
        if child.runs():
            return False
        return self.lock.try_acquire() and (is_last or not child.start())

    def _give_back(self) -> None:
        """Give back what this process has drawn and not used; what it cannot, whoever finds it ended does."""
        slices = None if self._governor is None else self._governor.exact.slices
        if slices is not None:
            with suppress(LedgerError):
                slices.close()

    def _refresh_figures(self) -> None:
        self.figures.refresh(leads=self._leads)

    def _follow(self) -> bool:
        """Go on with what the process that flushes publishes; return whether there is anything."""
        if not self.figures.follow():
            return False
        self._awaits = False
        self._next_learning = time.monotonic()  # what the other has learned is not known here
        return True

    @property
    def _leads(self) -> bool:
        """Whether other processes rely on this one: it has the lock, and a thread that will flush again."""
        return self._is_leader and self.lock.held and self.lock.works

    def _edges(self) -> PeriodEdges:
        from meterkit.accounts.period_edges import PeriodEdges

        if self._period_edges is None:
            is_patient = self._settings.jetstream is not None  # collectors place what is published
            self._period_edges = PeriodEdges(self._windows, clock=self._settings.clock, is_patient=is_patient)
        return self._period_edges

    def _learn(self) -> None:
        """Read what changes rarely: past billing periods, and which companies are linked."""
        if time.monotonic() >= self._next_learning:
            self._next_learning = time.monotonic() + LEARNING_SECONDS
            self._windows.past = self.accounts().boundaries(since=int(self._settings.clock()) - OLDEST_SECONDS)
            self.journal.cardinality.remember(self.accounts().linked_companies(limit=MOST_KNOWN))

    def _run(self) -> None:
        try:
            is_last = False
            while not is_last:
                self._wait()
                is_last = self._stop.is_set()  # read before the flush: one during which it is set may miss counts
                try:
                    self._tick(is_last=is_last)
                except Exception as error:  # a thread that ended would not flush again before something is counted
                    self._problems.internal(error)
            self._resign()
            self._flushed.set()
            if self._settings.report_on_close:  # in this thread: at the exit of an interpreter, no other can be started
                self.stripe_jobs.report_last()
        finally:
            self._resign()
            self._flushed.set()
            self._thread, self.journal.counts = None, False  # after an unexpected error, the next count starts another

    def _resign(self) -> None:
        """Let another process flush from now on. Those that start until it does have no figures."""
        if self._is_leader:
            self.figures.withdraw()
        self._is_leader = False
        self.lock.release()

    def _wait(self) -> None:
        """Wait until the next flush is due. Meanwhile, the one that flushes folds what others hand over."""
        now, interval = time.monotonic(), self._settings.flush_interval
        end = now + interval if self.lock.held else next_moment(interval, now=now)
        while (left := end - time.monotonic()) > 0:
            polls = self._awaits or (self.lock.held and self.lock.works)
            if self._wake.wait(min(left, POLL_SECONDS) if polls else left):
                return
            if self._awaits:
                self._try(self._follow)
            if self.lock.was_asked():
                self._try(self._fold_handed_over)
                self.stripe_jobs.tick()  # it may have received a webhook event

    def _fold_handed_over(self) -> None:
        with self._one_flush(-1):
            self.flusher.fold_orphans()
            if time.monotonic() >= self._next_refresh:  # the others' requests are to be checked against that soon
                begun = time.monotonic()
                self._refresh_figures()
                self._next_refresh = time.monotonic() + REST * (time.monotonic() - begun)

    def _tick(self, *, is_last: bool) -> None:
        """Do what is due every few seconds, as the process that flushes or as one that hands over to it."""
        flushes = self._flushes(is_last=is_last)
        is_ours = None if flushes else self.lock.is_ours
        self._is_leader = flushes and self.lock.held
        self._awaits = not self._is_leader and is_ours is not False  # until it follows
        if flushes or is_ours is False or (is_last and self._settings.report_on_close):
            self.try_flush()
            self.flusher.start_jobs()
        elif is_ours or is_last:
            self._try(self._hand_over_last if is_last else self._hand_over_now)
            self.stripe_jobs.tick(starts=False)
            if self.dispatcher is not None and self.dispatcher.has_trouble:
                self.flusher.start_notices()  # of this process's own trouble, of which no other knows
        threads.close_django_connections()  # of a limit= function that queries

    def _note_flush_failed(self, error: Exception) -> None:
        self._problems.note(
            "flush_failed",
            f"usage could not be moved to the ledger, and stays in the journal: {error}",
            level=logging.ERROR,
        )


_SHADOW = "shadow mode (shadow=): another program bills, and what this process counts is never billed by meterkit"

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
