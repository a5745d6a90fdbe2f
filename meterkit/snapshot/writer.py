"""
Publish what requests are checked against. For the one process that flushes.

A writer never goes on with the file of another one: it makes a file of its own, and puts it in that one's place when
all that is known stands in it. So a crash, at whatever byte, leaves readers with what was published last.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from meterkit.core import threads
from meterkit.core.filesystem import PRIVATE_FILE, make_private_directory
from meterkit.snapshot.file_format import BEGUN, DONE, FIRST_SLOT, PUBLISHED, RECORD_WORDS, STATE, SUPERSEDED
from meterkit.snapshot.reader import SnapshotFile
from meterkit.snapshot.table import Default, FullError, Table

FILE = "snapshot"
"""Name of the file, in the directory of the kit."""

COMPANIES = 2048
"""Companies that the first file has room for; each one that follows has room for twice as many as there are."""

WORDS_PER_COMPANY = 12
"""Words that a new file has for each company, besides its slots and values: its id and its detail, and later ones."""

_MOST_WORDS = 2**32  # positions are half of a word, so no file is larger than 32 GB


class SnapshotWriter:
    """
    Writes a snapshot file, or figures that only this process can read. Not safe for several threads.

    Args:
        path: Path of the file; None for memory of this process.
        fingerprint: Result of `meterkit.snapshot.file_format.fingerprint_of`.
        default: What is known of companies that are not put.
        companies: Number of companies that are expected.

    Raises:
        OSError: The file cannot be created; the disk may be full or read-only.
    """

    def __init__(self, path: Path | None, fingerprint: bytes, *, default: Default, companies: int = COMPANIES) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._default = default
        self._file: tuple[Path, int] | None = None  # where the table is before it is shown, and its inode
        self._is_shown = self._has_new = False
        self._reader: SnapshotFile | None = None
        self._former: Table | None = None
        self._buffer, self._table = self._make(companies)

    def begin(self) -> None:
        """Note that a round begins: what is in the ledger by now will be in the figures when it is published."""
        self._table.words[BEGUN] += 1
        threads.barrier()

    def put(
        self,
        company: str,
        *,
        flags: int = 0,
        plan: int = 0,
        values: Iterable[int | None] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Write all figures of *company*. A reader sees each of them as it was or as it is, and those of a new company
        after `publish`.

        Args:
            company: Company id.
            flags: Flags, such as `meterkit.snapshot.file_format.KNOWN`.
            plan: Number of its plan.
            values: Whole numbers of any size, or None; as many as the default has.
            detail: What else there is, for ``json.dumps``.

        Raises:
            OSError: There is no room, and no larger file can be created. What was published before stays.
        """
        numbers = list(values)
        try:
            is_new = self._table.put(company, flags=flags, plan=plan, values=numbers, detail=detail)
        except FullError:
            self._grow(len(company) + len(repr(detail)))
            is_new = self._table.put(company, flags=flags, plan=plan, values=numbers, detail=detail)
        self._has_new |= is_new

    def publish(self, *, edges: Mapping[str, Iterable[int]], folded: Iterable[str] = ()) -> None:
        """
        Let readers know of the companies that are new, and that the figures were looked at just now.

        Args:
            edges: Boundaries of the current and the next hours, by company.
            folded: Ids of the generations whose counts are in the figures since the last call.

        Raises:
            OSError: There is no room, and no larger file can be created; or another process has replaced the file, and
                no other can be created. What was published before stays.
        """
        found = {company: list(each) for company, each in edges.items()}
        try:
            self._table.put_edges(found)
        except FullError:
            self._grow(len(repr(found)))
            self._table.put_edges(found)
        if self._is_shown and not self._is_in_place():
            self._grow(0)  # the file was deleted, or another process writes as well: the lock does not work here
        threads.barrier()  # the figures before the mark that they are complete
        for generation in folded:
            self._table.put_folded(generation)
        if self._has_new:
            self._has_new = False
            threads.barrier()
            self._table.words[STATE] += 1
        self._table.words[DONE] = self._table.words[BEGUN]
        self._table.seconds[PUBLISHED] = time.time()
        if self._path is not None and not self._is_shown:
            self._show(self._path)

    def beat(self) -> None:
        """Tell readers that somebody still looks after the figures, though nothing could be read just now."""
        self._table.seconds[PUBLISHED] = time.time()

    def reader(self) -> SnapshotFile:
        """Return what this process reads; another object after it has grown."""
        if self._reader is None:
            self._reader = SnapshotFile(self._buffer, self._fingerprint)
        return self._reader

    @property
    def is_shared(self) -> bool:
        """Whether other processes find the file."""
        return self._is_shown

    def close(self) -> None:
        """Remove the file: who starts now waits for a new one, and who has read this one keeps the figures."""
        if self._path is None or self._file is None:
            return
        unfinished, inode = self._file
        with suppress(OSError):
            if not self._is_shown:
                unfinished.unlink()
            elif self._path.stat().st_ino == inode:
                self._table.words[STATE] = SUPERSEDED
                self._path.unlink()
        self._is_shown, self._file = False, None

    def _is_in_place(self) -> bool:
        if self._path is None or self._file is None or self._table.words[STATE] == SUPERSEDED:
            return False
        try:
            return self._path.stat().st_ino == self._file[1]
        except OSError:
            return False

    def _grow(self, extra_bytes: int) -> None:
        """Go on in a new file, which has room for twice as many companies, without what is no longer in use."""
        former = self._table
        self._buffer, table = self._make(2 * former.records, words=2 * former.words_in_use() + extra_bytes)
        table.take_over(former)
        if self._is_shown:
            self._former = former
        self._table, self._is_shown, self._reader = table, False, None

    def _make(self, companies: int, *, words: int = 0) -> tuple[mmap.mmap, Table]:
        companies = max(companies, COMPANIES)
        slots = 1 << (2 * companies - 1).bit_length()
        per_company = RECORD_WORDS + len(self._default.values) + WORDS_PER_COMPANY
        words = FIRST_SLOT + slots + max(companies * per_company, words)
        if words > _MOST_WORDS:
            raise OSError(f"the figures of {companies:,} companies are too many for a snapshot")
        buffer = mmap.mmap(-1, 8 * words) if self._path is None else self._create(self._path, 8 * words)
        return buffer, Table(buffer, self._fingerprint, slots=slots, default=self._default)

    def _create(self, path: Path, size: int) -> mmap.mmap:
        make_private_directory(path.parent)
        for left in path.parent.glob(f"{path.name}.*.tmp"):  # by writers that were killed
            left.unlink(missing_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            # Now: storing into a hole when the disk is full would kill the process with SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size)
            else:  # macOS
                os.pwrite(fd, bytes(size), 0)
            buffer = mmap.mmap(fd, size)
            self._file = (unfinished, os.fstat(fd).st_ino)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return buffer

    def _show(self, path: Path) -> None:
        """Put the file in the place of the one before, whose readers then look for it."""
        assert self._file is not None
        if self._former is not None:  # it may have been deleted
            self._former.words[STATE] = SUPERSEDED
            self._former = None
        supersede(path)  # first: a kill in between must not leave readers with a file that nobody writes any more
        self._file[0].rename(path)
        self._is_shown = True


def supersede(path: Path) -> None:
    """Tell the readers of the file at *path*, if there is one, that another one takes its place."""
    with suppress(OSError, ValueError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with mmap.mmap(fd, 0) as buffer, memoryview(buffer) as whole, whole.cast("Q") as words:
                if len(words) > STATE:
                    words[STATE] = SUPERSEDED
        finally:
            os.close(fd)
