"""
The crash-safe journal: counters in memory-mapped files, rotated at every flush.

Threads count in the current generation. To flush, the flusher swaps in a fresh one, folds the old one into the
ledger and removes it; then it adopts what dead processes left. A journal belongs to one process: a forked child
abandons its parent's and starts its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.usage_key import ClosedJournalError, MeterWindow, Subject, UsageKey
from meterkit.journal import generation, recovery
from meterkit.journal.cardinality import CardinalityLimit
from meterkit.journal.file_format import by_meter
from meterkit.journal.generation import FullError, Generation
from meterkit.journal.pool import GenerationPool


class Journal:
    """
    Counts, and hands what is counted to the flusher.

    Args:
        directory: Where the generations are; made when the first is.
        problems: Where trouble goes.
        wake: Called, from any thread, when the flusher should come before its time.
        size: Bytes of a generation.
        watched: Names of the meters of which `lately` is asked.

    Attributes:
        directory: As it was given.
        spares: Generations to go on in.
        flood: Who is let through when there is too much.
        counts: Somebody sees to it that what is counted is flushed.
        birthmark: Has something true at 0 in the process that it belongs to.
    """

    def __init__(
        self,
        directory: Path,
        *,
        problems: Problems,
        wake: Callable[[], None],
        size: int = generation.GENERATION_BYTES,
        watched: frozenset[str] = frozenset(),
    ) -> None:
        self.counts, self._older = False, 0
        self.fork_marker = threads.fork_marker()
        self._watched = watched
        self._unseen: list[dict[tuple[str, str], int]] = []  # of generations that were folded since the last look
        self.directory = directory
        self._problems, self._wake = problems, wake
        # Re-entrant, because a signal handler or finaliser may count while this very thread counts. The lock makes
        # that safe to notice, and `_counting` tells it from the ordinary case.
        self._lock = threads.rlock()
        self._recorder = self._full = False
        self._waiting: deque[tuple[list[tuple[UsageKey, int]], float]] = deque()
        self._current: Generation | None = None
        self.pool = GenerationPool(directory, size=size, problems=problems)
        self._retired: list[Generation] = []
        self.flood = CardinalityLimit()

    def open(self) -> None:
        """
        Be ready to count. Before that, a journal only shows and adopts what others counted.

        The caller holds a lock, so trouble is told later, by `report_trouble`.
        """
        if self._current is None:
            self._begin(self.pool.make())
        self.counts = True

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """
        Add each quantity to its cell; when this returns, a kill of the process loses none of it.

        The exception is a count from within another count of the same thread (a signal handler, a finaliser):
        the outer one stores it before it returns.

        Raises:
            ClosedJournalError: Nothing was added; nobody would flush it, or this is a forked child.
        """
        if not self.counts or not self.fork_marker[0]:
            raise ClosedJournalError
        with self._lock:
            if self._recorder:
                self._waiting.append((cells, now))
                return
            if self._current is None:
                raise ClosedJournalError
            self._recorder = True
            try:
                self._store(cells, now)
            finally:
                self._recorder = False
            self._store_waiting()
            full, self._full = self._full, False
        if full:  # outside the lock: a logging handler may count usage itself, or wait for a thread that does
            self._wake()
            if self.in_memory:
                self.pool.report_full()
            if self.flood.is_high:
                self.flood.report(self._problems)

    def count_one(self, place: MeterWindow, who: Subject, now: float) -> bool:
        """
        Add 1 to the cell of *place* and *who* if it is there already, in a third of the time that `count` takes.

        Returns:
            False if it is not, or only `count` knows what to do. Nothing was added.
        """
        current = self._current
        if current is None or not threads.SWITCHES_AT_CALLS:
            return False
        last, theirs = current.last
        if last is not place:
            theirs = current.at(place)
        at = theirs.get(who)
        # From the last of these questions to the last store there is no call, so nothing else runs, and no lock is
        # needed: that would take a tenth of a request's time.
        if at and self.counts and self.fork_marker[0] and self._current is current:
            words = current.words
            current.seconds[at + 1] = now
            words[at] += 1  # that many, in the seconds of a generation, do not overflow
            current.total += 1
            return True
        return False

    def retired(self) -> Iterator[Generation]:
        """What is to be folded, one by one; give each to `forget` once it is."""
        while True:
            with self._lock:
                waiting = list(self._retired)
            if not waiting:
                return
            for each in waiting[1:]:
                used = each.used()
                with self._lock:
                    each.shed(used)  # what waits for long is in its file, and takes no memory
            yield waiting[0]
            if self._retired[:1] == waiting[:1]:
                return  # it was not forgotten

    def rotate(self) -> None:
        """Retire the current generation if anything was counted in it. By one thread at a time."""
        self.prepare()
        with self._lock:
            self._store_waiting()
            current = self._current
            if current is None or self._recorder:
                return
            # While no file can be had, a file is not given up for memory; and as soon as one can, memory is.
            is_file = current.path is not None and not current.is_gone
            if (is_file and (current.empty or not self.pool.ready)) or (current.empty and not self.pool.ready):
                return
            coming = self.pool.coming = self.pool.take()
        follows = self.pool.follow(current, coming)
        with self._lock:
            self.pool.coming = None
            if self._current is current and not self._recorder:
                if follows:
                    coming.follow(current)
                self._retired.append(current)
                self._begin(coming)
                return
        coming.discard()  # meanwhile the current one was full, or all was closed

    def prepare(self) -> None:
        """Have spare generations at hand."""
        if self._current is not None:
            self.pool.fill(self._current)

    def forget(self, retired: Generation) -> None:
        """The ledger has *retired*: remove it."""
        used = retired.used()
        with self._lock:
            self._retired.remove(retired)
            if used:
                self._unseen.append(used)
            was_high = self.flood.is_high
            self.flood.recede(self._retired)
            if not self._retired:
                self.pool.relax(retired.bytes_used)
            is_last = all(each.index is not retired.index for each in self._own())
        retired.discard()
        if is_last:
            retired.index.let_go()
        if was_high and not self.flood.is_high:
            self.flood.report(self._problems)

    def lately(self, company: str, meter: str) -> int:
        """What this process has counted of *company* and a watched *meter*, and nobody can have seen in the ledger."""
        pair = (company, meter)
        with self._lock:
            return sum(self.unfolded(pair).values()) + sum([used.get(pair, 0) for used in self._unseen])

    @property
    def in_memory(self) -> bool:
        """Usage is being counted where a kill would take it along."""
        return self._current is not None and self._current.path is None

    @property
    def current_id(self) -> str | None:
        """The generation in which is counted now."""
        return None if self._current is None else self._current.id

    def unfolded(self, pair: tuple[str, str]) -> dict[str, int]:
        """By generation of this process, what has been counted of a company and a watched meter."""
        with self._lock:
            own = [each for each in (*self._retired, self._current) if each is not None]
            return {each.id: each.used_by(pair) for each in own}

    def seen(self) -> None:
        """The ledger was looked at, in which all is that was folded: by the thread that folds."""
        with self._lock:
            self._unseen.clear()
            self._older = sum([each.total for each in self._retired])

    @property
    def most(self) -> int:
        """No more than that has been counted here of any company and meter, since the ledger was looked at."""
        return self._older + (0 if self._current is None else self._current.total)

    def orphans(self) -> Iterator[recovery.Orphan]:
        """The generations of dead processes, adopted one by one."""
        return recovery.orphans(self.directory, own={each.path for each in self._own()}, problems=self._problems)

    def totals(self) -> dict[str, dict[str, int]]:
        """What is in the journal now, of all live and dead processes: ``{generation id: {meter: quantity}}``."""
        with self._lock:
            # Of those that wait in files, the files are read below.
            own = [each for each in self._own() if each is self._current or each.path is None]
            read = {each.path for each in self.pool.ready}
        totals = {}
        for each in own:  # without the lock: there may be many
            with suppress(ValueError):  # let go of meanwhile: it is in the ledger, or in its file
                totals[each.id] = by_meter(each.cells())
                read.add(each.path)
        return {**recovery.totals_in(self.directory, skip=read), **totals}

    def close(self, *, flushing: bool = False) -> None:
        """
        Let go of everything; what is not folded yet is adopted by the next process that flushes.

        Args:
            flushing: A flush is still under way, which nobody waits for. What it has taken stays locked until it has
                done with it, or the process is gone; somebody else would fold it a second time.
        """
        with self._lock:
            self._store_waiting()
            if self._recorder:
                return  # called by a signal handler amidst a count: the lock goes when the process does
            own, kept = self._own(), self._retired if flushing else []
            self._current, self._retired = None, kept  # first of all: `count_one` asks for no lock
            in_files = [each for each in own if each.path is not None and not each.is_gone]
            lost = [by_meter(each.cells()) for each in own if each not in in_files and not each.empty]
            for each in own:
                if each.empty:
                    each.discard()
                elif each not in kept:
                    each.abandon()
            self.pool.ready.clear()
        if lost:
            self.pool.report_lost(lost)

    def abandon(self) -> None:
        """In a forked child: drop what was inherited, which is the parent's to count, flush and remove."""
        for each in self._own():  # without the lock, which another thread may have held at the fork
            each.abandon()

    def _store_waiting(self) -> None:
        """Store what was counted from within counts; the caller holds the lock."""
        while self._waiting and not self._recorder and self._current is not None:
            self._recorder = True
            try:
                with suppress(IndexError):  # a signal handler that came before the mark has stored it
                    self._store(*self._waiting.popleft())
            finally:
                self._recorder = False

    def _store(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        for asked, quantity in cells:
            current = self._current
            assert current is not None
            current.total += quantity
            cell = self.flood.admit(asked, quantity, current) if self.flood.is_high else asked
            try:
                current.count(cell, quantity, now)
            except FullError:
                self._next_generation(current).count(cell, quantity, now)

    def _next_generation(self, full: Generation) -> Generation:
        """Go on in a spare generation, without a disk call."""
        self._retired.append(full)
        self._full = True
        self.pool.grow()
        self.flood.rise(self._retired)
        return self._begin(self.pool.take())

    def _begin(self, fresh: Generation) -> Generation:
        fresh.watched = self._watched
        if self._current is None:
            self._current = fresh
        else:  # in one step, as `count_one` says
            self._older, self._current = self._older + self._current.total, fresh
        return fresh

    def _own(self) -> list[Generation]:
        own = (self._current, self.pool.coming, *self.pool.ready, *self._retired)
        return [each for each in own if each is not None]
