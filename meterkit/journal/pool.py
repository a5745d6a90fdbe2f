"""Pool of preallocated generations, so that a full one costs a request no disk access."""

from __future__ import annotations

import logging
from pathlib import Path

from meterkit.core.filesystem import network_type
from meterkit.core.problems import Problems
from meterkit.journal.generation import Generation

MOST = 8
"""At a time. One is enough, unless new customers come faster than they are flushed."""

LARGEST = 8 << 20
"""Bytes: some 150,000 cells, which the ledger takes in a second. A full generation is followed by larger ones."""


class GenerationPool:
    """
    Makes them, and hands them out.

    One thread at a time may `fill`; any may `take`, one at a time.

    Args:
        directory: Where the files are; made when the first is.
        size: Bytes of a generation, at first and in memory.
        problems: Where trouble goes.

    Attributes:
        ready: Each has a file.
        coming: The next one, while it is made ready to follow the current one.
    """

    def __init__(self, directory: Path, *, size: int, problems: Problems) -> None:
        self._directory = directory
        self._size = self._smallest = size
        self._problems = problems
        self._wanted = 1
        self._no_file = ""
        self.ready: list[Generation] = []
        self.coming: Generation | None = None

    def make(self) -> Generation:
        """A new one: a file, or in memory where none can be had, which `report_trouble` tells."""
        network = network_type(self._directory)
        if network is not None:
            self._no_file = f"it is on a network file system, {network}, whose locks do not keep hosts apart"
            return Generation.in_memory(self._smallest)
        try:
            made = Generation.create(self._directory, self._size)
        except OSError as error:
            self._no_file = str(error)
            return Generation.in_memory(self._smallest)
        self._no_file = ""
        return made

    def take(self) -> Generation:
        """The next one, without a disk call: in memory, if none is ready."""
        try:
            return self.ready.pop()
        except IndexError:
            self._wanted = min(2 * self._wanted, MOST)
            return Generation.in_memory(self._smallest)

    def follow(self, current: Generation, coming: Generation) -> bool:
        """Prepare *coming* to go on with the layout of *current*, while that is in use; whether it should."""
        try:
            return not current.index.is_worn and coming.copy_keys(current)
        except ValueError:  # it has been let go of: the journal is closed
            return False

    def grow(self) -> None:
        """One was too small for a flush interval."""
        self._size = min(2 * self._size, max(LARGEST, self._smallest))

    def fill(self, current: Generation) -> None:
        """Make as many as are used up between two calls, each with room for twice of what is in *current*."""
        if current.is_gone:
            self.report_deleted()
        while 2 * current.bytes_used > self._size < LARGEST:
            self.grow()
        for each in list(self.ready):
            if each.is_gone:
                self._drop(each)
        while sum(each.size >= self._size for each in self.ready) < self._wanted:
            made = self.make()
            self.report_trouble()
            if made.path is None:
                return
            self.ready.append(made)
        for each in list(self.ready):
            if each.size < self._size:
                self._drop(each)

    def relax(self, used: int) -> None:
        """All is flushed, of the last so many bytes: one will do, and a smaller one if that was hardly used."""
        self._wanted = 1
        if 4 * used < self._size:
            self._size = max(self._size // 2, self._smallest)

    def report_trouble(self) -> None:
        """Tell whether files can be had. Not under a lock: logging handlers are the application's code."""
        if not self._no_file:
            self._problems.clear("journal_in_memory")
        else:
            self._problems.note(
                "journal_in_memory",
                f"no journal can be kept in {self._directory} ({self._no_file}): counting in memory, so a kill of this "
                "process loses what is not flushed. Make the directory writable, free space, or set data_dir= to a "
                "local disk",
                level=logging.ERROR,
            )

    def report_full(self) -> None:
        """There was none left, and the flusher has been woken."""
        self._problems.note(
            "journal_full",
            "more new customers than the journal has room for: counting in memory until the next flush, a moment "
            "from now; only a kill before it would lose this usage",
        )

    def report_deleted(self) -> None:
        """Somebody else removed a file of ours: what is counted in it would die with the process."""
        self._problems.note(
            "journal_deleted",
            f"somebody deleted files in {self._directory}, of a journal that is in use. New ones are made, and nothing "
            "is lost unless a kill came before. Keep what tidies up away from data_dir=",
            level=logging.ERROR,
        )

    def report_lost(self, lost: list[dict[str, int]]) -> None:
        """By meter, what was counted and is nowhere."""
        told = f"usage that neither a file nor the ledger would take is lost: {lost}"
        self._problems.note("journal_lost", told, level=logging.ERROR)

    def _drop(self, each: Generation) -> None:
        try:
            self.ready.remove(each)
        except ValueError:
            return  # it has just been taken, and is looked at in its place
        if each.is_gone:
            self.report_deleted()
        each.discard()
