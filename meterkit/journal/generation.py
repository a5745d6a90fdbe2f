"""
One journal file that this process owns and counts in.

The file is memory-mapped, so what is stored belongs to the kernel, and survives `SIGKILL`.
Its format is described in `meterkit.journal.file_format`.

A count is one aligned 8-byte store, so a kill comes either before or after it. The owner holds an ``flock`` on the
file; if the lock is free, the owner has ended, and the process that takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from meterkit.core.filesystem import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private_directory
from meterkit.core.threads import yielding
from meterkit.core.usage_key import (
    KEYED,
    Counted,
    MeterWindow,
    Subject,
    UsageKey,
    both_of,
    is_observation,
    usage_key_of,
)
from meterkit.journal.file_format import (
    BEGUN,
    CELL_WORDS,
    FIRST_CELL,
    ID_BYTES,
    MAX_COUNT,
    clear,
    generation_id,
    header,
    keys_at,
    mark_published,
    records,
    room_for_cells,
)
from meterkit.journal.index import Index, Shared, cell_key, place_key

GENERATION_BYTES = 1 << 20
"""Bytes of a generation: room for about 18,000 combinations of company, user and meter in one flush interval."""

SUFFIX = ".journal"

UNFINISHED = ".tmp"
"""Suffix of a file until it is locked and complete."""


class FullError(Exception):
    """The generation has no room for another cell."""


class Generation:
    """
    A generation that this process owns and counts in.

    Not thread-safe, except for `cells`: the journal holds its lock around every other call.

    Attributes:
        id: Globally unique id; the ledger stores it when the generation is folded.
        path: Path of the file; None for a generation in memory.
        size: Size of the file, bytes.
        is_full: Whether a cell did not fit.
        total: Sum of all quantities counted, including one that is just being stored.
        watched: Names of the meters that `used` and `used_by` report.
        index: Positions of the cells.
        last: Place that was counted in last, and its cells in the index: a cache, because comparing is faster than a
            look-up.
        words: The whole file as 64-bit integers. At a cell's position, its quantity.
        seconds: The whole file as 64-bit floats. One after a cell's position, the Unix time of its last usage.
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
        self._is_unmapped = False
        self.is_full = False
        self._begun = 0.0
        self.total = 0
        self.watched: frozenset[str] = frozenset()
        self._used: dict[tuple[str, str], int] = {}
        self._keys_at = keys_at(room_for_cells(self.size))
        self._copied = 0

    @classmethod
    def create(cls, directory: Path, size: int = GENERATION_BYTES, lineage: str = "") -> Generation:
        """
        Create a generation with a file in *directory*, which is created in the directory of the kit if necessary.

        The file gets its final name only once it is locked and complete, so no process adopts it before.

        Args:
            directory: Directory of the file.
            size: Size of the file, bytes.
            lineage: Beginning of its id, hexadecimal; see `meterkit.journal.lineage`.

        Raises:
            OSError: The file cannot be created; the disk may be full or read-only.
        """
        make_private_directory(directory.parent)
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        generation_id = _new_id(lineage)
        path = directory / f"{generation_id.hex()}{SUFFIX}"
        unfinished = path.with_suffix(UNFINISHED)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
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
    def in_memory(cls, size: int = GENERATION_BYTES, lineage: str = "") -> Generation:
        """Create a generation without a file, if no file can be created. Its counts do not survive a kill."""
        return cls(bytearray(size), _new_id(lineage).hex(), path=None, fd=None)

    @property
    def begun(self) -> float:
        """Unix time before which nothing in it was counted; 0 if that is not known."""
        return self._begun

    def begin(self, at: float) -> None:
        """Note that nothing is in it that was counted before *at*, Unix seconds."""
        self._begun = self.seconds[BEGUN] = at

    @property
    def bytes_used(self) -> int:
        """Bytes of `size` that are in use."""
        keys, cells = self.index.tip
        return (FIRST_CELL + CELL_WORDS * cells + keys) * 8

    @property
    def empty(self) -> bool:
        """Whether nothing has been counted."""
        return not self.total

    def copy_keys(self, other: Generation) -> bool:
        """Copy the keys of *other*; return whether there is room. Repeat it for cells that *other* gets meanwhile."""
        begin, (end, cells) = self._copied, other.index.tip
        to, source = self._keys_at, other._keys_at
        if FIRST_CELL + CELL_WORDS * cells > to or to + end > len(self.words):
            return False
        if begin < end:
            # The first word last, so that a kill never leaves half of a key visible.
            self._put(to + begin + 1, other.words[source + begin + 1 : source + end])
            self._put(to + begin, other.words[source + begin : source + begin + 1])
            self._copied = end
        return True

    def _put(self, at: int, words: memoryview) -> None:
        # A write() does not block requests, however busy the disk is; a store into the mapping does. But a limit on
        # file sizes forbids only write().
        try:
            is_written = self._fd is not None and os.pwrite(self._fd, words, 8 * at) == words.nbytes
        except OSError:
            is_written = False
        if not is_written:
            self.words[at : at + len(words)] = words

    def follow(self, other: Generation) -> None:
        """Take over the index of *other* if there is room for it. *other* must not get more cells meanwhile."""
        if self.copy_keys(other):
            self.index = other.index
        else:
            begin = self._keys_at * 8
            self._buffer[begin : begin + self._copied * 8] = bytes(self._copied * 8)

    def has(self, cell: UsageKey) -> bool:
        """Return whether there is already a cell for *cell*, a usage key."""
        meter, event_name, company, user, window = cell
        shared = self.index.places.get((meter, event_name, window))
        return shared is not None and ((company, user) if user else company) in shared[0]

    def count(self, cell: UsageKey, quantity: int, now: float) -> None:
        """
        Add *quantity* to *cell*, a usage key, at the time *now*, Unix seconds.

        Raises:
            FullError: There is no room for a new cell, or the sum would overflow.
        """
        meter, event_name, company, user, window = cell
        place, who = (meter, event_name, window), (company, user) if user else company
        at = self.slot(place, who)
        if not at:
            raise FullError
        words = self.words
        if words[at] + quantity > MAX_COUNT:
            raise FullError
        self.seconds[at + 1] = now
        words[at] += quantity  # in one step: `Journal.count_one` may add ones at any time, without the lock

    def at(self, place: MeterWindow) -> dict[Subject, int]:
        """Return the cells of *place*, and remember them as `last`."""
        shared = self.index.places.get(place)
        if shared is None:
            return {}
        self.last = (place, shared[0])
        return shared[0]

    def used(self) -> dict[tuple[str, str], int]:
        """Return the quantities counted, by company and watched meter."""
        used: dict[tuple[str, str], int] = {}
        for (meter, _, company, user, _), quantity, _ in self.cells() if self.watched else ():
            if meter in self.watched and not is_observation(user):
                used[company, meter] = used.get((company, meter), 0) + quantity
        return used

    def used_by(self, pair: tuple[str, str]) -> int:
        """Return the quantity counted for *pair*, a company and a watched meter."""
        if self._is_unmapped:
            return self._used.get(pair, 0)
        # Later generations may have had room for more cells, which are in the same index.
        return sum([self.words[at] for at in self.index.watched_at.get(pair, ()) if at < self._keys_at])

    def cells(self) -> Iterator[Counted]:
        """
        Yield the counts. A list of them all would make the garbage collector scan every object.

        Raises:
            ValueError: The generation has been released.
        """
        if self._is_unmapped:
            data = b"" if self._fd is None else os.pread(self._fd, os.fstat(self._fd).st_size, 0)
            if not data or generation_id(data) != self.id:
                raise ValueError("this generation has been released")
            yield from records(data)
            return
        words, seconds, end = self.words, self.seconds, self._keys_at
        for place, (slots, subjects, _) in list(self.index.places.items()):
            for who in yielding(subjects):
                at = slots.get(who, end)
                if at < end and words[at]:  # later generations share the index, and may have room for more cells
                    yield usage_key_of(place, who), words[at], int(seconds[at + 1])

    def leave(self, ledger: str) -> Path:
        """
        Rename the file for the process that flushes into *ledger*, and release its lock; return the new path.

        Raises:
            OSError: It cannot be renamed; nothing has happened.
        """
        assert self.path is not None, "a generation in memory cannot be handed over"
        path = self.path.with_name(f"{self.id}.{ledger}{SUFFIX}") if ledger else self.path
        if path != self.path:
            self.path.rename(path)
            self.path = path
        self.abandon()
        return path

    @property
    def is_deleted(self) -> bool:
        """Whether something else deleted the file. Until this process ends, its content can still be read."""
        return self._fd is not None and os.fstat(self._fd).st_nlink == 0

    def unmap(self, used: dict[tuple[str, str], int]) -> None:
        """Free the memory of a retired generation that has a file, keeping only *used*, the result of `used`."""
        if self._fd is not None and not self._is_unmapped:
            self._is_unmapped, self._used = True, used
            self._release()
            self.index, self.last = Index(), (None, {})

    def mark_published(self) -> None:
        """
        Note in the file that it may have been published.

        Raises:
            OSError: The file cannot be written.
        """
        if self._fd is not None:
            mark_published(self._fd)

    def discard(self) -> None:
        """Remove the file, whose counts are in the ledger. It is emptied first, in case it cannot be removed."""
        if self._fd is not None:
            clear(self._fd)
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """
        Close the file without changing it.

        In its owner, this releases the lock. In a forked child it does not: the lock belongs to the open file, which
        the parent still holds.
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

    def slot(self, place: MeterWindow, who: Subject) -> int:
        """Return the position of the cell of *place* and *who*, which is added if new; 0 if there is no room."""
        index = self.index
        shared = index.places.get(place) or self._share(place)
        if shared is None:
            self.is_full = True
            return 0
        slots, subjects, head = shared
        known = slots.get(who)
        if known:
            return known
        keys, cells = index.tip
        at = FIRST_CELL + CELL_WORDS * cells
        end = self._append(cell_key(head, who), keys) if at < self._keys_at else 0
        if not end:
            self.is_full = True
            return 0
        index.tip = (end, cells + 1)
        if not isinstance(who, str) and who[1][:1] == KEYED:
            index.keyed += 1
        if place[0] in self.watched:
            company, user = both_of(who)
            if not is_observation(user):
                index.watched_at.setdefault((company, place[0]), []).append(at)
        subjects[len(slots) :] = [who]  # overwrites what an interrupted call may have left
        slots[who] = at
        return at

    def _share(self, place: MeterWindow) -> Shared | None:
        index = self.index
        end = self._append(place_key(len(index.places), place), index.tip[0])
        return index.share(place, end) if end else None

    def _append(self, key: bytes, at: int) -> int:
        """Write *key* at the word *at* of the keys; return the position of the next key, or 0 if there is no room."""
        length = len(key)
        begin = self._keys_at + at
        start = 8 * begin + 8
        end = at + 1 + (length + 7) // 8
        if self._keys_at + end > len(self.words):
            return 0
        self._buffer[start : start + length] = key
        if self._keys_at + end < len(self.words):
            self.words[self._keys_at + end] = 0  # an interrupted call may have left a longer key here
        self.words[begin] = crc32(key) << 32 | length
        return end


def _new_id(lineage: str) -> bytes:
    begin = bytes.fromhex(lineage)
    return begin + os.urandom(ID_BYTES - len(begin))


def _allocate(fd: int, size: int) -> None:
    """Allocate disk space now: storing into a hole when the disk is full would kill the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.pwrite(fd, bytes(size), 0)
