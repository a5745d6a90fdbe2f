"""
Aggregate: one generation of the journal, a file of counters that outlives its process.

The file is memory-mapped, so what is stored belongs to the kernel: `SIGKILL` cannot take it back.
Its bytes are described in `meterkit.journal_file`.

A count is one aligned 8-byte store, so a kill finds it done or not done. The owner holds an ``flock`` on the file;
when the lock is free the owner is gone, and whoever takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import zlib
from pathlib import Path
from typing import TypeAlias

from meterkit.journal_file import HEADER_BYTES, ID_BYTES, RECORD_WORDS, Counted, generation_id, header, records
from meterkit.native import politely
from meterkit.peak import is_sighting
from meterkit.sink import Cell, Place, Who, both_of, cell_of

GENERATION_BYTES = 1 << 20
"""Room for some 9,000 cells: as many distinct customers, users and meters in one flush interval."""

SUFFIX = ".journal"

UNFINISHED = ".tmp"
"""What a file is called until it is locked and complete."""

_json = json.encoder.encode_basestring_ascii
_MAX_COUNT = 2**63 - 1  # what the ledger's integers hold


Shared: TypeAlias = tuple[dict[Who, int], str, str]
"""
By customer, the word at which the cell's record begins; and what begins and ends the keys of all of them.

