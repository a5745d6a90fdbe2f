"""
Aggregate: the journal, an in-process aggregator that a kill cannot empty.

Threads count in the current generation. To flush, the flusher swaps in a fresh one, folds the old one into the
ledger and removes it; then it adopts what dead processes left. A journal belongs to one process: a forked child
abandons its parent's and starts its own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from meterkit import generation
from meterkit.counting import Cell
from meterkit.generation import ForeignFileError, FullError, Generation, Orphan
from meterkit.problems import Problems

Entry: TypeAlias = "tuple[list[tuple[Cell, int]], int]"


class ClosedJournalError(Exception):
    """The journal was closed before this count reached it; count in the next one."""


class Journal:
    """
    Counts, and hands what is counted to the flusher.

    Args:
        directory: Where the generations are; made when the first is.
        problems: Where trouble goes.
        wake: Called, from any thread, when the flusher should come before its time.
        size: Bytes of a generation.
    """

    def __init__(
        self,
        directory: Path,
        *,
        problems: Problems,
        wake: Callable[[], None],
        size: int = generation.GENERATION_BYTES,
    ) -> None:
        self._directory = directory
        self._problems = problems
        self._wake = wake
        self._size = size
        # Re-entrant, because a signal handler or finaliser may count while this very thread counts. The lock makes
        # that safe to notice, and `_counting` tells it from the ordinary case.
        self._lock = threading.RLock()
        self._counting = False
        self._waiting: deque[Entry] = deque()
        self._current: Generation | None = None
        self._spare: Generation | None = None
        self._retired: list[Generation] = []
        self._full = False
        self._closed = False
        self._no_file: OSError | None = None

    def open(self) -> None:
        """
        Be ready to count. Before that, a journal only shows and adopts what others counted.

        The caller holds a lock, so trouble is told later, by `report_trouble`.
        """
        self._current = self._create()

    def count(self, cells: list[tuple[Cell, int]], now: int) -> None:
        """
        Add each quantity to its cell; when this returns, a kill of the process loses none of it.

        The exception is a count from within another count of the same thread (a signal handler, a finaliser):
        the outer one stores it before it returns.

        Raises:
            ClosedJournalError: Nothing was added.
        """
        entry = (cells, now)
        self._waiting.append(entry)
        with self._lock:
            self._store()
            if self._closed and any(each is entry for each in self._waiting):
                raise ClosedJournalError
            full, self._full = self._full, False
        if full:
            self._report_full()

    def retired(self) -> list[Generation]:
        """What is to be folded; give each to `forget` once it is."""
        with self._lock:
            return list(self._retired)

    def rotate(self) -> None:
        """Retire the current generation if anything was counted in it."""
        self.prepare()
        with self._lock:
            self._store()
            current, spare = self._current, self._spare
            if current is None or spare is None or self._counting:
                return
            # While no file can be had, a file is not given up for memory; and as soon as one can, memory is.
            to_memory, from_memory = spare.path is None, current.path is None
            if (to_memory and not from_memory) or (current.empty and not (from_memory and not to_memory)):
                return
            self._retired.append(current)
            self._current, self._spare = spare, None

    def prepare(self) -> None:
        """Have a spare generation at hand, so that a full one needs no disk call on the request path."""
        if self._current is None or _is_file(self._spare):
            return
        fresh = self._create()
        self.report_trouble()
        with self._lock:
            if self._closed or _is_file(self._spare):
                fresh.discard()
            else:
                self._spare = fresh

    def forget(self, retired: Generation) -> None:
        """The ledger has *retired*: remove it."""
        with self._lock:
            self._retired.remove(retired)
        retired.discard()

    def orphans(self) -> Iterator[Orphan]:
        """Adopt, one by one, the generations whose owners are gone. What is no generation is set aside."""
        for path in self._others():
            try:
                orphan = generation.adopt(path)
            except ForeignFileError as error:
                self._set_aside(path, str(error))
            except OSError as error:
                self._problems.note("journal_unreadable", f"{path} cannot be read: {error}", level=logging.ERROR)
            else:
                if orphan is not None:
                    yield orphan

    def report_torn(self, orphan: Orphan) -> None:
        """The ledger has what was sound of *orphan*; keep the file for a human."""
        aside = orphan.set_aside()
        self._problems.note(
            "journal_torn",
            f"{orphan.torn}; what stood before that is in the ledger, and the file is kept as {aside}. "
            "Usage after that point is lost; compare it with your access log",
            level=logging.ERROR,
        )

    def totals(self) -> dict[str, dict[str, int]]:
        """What is in the journal now, of all live and dead processes: ``{generation id: {meter: quantity}}``."""
        with self._lock:
            totals = {each.id: _by_meter(each.cells()) for each in self._own()}
        for path in self._others():
            try:
                data = path.read_bytes()
                totals[generation.generation_id(data)] = _by_meter(generation.read(data))
            except (ForeignFileError, OSError):
                continue  # folded in the meantime, or to be set aside by the next flush
        return totals

    def close(self) -> None:
        """Let go of everything; what is not folded yet is adopted by the next process that flushes."""
        with self._lock:
            self._store()
            if self._counting:
                return  # called by a signal handler amidst a count: the lock goes when the process does
            self._closed = True
            lost = [_by_meter(each.cells()) for each in self._own() if each.path is None and not each.empty]
            for each in self._own():
                if each.empty:
                    each.discard()
                else:
                    each.abandon()
            self._current, self._spare, self._retired = None, None, []
        if lost:
            message = f"usage that neither a file nor the ledger would take is lost: {lost}"
            self._problems.note("journal_lost", message, level=logging.ERROR)

    def abandon(self) -> None:
        """In a forked child: drop what was inherited, which is the parent's to count, flush and remove."""
        for each in self._own():  # without the lock, which another thread may have held at the fork
            each.abandon()

    @property
    def in_memory(self) -> bool:
        """Usage is being counted where a kill would take it along."""
        return self._current is not None and self._current.path is None

    def _store(self) -> None:
        """Move what waits into the current generation; the caller holds the lock."""
        if self._counting:
            return  # we are inside a count of this same thread, which comes back here
        while self._waiting and self._current is not None:
            self._counting = True
            try:
                # Looked at again: a signal handler that came before the mark has stored what waited, or closed us.
                while self._waiting and self._current is not None:
                    cells, now = self._waiting.popleft()
                    for cell, quantity in cells:
                        try:
                            self._current.count(cell, quantity, now)
                        except FullError:
                            self._current = self._next_generation(self._current)
                            self._current.count(cell, quantity, now)
            finally:
                self._counting = False

    def _next_generation(self, full: Generation) -> Generation:
        """Go on in the spare generation, without a disk call."""
        self._retired.append(full)
        self._full = True
        fresh, self._spare = self._spare or Generation.in_memory(self._size), None
        return fresh

    def _report_full(self) -> None:
        """Outside the lock: a logging handler may count usage itself, or wait for a thread that does."""
        self._wake()
        if self.in_memory:
            self._problems.note(
                "journal_full",
                "more new customers than the journal has room for: counting in memory until the next flush, a moment "
                "from now; only a kill before it would lose this usage",
            )

    def report_trouble(self) -> None:
        """Tell whether files can be had. Not under a lock: logging handlers are the application's code."""
        if self._no_file is None:
            self._problems.clear("journal_in_memory")
        else:
            self._problems.note(
                "journal_in_memory",
                f"no journal can be kept in {self._directory} ({self._no_file}): counting in memory, so a kill of this "
                "process loses what is not flushed. Make the directory writable, free space, or set data_dir=",
                level=logging.ERROR,
            )

    def _create(self) -> Generation:
        try:
            created = Generation.create(self._directory, self._size)
        except OSError as error:
            self._no_file = error
            return Generation.in_memory(self._size)
        self._no_file = None
        return created

    def _own(self) -> list[Generation]:
        return [each for each in (self._current, self._spare, *self._retired) if each is not None]

    def _others(self) -> list[Path]:
        own = {each.path for each in self._own()}
        return sorted(path for path in self._directory.glob(f"*{generation.SUFFIX}") if path not in own)

    def _set_aside(self, path: Path, why: str) -> None:
        try:
            aside = generation.set_aside(path)
        except OSError as error:
            self._problems.note("journal_unreadable", f"{path}: {why}; and {error}", level=logging.ERROR)
        else:
            self._problems.note(
                "journal_foreign",
                f"{path.name} is not a journal that this meterkit can read: {why}. It is kept as {aside}; if a newer "
                "meterkit wrote it, install that version and take the ending .set-aside off again",
                level=logging.ERROR,
            )


def _is_file(spare: Generation | None) -> bool:
    return spare is not None and spare.path is not None


def _by_meter(cells: list[generation.Counted]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (meter, *_), quantity, _last in cells:
        totals[meter] = totals.get(meter, 0) + quantity
    return totals
