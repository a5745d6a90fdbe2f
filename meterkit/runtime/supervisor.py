"""
One runtime per process, across forks.

The first count starts it; in a forked child as well, even if no fork hook has run.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.usage_key import ClosedJournalError, Counted, MeterWindow, Subject, UsageKey
from meterkit.core.windows import Windows
from meterkit.flusher import role
from meterkit.journal.journal import Journal
from meterkit.metering.context import outside
from meterkit.publication.rules import SnapshotRules
from meterkit.runtime import isolation
from meterkit.runtime.exit_hooks import ExitHooks
from meterkit.runtime.process import ProcessRuntime
from meterkit.runtime.settings import Settings
from meterkit.snapshot.reader import SnapshotSource

if TYPE_CHECKING:
    from meterkit.flusher.importable import Importable
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor
    from meterkit.metering.meter import Meter
    from meterkit.metering.unmatched import Unmatched
    from meterkit.notices.dispatcher import MakeDispatcher


class Supervisor:
    """
    Starts and stops the runtime of each process, and passes counts on to its journal.

    Args:
        settings: Settings of the kit.
        problems: Where problems are reported.
        windows: Billing period boundaries, which the runtime keeps up to date.

    Attributes:
        windows: Billing period boundaries, which the runtime keeps up to date.
        journal: Journal of this process; before the first count, a stand-in that refuses counts.
        source: Snapshot that requests are checked against.
        rules: What it follows from.
        governor: Governor of the kit, or None.
        plans: Plans of the companies, or None for a kit without plans.
        dispatcher: Function that builds the dispatcher of notices, or None.
        unmatched: Counter of the successes that no meter matched, or None.
        meters: Meters of the kit, by name.
        importable: The kit, as another process can import it, or None if no other is to flush for it.
    """

    def __init__(self, settings: Settings, problems: Problems, windows: Windows) -> None:
        self._settings = settings
        self._problems = problems
        self.windows = windows
        self._runtime: ProcessRuntime | None = None
        self._exit_hooks = ExitHooks(self.close)
        self.journal: Journal | _NoJournal = _NoJournal()
        self.source = SnapshotSource()
        self.rules = SnapshotRules(None, (), (), {}, {}, None, None, problems)
        self.governor: Governor | None = None
        self.plans: CompanyPlans | None = None
        self.dispatcher: MakeDispatcher | None = None
        self.unmatched: Unmatched | None = None
        self.meters: Mapping[str, Meter] = {}
        self.importable: Importable | None = None
        # One lock for each process, because a fork may happen while a thread of the parent holds the parent's.
        # Re-entrant, because a signal handler may count.
        self._starting: dict[int, threading.RLock] = {}
        self._starter: int | None = None  # the thread that is starting or finding the runtime
        # What signal handlers count on that thread meanwhile.
        self._early: deque[tuple[list[tuple[UsageKey, int]], float]] = deque()
        _all.add(self)
        isolation.add(self)

    @property
    def settings(self) -> Settings:
        """Settings of the kit; in a test run, those that replace them."""
        return isolation.replaced(self, self._settings)

    def close(self) -> None:
        """Flush and stop; a later count starts the runtime again."""
        with self._lock():
            if self._runtime is not None and not self._runtime.journal.fork_marker[0]:
                self.after_fork()
            runtime, self._runtime = self._runtime, None
            exit_hooks = self._exit_hooks
        if runtime is not None:
            try:
                runtime.close()
            except Exception as error:  # what is in the journal's files is folded by the next process that flushes
                self._problems.internal(error)
            finally:
                exit_hooks.remove()
        if self.governor is not None:
            self.governor.reset()
        if self.plans is not None:
            self.plans.reset()

    def reset(self) -> None:
        """Flush and stop, and forget what this process learned: another journal and ledger follow, in a test run."""
        self.close()
        self._problems.after_fork()
        self.windows.boundaries = self.windows.past = {}
        self.source.forget()
        if self.governor is not None:
            self.governor.forget()
        if self.plans is not None:
            self.plans.forget()

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """Add *cells* to the journal of this process; for `meterkit.metering.recorder.Recorder`."""
        try:
            self.journal.count(cells, now)
        except ClosedJournalError:
            self._start_and_count(cells, now)

    def store(self, counts: list[Counted]) -> int:
        """Add as many of *counts* as have room in files to the journal of this process; return how many."""
        while not role.drops_counts and self._starter != threads.thread_id():
            try:
                return self.journal.store(counts)
            except ClosedJournalError:
                self.journal = self.runtime(counting=True).journal
        return 0

    def _start_and_count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        if role.drops_counts:
            return
        while True:
            if self._starter == threads.thread_id():
                self._early.append((cells, now))
                return
            self.journal = self.runtime(counting=True).journal
            try:
                self.journal.count(cells, now)
            except ClosedJournalError:
                continue  # close() was called in between; start again
            return

    def runtime(self, *, counting: bool = False) -> ProcessRuntime:
        """Return the runtime of this process; *counting* also starts its journal and thread."""
        started = False
        with self._lock():
            if self._runtime is not None and not self._runtime.journal.fork_marker[0]:
                self.after_fork()  # no fork hook ran, as under uWSGI
            self._starter = threads.thread_id()
            try:
                runtime = self._runtime
                if runtime is None:
                    runtime = self._runtime = ProcessRuntime(
                        self.settings,
                        self._problems,
                        self.windows,
                        meters=self.meters,
                        source=self.source,
                        rules=self.rules,
                        governor=self.governor,
                        plans=self.plans,
                        dispatcher=self.dispatcher,
                        importable=self.importable,
                    )
                    self._exit_hooks = ExitHooks(self.close)
                    self._exit_hooks.install()
                if counting and not runtime.counts:
                    runtime.start()
                    started = True
            finally:
                self._starter = None
        if started:
            runtime.report_trouble()
        with suppress(IndexError):
            while self._early:
                self.count(*self._early.popleft())
        return runtime

    def _lock(self) -> threading.RLock:
        """Return the lock under which this process starts and stops its runtime."""
        return self._starting.setdefault(os.getpid(), threads.rlock())

    def after_fork(self) -> None:
        """Reset everything, in a forked child. Takes no lock, logs nothing and starts nothing."""
        self._starter, self._early = None, deque()
        self._problems.after_fork()
        outside.after_fork()
        if self.unmatched is not None:
            self.unmatched.after_fork()
        if self.governor is not None:
            self.governor.reset()
        if self.plans is not None:
            self.plans.reset()
        self._exit_hooks.forget()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            _inherited.append(runtime)
            runtime.abandon()


class _NoJournal:
    """Stand-in for the journal before the first count."""

    def count(self, _cells: list[tuple[UsageKey, int]], _now: float) -> None:
        raise ClosedJournalError

    def store(self, _counts: list[Counted]) -> int:
        raise ClosedJournalError

    def count_one(self, _place: MeterWindow, _who: Subject, _now: float) -> bool:
        return False


_all: weakref.WeakSet[Supervisor] = weakref.WeakSet()

_inherited: list[ProcessRuntime] = []
"""Runtimes inherited by a forked child. Kept for ever: finalising an inherited SQLite connection could do harm."""


def _after_fork_in_child() -> None:
    for each in list(_all):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)  # once for all kits: it cannot be unregistered
