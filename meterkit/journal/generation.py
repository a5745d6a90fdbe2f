"""
One journal file that this process owns and counts in.

The file is memory-mapped, so what is stored belongs to the kernel: `SIGKILL` cannot take it back.
Its bytes are described in `meterkit.journal.file_format`.

A count is one aligned 8-byte store, so a kill finds it done or not done. The owner holds an ``flock`` on the file;
when the lock is free the owner is gone, and whoever takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from meterkit.core.threads import yielding
from meterkit.core.usage_key import Counted, MeterWindow, Subject, UsageKey, both_of, is_observation, usage_key_of
from meterkit.journal.file_format import (
    CELL_WORDS,
    FIRST_CELL,
    ID_BYTES,
    clear,
    generation_id,
    header,
    keys_at,
    records,
    room_for_cells,
)
from meterkit.journal.index import Index, Shared, cell_key, place_key

GENERATION_BYTES = 1 << 20
"""Room for some 18,000 cells: as many distinct customers, users and meters in one flush interval."""

SUFFIX = ".journal"

UNFINISHED = ".tmp"
"""What a file is called until it is locked and complete."""

_MAX_COUNT = 2**63 - 1  # what the ledger's integers hold


class FullError(Exception):
    """The generation has no room for another cell."""


class Generation:
    """
    A generation that this process owns and counts in.

    Not thread-safe, but for `cells`: the journal holds its lock around every other call.

    Attributes:
        id: Unique for ever; the ledger remembers it once it is folded.
        path: None for one that had to be kept in memory.
        size: In bytes.
        is_full: There was no room for a cell.
        total: What has been counted in it, or was about to be.
        watched: Names of the meters of which `used` is asked.
        layout: Which cell is where.
        last: The place that was counted in last, and its part of the layout: to look that up takes longer than to see
            that it is the same.
        words: All of it. What has been counted of a cell is where the layout says.
        seconds: The same. When it was last counted is one after that.
    """

    def __init__(self, buffer: mmap.mmap | bytearray, generation_id: str, *, path: Path | None, fd: int | None) -> None:
        self.id = generation_id
        self.path = path
        self._fd = fd
        self._buffer = buffer
        self.size = len(buffer)
        self.words, self.seconds = memoryview(buffer).cast("B").cast("Q"), memoryview(buffer).cast("B").cast("d")
        self.index = Index()
        self.last: tuple[MeterWindow | None, dict[Subject, int]] = (None, {})
        self._is_shed = False
        self.is_full = False
        self.total = 0
        self.watched: frozenset[str] = frozenset()
        self._used: dict[tuple[str, str], int] = {}
        self._keys_at = keys_at(room_for_cells(self.size))
        self._copied = 0

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
        keys, cells = self.index.tip
        return (FIRST_CELL + CELL_WORDS * cells + keys) * 8

    @property
    def empty(self) -> bool:
        """Nothing has been counted in it."""
        return not self.total

    def copy_keys(self, other: Generation) -> bool:
        """Write down the cells of *other*, which may get more meanwhile, again for those; whether there is room."""
        begin, (end, cells) = self._copied, other.index.tip
        to, source = self._keys_at, other._keys_at
        if FIRST_CELL + CELL_WORDS * cells > to or to + end > len(self.words):
            return False
        if begin < end:
            # The first word last: should we be killed, nobody sees half of a key.
            self._put(to + begin + 1, other.words[source + begin + 1 : source + end])
            self._put(to + begin, other.words[source + begin : source + begin + 1])
            self._copied = end
        return True

    def _put(self, at: int, words: memoryview) -> None:
        # While this is written, requests go on, however busy the disk is; while it is stored, they wait for it. But a
        # limit to the size of files forbids only the former.
        try:
            is_written = self._fd is not None and os.pwrite(self._fd, words, 8 * at) == words.nbytes
        except OSError:
            is_written = False
        if not is_written:
            self.words[at : at + len(words)] = words

    def follow(self, other: Generation) -> None:
        """Go on with the layout of *other*, which gets no more cells while this lasts; if there is room for it."""
        if self.copy_keys(other):
            self.index = other.index
        else:
            begin = self._keys_at * 8
            self._buffer[begin : begin + self._copied * 8] = bytes(self._copied * 8)

    def has(self, cell: UsageKey) -> bool:
        """*cell* is counted in it already."""
        meter, event_name, company, user, window = cell
        shared = self.index.places.get((meter, event_name, window))
        return shared is not None and ((company, user) if user else company) in shared[0]

    def count(self, cell: UsageKey, quantity: int, now: float) -> None:
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
        if words[at] + quantity > _MAX_COUNT:
            raise FullError
        self.seconds[at + 1] = now
        words[at] += quantity  # in one step: the journal counts ones meanwhile, without its lock

    def at(self, place: MeterWindow) -> dict[Subject, int]:
        """What is counted in *place*; it is remembered as the `last`."""
        shared = self.index.places.get(place)
        if shared is None:
            return {}
        self.last = (place, shared[0])
        return shared[0]

    def used(self) -> dict[tuple[str, str], int]:
        """By company and watched meter, what has been counted in it."""
        used: dict[tuple[str, str], int] = {}
        for (meter, _, company, user, _), quantity, _ in self.cells() if self.watched else ():
            if meter in self.watched and not is_observation(user):
                used[company, meter] = used.get((company, meter), 0) + quantity
        return used

    def used_by(self, pair: tuple[str, str]) -> int:
        """What has been counted of a company and a watched meter."""
        if self._is_shed:
            return self._used.get(pair, 0)
        # Those that followed may have had room for more.
        return sum([self.words[at] for at in self.index.watched_at.get(pair, ()) if at < self._keys_at])

    def cells(self) -> Iterator[Counted]:
        """
        What has been counted, one by one: so many at a time would have the garbage collector go through all there is.

        Raises:
            ValueError: It has been let go of.
        """
        if self._is_shed:
            data = b"" if self._fd is None else os.pread(self._fd, os.fstat(self._fd).st_size, 0)
            if not data or generation_id(data) != self.id:
                raise ValueError("this generation has been let go of")
            yield from records(data)
            return
        words, seconds, end = self.words, self.seconds, self._keys_at
        for place, (theirs, everyone, _) in list(self.index.places.items()):
            for who in yielding(everyone):
                at = theirs.get(who, end)
                if at < end and words[at]:  # those that follow get more cells meanwhile, and may have room for them
                    yield usage_key_of(place, who), words[at], int(seconds[at + 1])

    @property
    def is_gone(self) -> bool:
        """Somebody else removed the file. What is in it can still be read, as long as this process lives."""
        return self._fd is not None and os.fstat(self._fd).st_nlink == 0

    def shed(self, used: dict[tuple[str, str], int]) -> None:
        """Nothing more is counted in it: keep it in its file only, and what was *used*. One in memory stays there."""
        if self._fd is not None and not self._is_shed:
            self._is_shed, self._used = True, used
            self._release()
            self.index, self.last = Index(), (None, {})

    def discard(self) -> None:
        """Remove the file: the ledger has what was in it. Emptied first, in case that it cannot be removed."""
        if self._fd is not None:
            clear(self._fd)
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
        self.seconds.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def room(self, place: MeterWindow, who: Subject) -> int:
        """Where the cell of *place* and *who* is, which may be new; 0 where there is no room for it."""
        layout = self.index
        shared = layout.places.get(place) or self._share(place)
        if shared is None:
            self.is_full = True
            return 0
        theirs, everyone, head = shared
        known = theirs.get(who)
        if known:
            return known
        keys, cells = layout.tip
        at = FIRST_CELL + CELL_WORDS * cells
        end = self._append(cell_key(head, who), keys) if at < self._keys_at else 0
        if not end:
            self.is_full = True
            return 0
        layout.tip = (end, cells + 1)
        if place[0] in self.watched:
            company, user = both_of(who)
            if not is_observation(user):
                layout.watched_at.setdefault((company, place[0]), []).append(at)
        everyone[len(theirs) :] = [who]  # over what an interrupted one may have left
        theirs[who] = at
        return at

    def _share(self, place: MeterWindow) -> Shared | None:
        layout = self.index
        end = self._append(place_key(len(layout.places), place), layout.tip[0])
        return layout.share(place, end) if end else None

    def _append(self, key: bytes, at: int) -> int:
        """Write *key* as the word *at* of the keys, and on; answers where the next one goes, or 0 without room."""
        length = len(key)
        begin = self._keys_at + at
        start = 8 * begin + 8
        end = at + 1 + (length + 7) // 8
        if self._keys_at + end > len(self.words):
            return 0
        self._buffer[start : start + length] = key
        if self._keys_at + end < len(self.words):
            self.words[self._keys_at + end] = 0  # an interrupted one may have left a longer key here
        self.words[begin] = crc32(key) << 32 | length
        return end


def _allocate(fd: int, size: int) -> None:
    """Take the space now: storing into a hole of a full disk would kill the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.pwrite(fd, bytes(size), 0)
