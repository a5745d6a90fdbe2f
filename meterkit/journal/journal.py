"""
The crash-safe journal: counters in memory-mapped files, rotated at every flush.

Threads count in the current generation. A flush swaps in a fresh one, folds the old one into the ledger and removes it;
then it adopts orphans. A process that leaves this to another one hands the old one over instead. A journal belongs to
one process: a forked child abandons its parent's and starts its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.usage_key import ClosedJournalError, Counted, MeterWindow, Subject, UsageKey
from meterkit.journal import generation, recovery
from meterkit.journal.cardinality import CardinalityLimit
from meterkit.journal.file_format import by_meter
from meterkit.journal.generation import FullError, Generation
from meterkit.journal.handed_over import Followed, HandedOver, HandedOverGenerations, Pair
from meterkit.journal.lineage import EndedLineage, Lineage, ended
from meterkit.journal.pool import GenerationPool

LONGEST_WAY_SECONDS = 3600.0
"""How long a published generation counts in `lately` if nothing says that it has arrived: collectors may be away."""


class Journal:
    """
    Counts usage, and supplies the generations to be flushed.

    Args:
        directory: Directory of the generations; created with the first one.
        problems: Collector of problems.
        wake: Function that requests an early flush; called from any thread.
        size: Size of a generation, bytes.
        watched: Names of the meters that `lately` and `counted` report.
        ledger: Name of the ledger into which this process flushes, a short word: what is handed over is for that one.
        adopts_all: Function that returns whether to adopt also what was handed over for another ledger, long ago.
        publishes: Whether generations are published, so that the ledger has them only when they have `arrived`.

    Attributes:
        directory: Directory of the generations.
        pool: Pool of spare generations.
        cardinality: Cardinality limit.
        counts: Whether counting is allowed: something will flush what is counted.
        lineage: What all generations of this process have in common.
        fork_marker: Object whose item 0 is true only in the process that the journal belongs to.
    """

    def __init__(
        self,
        directory: Path,
        *,
        problems: Problems,
        wake: Callable[[], None],
        size: int = generation.GENERATION_BYTES,
        watched: frozenset[str] = frozenset(),
        ledger: str = "",
        adopts_all: Callable[[], bool] = lambda: True,
        publishes: bool = False,
    ) -> None:
        self._ledger, self._adopts_all = ledger, adopts_all
        self.publishes, self._arrived = publishes, frozenset[str]()
        self.counts, self._older = False, 0
        self.fork_marker = threads.fork_marker()
        self._watched = watched
        self._unseen: list[dict[tuple[str, str], int]] = []  # `used` of generations folded since `seen`
        self.directory = directory
        self._problems, self._wake = problems, wake
        # Re-entrant, because a signal handler or finaliser may count while its own thread is counting. Such a call gets
        # the lock too, and recognises its situation by `_is_counting`.
        self._lock = threads.rlock()
        self._is_counting = self._full = False
        self._waiting: deque[tuple[list[tuple[UsageKey, int]], float]] = deque()
        self._current: Generation | None = None
        self.lineage = Lineage(directory, ledger=ledger)
        self._followed: dict[Pair, int] = {}  # what generations counted that are gone by now, since `follow`
        self.pool = GenerationPool(directory, size=size, problems=problems, lineage=self.lineage.id)
        self._retired: list[Generation] = []
        self._handed_over = HandedOverGenerations()
        self.cardinality = CardinalityLimit()

    def open(self, *, now: float) -> None:
        """
        Start counting. Until then, a journal only shows and adopts what other processes counted.

        The caller holds a lock, so problems are reported later, by `GenerationPool.report_trouble`.

        Args:
            now: Current time, Unix seconds.
        """
        if self._current is None:
            self._begin(self.pool.make(), at=now)
        self.counts = True

    def count(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        """
        Add each quantity to its usage key. When this returns, a kill of the process does not lose them.

        The exception is a call from within another one in the same thread, by a signal handler or a finaliser: the
        outer call stores its quantities before it returns.

        Raises:
            ClosedJournalError: Nothing was added, because it would not be flushed, or because this is a forked child.
        """
        if not self.counts or not self.fork_marker[0]:
            raise ClosedJournalError
        with self._lock:
            if self._is_counting:
                self._waiting.append((cells, now))
                return
            if self._current is None:
                raise ClosedJournalError
            self._is_counting = True
            try:
                self._store(cells, now)
            finally:
                self._is_counting = False
            self._store_waiting()
            full, self._full = self._full, False
        if full:  # outside the lock: a logging handler may count usage itself, or wait for a thread that does
            self._wake()
            if self.in_memory:
                self.pool.report_full()
            if self.cardinality.is_active:
                self.cardinality.report(self._problems)

    def store(self, counts: list[Counted]) -> int:
        """
        Add as many of *counts* as have room in files, in their order; return how many. A kill does not take those.

        Unlike `count`, this never counts in memory: the caller still has what is left, and tries again.

        Raises:
            ClosedJournalError: Nothing was added, because it would not be flushed, or because this is a forked child.
        """
        if not self.counts or not self.fork_marker[0]:
            raise ClosedJournalError
        with self._lock:
            if self._is_counting:
                return 0  # called by a signal handler during a count
            if self._current is None:
                raise ClosedJournalError
            self._is_counting = True
            try:
                stored = self._store_in_files(counts)
            finally:
                self._is_counting = False
            self._store_waiting()
            full, self._full = self._full or stored < len(counts), False
        if full:
            self._wake()
        return stored

    def count_one(self, place: MeterWindow, who: Subject, now: float) -> bool:
        """
        Add 1 to the cell of *place* and *who* if it exists already, in a third of the time that `count` takes.

        Returns:
            True if 1 was added; False if nothing was, and `count` must be called.
        """
        current = self._current
        if current is None or not threads.SWITCHES_AT_CALLS:
            return False
        last, slots = current.last
        if last is not place:
            slots = current.at(place)
        at = slots.get(who)
        # From the last of these checks to the last store there is no call, so no other code runs in between. A lock
        # would take a tenth of a request's time.
        if at and self.counts and self.fork_marker[0] and self._current is current:
            words = current.words
            current.seconds[at + 1] = now
            words[at] += 1  # cannot overflow in the few seconds that a generation is in use
            current.total += 1
            return True
        return False

    def retired(self) -> Iterator[Generation]:
        """Yield the generations to be folded; the caller must pass each to `forget` after folding it."""
        while True:
            with self._lock:
                waiting = list(self._retired)
            if not waiting:
                return
            for each in waiting[1:]:
                used = each.used()
                with self._lock:
                    each.unmap(used)  # while it waits, it takes no memory
            yield waiting[0]
            if self._retired[:1] == waiting[:1]:
                return  # it was not folded

    def rotate(self, *, now: float) -> None:
        """
        Retire the current generation if anything was counted in it. To be called by one thread at a time.

        Args:
            now: Current time, Unix seconds.
        """
        self.prepare()
        with self._lock:
            self._store_waiting()
            current = self._current
            if current is None or self._is_counting:
                return
            if current.empty:
                current.begin(now)
            # While no file can be created, keep a current file; as soon as one can, replace a generation in memory.
            is_file = current.path is not None and not current.is_deleted
            if (is_file and (current.empty or not self.pool.ready)) or (current.empty and not self.pool.ready):
                return
            coming = self.pool.upcoming = self.pool.take()
        follows = self.pool.follow(current, coming)
        with self._lock:
            self.pool.upcoming = None
            if self._current is current and not self._is_counting:
                if follows:
                    coming.follow(current)
                self._retired.append(current)
                self._begin(coming, at=now)
                return
        coming.discard()  # in the meantime, the current one was replaced because it was full, or all were closed

    def prepare(self) -> None:
        """Fill the pool of spare generations."""
        if self._current is not None:
            self.pool.fill(self._current)

    def forget(self, retired: Generation, *, published: bool = False) -> None:
        """
        Remove *retired*, which has been folded into the ledger.

        Args:
            retired: Generation to remove.
            published: Whether it is only on its way to the ledger: it counts in `lately` until it has `arrived`.
        """
        used = retired.used()
        with self._lock:
            self._retired.remove(retired)
            self._keep_followed(used)
            if used and published:
                self._handed_over.add(
                    retired, retired.path or self.directory / f"{retired.id}{generation.SUFFIX}", used
                )
            elif used:
                self._unseen.append(used)
        retired.discard()
        self._after(retired)

    def hand_over(self, generations: Collection[str]) -> bool:
        """
        Leave retired generations to the process that flushes; return whether any was left.

        To be called by the thread that otherwise folds. Those without a file that others can take stay retired.

        Args:
            generations: Ids of the generations to hand over.
        """
        if not self._watched:  # otherwise, `seen` drops them
            self._handed_over.drop(self._handed_over.folded())
        before = list(self._retired)
        for each in before:
            if each.id not in generations:
                continue
            self.remember_companies(each)
            used = each.used()
            with self._lock, suppress(OSError):  # if it cannot be renamed
                if each.path is None or each.is_deleted or each not in self._retired:
                    continue
                path = each.leave(self._ledger)
                self._handed_over.add(each, path, used)
                self._retired.remove(each)
                self._keep_followed(used)
            self._after(each)
        return len(self._retired) < len(before)

    def _after(self, retired: Generation) -> None:
        """Make room, now that *retired* is not waiting any more."""
        with self._lock:
            was_active = self.cardinality.is_active
            self.cardinality.release(self._retired)
            if not self._retired:
                self.pool.relax(retired.bytes_used)
            is_last = all(each.index is not retired.index for each in self._own())
        if is_last:
            retired.index.free()
        if was_active and not self.cardinality.is_active:
            self.cardinality.report(self._problems)

    def waiting(self) -> list[HandedOver]:
        """Return what this process has handed over that may not be in the ledger yet."""
        return self._handed_over.waiting()

    def folded(self) -> list[HandedOver]:
        """Return what this process has handed over that is in the ledger by now, to give to `seen`."""
        gone, arrived = self._handed_over.folded(), self._arrived
        if not self.publishes:
            return gone
        oldest = time.monotonic() - LONGEST_WAY_SECONDS
        return [each for each in gone if each.id in arrived or each.since < oldest]

    def published(self) -> list[str]:
        """Return the ids of generations of this process that are published, and may have `arrived` in the ledger."""
        return [each.id for each in self._handed_over.folded()]

    @property
    def watches(self) -> bool:
        """Whether there are meters that `lately` reports."""
        return bool(self._watched)

    def arrived(self, generations: Iterable[str]) -> None:
        """Note that *generations*, which were published, are in the ledger."""
        self._arrived = frozenset(generations)

    def retired_ids(self) -> list[str]:
        """Return the ids of the generations that are to be folded."""
        return [each.id for each in list(self._retired)]

    def remember_companies(self, retired: Generation) -> None:
        """Remember the companies of *retired* as known, unless it is full: they may be invented then, and many."""
        if not retired.is_full:
            self.cardinality.remember(company for (_, _, company, _, _), _, _ in retired.cells())

    def give_up(self, retired: Generation, why: str) -> None:
        """
        Stop folding *retired*, which is damaged or cannot be stored in the ledger, so that it does not hold up others.

        Its file is adopted like that of a dead process, which keeps what can be read of it.

        Args:
            retired: Generation to give up.
            why: Reason, for the message about one that has no file.
        """
        with self._lock:
            self._retired.remove(retired)
            self._keep_followed({pair: retired.used_by(pair) for pair in self._followed})
            has_file = retired.path is not None and not retired.is_deleted
            lost = {} if has_file else by_meter(retired.cells())
            retired.abandon()
        if lost:
            self.pool.report_lost([lost], why)

    def lately(self, company: str, meter: str) -> int:
        """Return what this process has counted for *company* and a watched *meter* that `seen` does not cover."""
        pair = (company, meter)
        with self._lock:
            own = [each.used_by(pair) for each in (*self._retired, self._current) if each is not None]
            return sum(own) + self._handed_over.used_by(pair) + sum([used.get(pair, 0) for used in self._unseen])

    @property
    def in_memory(self) -> bool:
        """Whether usage is counted in memory only, so that a kill would lose it."""
        return self._current is not None and self._current.path is None

    @property
    def is_open(self) -> bool:
        """Whether it has a generation to count in: it has been opened, and not closed."""
        return self._current is not None

    def follow(self, pair: Pair) -> Followed:
        """Begin to add up what is counted for *pair*, a company and a watched meter, for `counted`."""
        with self._lock:
            handed_over = self._handed_over.all()
            known = sum([each.used.get(pair, 0) for each in handed_over])
            before = self._followed.setdefault(pair, known) - known
            found: dict[str, tuple[int, Path | None]] = {each.id: (each.used_by(pair), None) for each in self._retired}
            return Followed(before, {**found, **{each.id: (each.used.get(pair, 0), each.path) for each in handed_over}})

    def counted(self, pair: Pair) -> int:
        """Return what has been counted for *pair* since the first `follow`, whether or not it is in the ledger."""
        with self._lock:
            own = [each.used_by(pair) for each in (*self._retired, self._current) if each is not None]
            return sum(own) + self._followed.get(pair, 0)

    def unfollow(self, pair: Pair) -> None:
        """Stop adding up what is counted for *pair*."""
        with self._lock:
            self._followed.pop(pair, None)

    def _keep_followed(self, used: Mapping[Pair, int]) -> None:
        """Keep what is *used* in a generation that is about to be gone. The caller holds the lock."""
        if self._followed:
            for pair, quantity in used.items():
                if pair in self._followed:
                    self._followed[pair] += quantity

    def handed_over(self) -> tuple[HandedOver, ...]:
        """Return what this process has handed over, and `seen` does not cover yet."""
        return self._handed_over.all()

    def seen(self, folded: Collection[HandedOver], *, own: bool = True) -> None:
        """
        Note that the ledger was read just now, with all that has been folded. For the thread that folds.

        Args:
            folded: Result of `folded` before that was read.
            own: Whether that was after all that this process has folded itself.
        """
        with self._lock:
            self._handed_over.drop(folded)
            if own:
                self._unseen.clear()
            unseen = sum([sum(each.values()) for each in self._unseen])
            self._older = self._handed_over.total + sum([each.total for each in self._retired]) + unseen

    @property
    def most(self) -> int:
        """Upper bound of what this process has counted since `seen`, for any company and meter."""
        return self._older + (0 if self._current is None else self._current.total)

    def orphans(self) -> Iterator[recovery.Orphan]:
        """Adopt the generations of dead processes, and yield them."""
        return recovery.orphans(
            self.directory,
            own={each.path for each in self._own()},
            problems=self._problems,
            ledger=self._ledger,
            adopts_all=self._adopts_all,
        )

    def ended(self) -> Iterator[EndedLineage]:
        """Yield the lineages of processes that have ended, with slices that were drawn from this process's ledger."""
        return ended(self.directory, ledger=self._ledger)

    def totals(self) -> dict[str, dict[str, int]]:
        """Return what is in the journals of all live and dead processes: ``{generation id: {meter: quantity}}``."""
        with self._lock:
            # Retired generations with a file are read from their files, below.
            own = [each for each in self._own() if each is self._current or each.path is None]
            read = {each.path for each in self.pool.ready}
        totals = {}
        for each in own:  # without the lock: there may be many
            with suppress(ValueError):  # released in the meantime: it is in the ledger, or in its file
                totals[each.id] = by_meter(each.cells())
                read.add(each.path)
        return {**recovery.totals_in(self.directory, skip=read), **totals}

    def close(self, *, flushing: bool = False) -> None:
        """
        Close all generations. What is not folded yet is adopted by the next process that flushes.

        Args:
            flushing: Whether a flush is still running and will not be waited for. Its generations stay locked until it
                or the process ends; otherwise, another process would fold them again.
        """
        with self._lock:
            self._store_waiting()
            if self._is_counting:
                return  # called by a signal handler during a count: the file lock is released when the process ends
            own, kept = self._own(), self._retired if flushing else []
            self._current, self._retired = None, kept  # first, because `count_one` does not take the lock
            in_files = [each for each in own if each.path is not None and not each.is_deleted]
            lost = [by_meter(each.cells()) for each in own if each not in in_files and not each.empty]
            for each in own:
                if each.empty:
                    each.discard()
                elif each not in kept:
                    each.abandon()
            self.pool.ready.clear()
            if not kept:  # otherwise, it is released when the process ends
                self.lineage.abandon()
        if lost:
            self.pool.report_lost(lost)

    def abandon(self) -> None:
        """In a forked child, drop the inherited generations, which the parent counts in, flushes and removes."""
        for each in self._own():  # without the lock, which another thread may have held at the fork
            each.abandon()
        self.lineage.abandon()

    def _store_waiting(self) -> None:
        """Store the counts that came during other counts. The caller holds the lock."""
        while self._waiting and not self._is_counting and self._current is not None:
            self._is_counting = True
            try:
                with suppress(IndexError):  # a signal handler that ran just before `_is_counting` was set has stored it
                    self._store(*self._waiting.popleft())
            finally:
                self._is_counting = False

    def _store(self, cells: list[tuple[UsageKey, int]], now: float) -> None:
        for key, quantity in cells:
            current = self._current
            assert current is not None
            current.total += quantity
            cell = self.cardinality.admit(key, quantity, current) if self.cardinality.is_active else key
            try:
                current.count(cell, quantity, now)
            except FullError:
                self._next_generation(current).count(cell, quantity, now)

    def _store_in_files(self, counts: list[Counted]) -> int:
        assert self._current is not None
        if self._current.is_deleted or self.cardinality.is_active:
            return 0
        for at, (key, quantity, moment) in enumerate(counts):
            current = self._current
            if current.path is None:
                return at
            current.total += quantity
            try:
                current.count(key, quantity, moment)
            except FullError:
                if not self.pool.has_file():
                    return at
                self._next_generation(current).count(key, quantity, moment)
        return len(counts)

    def _next_generation(self, full: Generation) -> Generation:
        """Replace *full* with a spare generation, without disk access."""
        self._retired.append(full)
        self._full = True
        self.pool.grow()
        self.cardinality.engage(self._retired)
        return self._begin(self.pool.take(), at=full.begun)  # what is waiting may be as old

    def _begin(self, fresh: Generation, *, at: float) -> Generation:
        fresh.begin(at)
        fresh.watched = self._watched
        if self._current is None:
            self._current = fresh
        else:  # in one step, because of `count_one`
            self._older, self._current = self._older + self._current.total, fresh
        return fresh

    def _own(self) -> list[Generation]:
        own = (self._current, self.pool.upcoming, *self.pool.ready, *self._retired)
        return [each for each in own if each is not None]
