"""
Find the figures of a company in a snapshot, without a lock and without a system call.

`SnapshotFile` reads one file, and `SnapshotSource` knows which one: a file that has grown is another file.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from meterkit.core import threads
from meterkit.snapshot.file_format import (
    BEGUN,
    DONE,
    EDGES,
    FIRST_SLOT,
    FLAGS_AT,
    FOLDED,
    IN_DETAIL,
    NONE,
    PUBLISHED,
    RECORD_WORDS,
    RING,
    RING_IDS,
    STATE,
    SUPERSEDED,
    Record,
    bytes_at,
    detail_of,
    find,
    shape_of,
)

MAX_REMEMBERED = 16_384
"""Companies whose position a process remembers: clients may invent company ids."""

RETRY_SECONDS = 0.05
"""How long the file that takes the place of another one is not looked for again, when it is not there yet."""

_ATTEMPTS = 3


class ForeignSnapshotError(Exception):
    """The file is not a snapshot that means here what it meant to its writer."""


class SnapshotFile:
    """
    The figures in one snapshot file, which its writer changes meanwhile.

    Args:
        buffer: Memory of the file.
        fingerprint: Result of `meterkit.snapshot.file_format.fingerprint_of`.
        superseded: Function that is called when another file takes the place of this one.

    Raises:
        ForeignSnapshotError: It is not a snapshot of this version and configuration.

    Attributes:
        words: The whole file as 64-bit integers.
        state: State of the file as of the last look-up.
        places: Positions of records that were looked up. They hold as long as the state is the same: see `at`.
    """

    def __init__(
        self, buffer: mmap.mmap, fingerprint: bytes, *, superseded: Callable[[], object] = lambda: None
    ) -> None:
        self._buffer = buffer
        whole = memoryview(buffer)
        self.words = whole[: len(whole) // 8 * 8].cast("Q")
        self._seconds = whole[: len(whole) // 8 * 8].cast("d")
        shape = shape_of(self.words, fingerprint)
        if shape is None:
            raise ForeignSnapshotError
        self._slots, self._values = shape
        self._superseded = superseded
        self._default = FIRST_SLOT + self._slots
        self.state = self.words[STATE]
        self.places: dict[str, int] = {}
        self._absent: dict[str, int] = {}

    def at(self, company: str) -> int:
        """Return the position of the record of *company*; that of the default one if it has none."""
        if self.words[STATE] != self.state:
            self._renew()
        return self.places.get(company) or self._absent.get(company) or self._find(company)

    def record(self, company: str) -> Record:
        """Return what is said of *company*. Each part is as it was or as it is, if the writer is at it just now."""
        at = self.at(company)
        info, detail, large = self._detail_of(at)
        words = self.words[at + RECORD_WORDS : at + RECORD_WORDS + self._values].tolist()
        values = [
            None if word == NONE else large.get(str(number), word) if word == IN_DETAIL else word
            for number, word in enumerate(words)
        ]
        return Record(info >> FLAGS_AT, info >> 32 & 0xFFFF, values, detail)

    def has(self, company: str) -> bool:
        """Return whether anything is known of *company*."""
        return self.at(company) != self._default

    def plan(self, company: str) -> int:
        """Return the number of the plan of *company*."""
        return self.words[self.at(company)] >> 32 & 0xFFFF

    def edges(self) -> dict[str, tuple[int, ...]]:
        """Return the boundaries of the current and the next hours, by company."""
        for _ in range(_ATTEMPTS):
            at = self.words[EDGES]
            if not at:
                break
            with suppress(ValueError):
                return {company: tuple(found) for company, found in json.loads(bytes_at(self.words, at)).items()}
            threads.barrier()
        return {}

    @property
    def edges_at(self) -> int:
        """What changes when the result of `edges` does."""
        return self.words[EDGES]

    @property
    def published(self) -> float:
        """Unix second at which the writer looked at the figures last; 0 if never."""
        return self._seconds[PUBLISHED]

    @property
    def rounds(self) -> tuple[int, int]:
        """Numbers of rounds of its writer that are done and begun: in each, it reads the ledger and writes figures."""
        done = self.words[DONE]
        threads.barrier()
        return done, self.words[BEGUN]

    @property
    def is_superseded(self) -> bool:
        """Whether another file takes the place of this one."""
        return self.words[STATE] == SUPERSEDED

    @property
    def folded(self) -> int:
        """Number of generations that the figures contain since the writer began."""
        return self.words[FOLDED]

    def folded_since(self, number: int) -> set[str] | None:
        """
        Return the ids of the generations whose counts the figures contain.

        Args:
            number: `folded` at an earlier time.

        Returns:
            None if they were too many since then to be all known; the figures that are read from now on contain the
            generations that are returned.
        """
        words = self.words
        now = words[FOLDED]
        threads.barrier()
        found = set()
        for each in range(max(number, now - RING_IDS), now):
            at = RING + 2 * (each % RING_IDS)
            found.add(f"{words[at]:016x}{words[at + 1]:016x}")
        threads.barrier()
        return None if words[FOLDED] - number > RING_IDS else found

    def _detail_of(self, at: int) -> tuple[int, dict[str, Any], dict[str, int]]:
        info = 0
        for _ in range(_ATTEMPTS):
            info = self.words[at]
            with suppress(ValueError):
                return (info, *detail_of(self.words, info))
            threads.barrier()  # on ARM, its bytes may be seen later than its position
        return info, {}, {}

    def _find(self, company: str) -> int:
        absent, state = self._absent, self.words[STATE]
        threads.barrier()  # whatever is new in this state is seen now
        record, _ = find(self.words, self._slots, self._values, company)
        if not record and state != self.state:
            return self._default  # not remembered: the next state is not looked at yet
        remembered = self.places if record else absent  # which another thread may have replaced meanwhile
        if len(remembered) >= MAX_REMEMBERED:
            remembered.clear()
        remembered[company] = record or self._default
        return record or self._default

    def _renew(self) -> None:
        state = self.words[STATE]
        self._absent = {}  # before the state, so that no other thread finds what was absent in the former one
        if state == SUPERSEDED:  # it does not say what is new
            self._superseded()
        else:
            self.state = state


class SnapshotSource:
    """
    The snapshot that this process reads: the file that another one publishes, or figures of its own.

    Attributes:
        current: What is read now; None before there is anything.
        is_foreign: Whether the file that was looked for last has another meaning here.
    """

    def __init__(self) -> None:
        self.current: SnapshotFile | None = None
        self.is_foreign = False
        self._file: tuple[Path, bytes] | None = None
        self._inode: tuple[int, int] | None = None
        self._next_look = 0.0

    def use(self, own: SnapshotFile) -> None:
        """Read *own*, which this process writes."""
        self.current, self._inode = own, None

    def look(self, path: Path, fingerprint: bytes, *, within: float) -> bool:
        """
        Look for the file of another process, unless it is read already; return whether that is so now.

        Args:
            path: Path of the file.
            fingerprint: Result of `meterkit.snapshot.file_format.fingerprint_of`.
            within: Seconds since its writer has looked at the figures last, at most; its process may be gone.
        """
        if (path, fingerprint) != self._file:
            self._file, self._inode = (path, fingerprint), None
        current = self.current
        if current is None or self._inode is None or current.is_superseded:
            self._open(within)
            current = self.current
        if self.is_foreign or self._inode is None or current is None:
            return False  # what was read before has come to an end, if there is another file in its place
        return time.time() - current.published <= within

    def forget(self) -> None:
        """Read nothing: another ledger follows."""
        self.current = self._file = self._inode = None

    def _open(self, within: float) -> None:
        if self._file is None:
            return
        path, fingerprint = self._file
        self.is_foreign = False
        with suppress(OSError, ValueError):  # ValueError: an empty file
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) == self._inode:
                    return
                buffer = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            finally:
                os.close(fd)
            try:
                opened = SnapshotFile(buffer, fingerprint, superseded=self._follow)
            except ForeignSnapshotError:
                self.is_foreign = True
                return
            if not opened.is_superseded and abs(time.time() - opened.published) <= within:
                self.current, self._inode = opened, (found.st_dev, found.st_ino)

    def _follow(self) -> None:
        """Look for the file that takes the place of the current one; until it is there, that one is read."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + RETRY_SECONDS
            self._open(math.inf)