As ``json.dumps()`` would write them, in a tenth of its time.
"""


class FullError(Exception):
    """The generation has no room for another cell."""


class Generation:
    """
    A generation that this process owns and counts in.

    Not thread-safe: the journal holds its lock around every call.

    Attributes:
        id: Unique for ever; the ledger remembers it once it is folded.
        path: None for one that had to be kept in memory.
        size: In bytes.
        is_full: There was no room for a cell.
        total: What has been counted in it, or was about to be.
        watched: Names of the meters of which `used` is asked.
        places: What the cells of each place share: many customers do, and most of a cell in memory is its key.
        last: The place that was counted in last, and its part of `places`: to look that up takes longer than to see
            that it is the same.
        words: All of it. What has been counted of a cell is one word after its place, and when it was last, two.
    """

    def __init__(self, buffer: mmap.mmap | bytearray, generation_id: str, *, path: Path | None, fd: int | None) -> None:
        self.id = generation_id
        self.path = path
        self._fd = fd
        self._buffer = buffer
        self.size = len(buffer)
        self.words = memoryview(buffer).cast("B").cast("Q")
        self.places: dict[Place, Shared] = {}
        self.last: tuple[Place | None, dict[Who, int]] = (None, {})
        self._is_shed = False
        self.is_full = False
        self.total = 0
        self.watched: frozenset[str] = frozenset()
        self._watched_at: dict[tuple[str, str], list[int]] = {}
        self._watched_sums: dict[tuple[str, str], int] = {}
        self._next = HEADER_BYTES // 8

    @classmethod
    def create(cls, directory: Path, size: int = GENERATION_BYTES) -> Generation:
        """
        A new file in *directory*, which is made if need be.

        The file gets its name only when it is locked and complete, so nobody adopts it half-made.

        Raises:
            OSError: No such file can be had; the disk is full, or may not be written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        generation_id = os.urandom(ID_BYTES)
        path = directory / f"{generation_id.hex()}{SUFFIX}"
        unfinished = path.with_suffix(UNFINISHED)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(fd, size)
            os.pwrite(fd, header(generation_id, size), 0)
            buffer = mmap.mmap(fd, size)
            unfinished.rename(path)
        except BaseException:
            os.close(fd)
            unfinished.unlink(missing_ok=True)
            raise
        return cls(buffer, generation_id.hex(), path=path, fd=fd)

    @classmethod
    def in_memory(cls, size: int = GENERATION_BYTES) -> Generation:
        """One without a file, for when none can be had. It counts as well, but a kill takes it along."""
        return cls(bytearray(size), os.urandom(ID_BYTES).hex(), path=None, fd=None)

    @property
    def bytes_used(self) -> int:
        """Of its size."""
        return self._next * 8

    @property
    def empty(self) -> bool:
        """Nothing has been counted in it."""
        return not self.places and not self._is_shed

    def has(self, cell: Cell) -> bool:
        """*cell* is counted in it already."""
        meter, event_name, company, user, window = cell
        shared = self.places.get((meter, event_name, window))
        return shared is not None and ((company, user) if user else company) in shared[0]

    def count(self, cell: Cell, quantity: int, now: int) -> None:
        """
        Add *quantity* to *cell*.

        Raises:
            FullError: There is no room for a new cell, or the cell can hold no more.
        """
        meter, event_name, company, user, window = cell
        place, who = (meter, event_name, window), (company, user) if user else company
        at = self.room(place, who)
        if not at:
            raise FullError
        words = self.words
        if words[at + 1] + quantity > _MAX_COUNT:
            raise FullError
        words[at + 2] = now
        words[at + 1] += quantity  # in one step: the journal counts ones meanwhile, without its lock

    def at(self, place: Place) -> dict[Who, int]:
        """What is counted in *place*; it is remembered as the `last`."""
        shared = self.places.get(place)
        if shared is None:
            return {}
        self.last = (place, shared[0])
        return shared[0]

    def used(self) -> dict[tuple[str, str], int]:
        """By company and watched meter, what has been counted in it."""
        return {pair: self.used_by(pair) for pair in self._watched_at or self._watched_sums}

    def used_by(self, pair: tuple[str, str]) -> int:
        """What has been counted of a company and a watched meter."""
        words = self.words
        places = self._watched_at.get(pair)
        return self._watched_sums.get(pair, 0) if places is None else sum([words[at + 1] for at in places])

    def cells(self) -> list[Counted]:
        """
        What has been counted.

        Raises:
            ValueError: It has been let go of.
        """
        if self._is_shed:
            data = b"" if self._fd is None else os.pread(self._fd, os.fstat(self._fd).st_size, 0)
            if not data or generation_id(data) != self.id:
                raise ValueError("this generation has been let go of")
            return list(records(data))
        words = self.words
        found = ((place, who, at) for place, (theirs, _, _) in self.places.items() for who, at in theirs.items())
        return [(cell_of(place, who), words[at + 1], words[at + 2]) for place, who, at in politely(found)]

    @property
    def is_gone(self) -> bool:
        """Somebody else removed the file. What is in it can still be read, as long as this process lives."""
        return self._fd is not None and os.fstat(self._fd).st_nlink == 0

    def shed(self) -> None:
        """Nothing more is counted in it: keep it in its file only. One in memory stays there."""
        if self._fd is not None and not self._is_shed:
            self._is_shed = True
            self._watched_sums, self._watched_at = self.used(), {}
            self._release()
            self.places, self.last = {}, (None, {})

    def discard(self) -> None:
        """Remove the file: the ledger has what was in it. Emptied first, in case that it cannot be removed."""
        if self._fd is not None:
            os.pwrite(self._fd, bytes(8), HEADER_BYTES)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """
        Let go of the file without touching it.

        For its owner this frees the lock. In a forked child it only drops what was inherited: the lock belongs to
        the open file, which the parent still holds.
        """
        self._release()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _release(self) -> None:
        self.words.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def room(self, place: Place, who: Who) -> int:
        """Where the cell of *place* and *who* is, which may be new; 0 where there is no room for it."""
        theirs, head, tail = self.places.get(place) or self._share(place)
        known = theirs.get(who)
        if known:
            return known
        company, user = both_of(who)
        key = f"{head}{_json(company)},{_json(user)}{tail}".encode("ascii")
        at = self._next
        end = at + RECORD_WORDS + -(-len(key) // 8)
        if end > len(self.words):
            self.is_full = True
            return 0
        start = (at + RECORD_WORDS) * 8
        self._buffer[start : start + len(key)] = key
        self.words[at] = zlib.crc32(key) << 32 | len(key)
        self._next = end
        theirs[who] = at
        if place[0] in self.watched and not is_sighting(user):
            self._watched_at.setdefault((company, place[0]), []).append(at)
        return at

    def _share(self, place: Place) -> Shared:
        meter, event_name, window = place
        shared: Shared = ({}, f"[{_json(meter)},{_json(event_name)},", f",{window}]")
        self.places[place] = shared
        return shared


def _allocate(fd: int, size: int) -> None:
    """Take the space now: storing into a hole of a full disk would kill the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.pwrite(fd, bytes(size), 0)
