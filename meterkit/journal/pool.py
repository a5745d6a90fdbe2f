"""Pool of preallocated generations, so that a full one costs a request no disk access."""

from __future__ import annotations

import logging
from pathlib import Path

from meterkit.core.filesystem import network_type
from meterkit.core.problems import Problems
from meterkit.journal.generation import Generation

MOST = 8
"""Most spare generations. One is enough unless new companies appear faster than they are flushed."""

LARGEST = 8 << 20
"""Largest size of a generation, bytes: some 150,000 cells, which fold in a second. Sizes grow when one is full."""


class GenerationPool:
    """
    Creates generations and hands them out.

    One thread at a time may call `fill`. Any thread may call `take`, one at a time.

    Args:
        directory: Directory of the files; created with the first one.
        size: Initial size of a generation, and the size of one in memory, bytes.
        problems: Collector of problems.
        lineage: Beginning of the ids of all generations, hexadecimal.

    Attributes:
        ready: Spare generations, each with a file.
        upcoming: Next generation while it is being prepared; otherwise None.
    """

    def __init__(self, directory: Path, *, size: int, problems: Problems, lineage: str = "") -> None:
        self._directory = directory
        self._lineage = lineage
        self._size = self._smallest = size
        self._problems = problems
        self._target = 1
        self._no_file = ""
        self.ready: list[Generation] = []
        self.upcoming: Generation | None = None

    def make(self) -> Generation:
        """Return a new generation, in memory if no file can be created; `report_trouble` then says why."""
        network = network_type(self._directory)
        if network is not None:
            self._no_file = f"it is on a network file system, {network}, whose locks do not work between hosts"
            return Generation.in_memory(self._smallest, self._lineage)
        try:
            made = Generation.create(self._directory, self._size, self._lineage)
        except OSError as error:
            self._no_file = str(error)
            return Generation.in_memory(self._smallest, self._lineage)
        self._no_file = ""
        return made

    def take(self) -> Generation:
        """Return the next generation without disk access: one in memory if none is ready."""
        try:
            return self.ready.pop()
        except IndexError:
            self._target = min(2 * self._target, MOST)
            return Generation.in_memory(self._smallest, self._lineage)

    def has_file(self) -> bool:
        """Return whether `take` would return a generation with a file; if not, `fill` makes more from now on."""
        if self.ready and not self.ready[-1].is_deleted:
            return True
        self._target = min(2 * self._target, MOST)
        return False

    def follow(self, current: Generation, coming: Generation) -> bool:
        """Prepare *coming* to take over the index of *current*, which is still in use; return whether it should."""
        try:
            return not current.index.is_stale and coming.copy_keys(current)
        except ValueError:  # it has been released: the journal is closed
            return False

    def grow(self) -> None:
        """Double the size of future generations: one was too small for a flush interval."""
        self._size = min(2 * self._size, max(LARGEST, self._smallest))

    def fill(self, current: Generation) -> None:
        """Create as many spares as are used up between two calls, each with twice the room that *current* uses."""
        if current.is_deleted:
            self.report_deleted()
        while 2 * current.bytes_used > self._size < LARGEST:
            self.grow()
        for each in list(self.ready):
            if each.is_deleted:
                self._drop(each)
        while sum(each.size >= self._size for each in self.ready) < self._target:
            made = self.make()
            self.report_trouble()
            if made.path is None:
                return
            self.ready.append(made)
        for each in list(self.ready):
            if each.size < self._size:
                self._drop(each)

    def relax(self, used: int) -> None:
        """Keep a single spare now that all is flushed, and a smaller one if the last generation *used* few bytes."""
        self._target = 1
        if 4 * used < self._size:
            self._size = max(self._size // 2, self._smallest)

    def report_trouble(self) -> None:
        """Report whether files can be created. Not to be called under a lock: logging handlers are application code."""
        if not self._no_file:
            self._problems.clear("journal_in_memory")
        else:
            self._problems.note(
                "journal_in_memory",
                f"cannot create journal files in {self._directory} ({self._no_file}): counting in memory, so killing "
                "this process loses what is not flushed. Make the directory writable, free disk space, or set "
                "data_dir= to a local disk",
                level=logging.ERROR,
            )

    def report_full(self) -> None:
        """Report that the pool is empty. An early flush has been requested."""
        self._problems.note(
            "journal_full",
            "more new companies than the journal has room for: counting in memory until the next flush, which starts "
            "now; only a kill before it would lose this usage",
        )

    def report_deleted(self) -> None:
        """Report that something else deleted a journal file: what is counted in it would be lost with the process."""
        self._problems.note(
            "journal_deleted",
            f"files of a journal in use were deleted from {self._directory}. New ones are created, and nothing is lost "
            "unless the process was killed first. Exclude data_dir= from whatever cleans up there",
            level=logging.ERROR,
        )

    def report_lost(self, lost: list[dict[str, int]], why: str = "") -> None:
        """Report *lost*, quantities by meter that could not be stored anywhere, and *why*, if it is known."""
        message = f"usage that neither a journal file nor the ledger could store is lost: {lost}"
        message += f": {why}" if why else ""
        self._problems.note("journal_lost", message, level=logging.ERROR)

    def _drop(self, each: Generation) -> None:
        try:
            self.ready.remove(each)
        except ValueError:
            return  # it has just been taken, and is now checked as the current one
        if each.is_deleted:
            self.report_deleted()
        each.discard()
