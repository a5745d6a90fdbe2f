"""
Aggregate: one generation of the journal, a file of counters that outlives its process.

The file is memory-mapped, so what is stored belongs to the kernel: `SIGKILL` cannot take it back.
It is a header and then records, each on an 8-byte boundary::

    header   magic 8 | version u32 | pid u32 | id 16 | created u64 | size u64 | crc32 of these u32 | zeros to 64
    record   crc32 << 32 | key length  u64      stored last: a record without it is not there yet
             quantity                  u64
             last used, unix seconds   u64
             key, padded to 8                   the cell, as canonical JSON

A count is one aligned 8-byte store, so a kill finds it done or not done. The owner holds an ``flock`` on the file;
when the lock is free the owner is gone, and whoever takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from meterkit.counting import Cell

GENERATION_BYTES = 1 << 20
"""Room for some 9,000 cells: as many distinct customers, users and meters in one flush interval."""

SUFFIX = ".journal"

UNFINISHED = ".tmp"
"""What a file is called until it is locked and complete."""

_MAGIC = b"meterkit"
_VERSION = 1
_HEADER = struct.Struct("<8sII16sQQ")
HEADER_BYTES = 64
_RECORD_WORDS = 3
_MAX_COUNT = 2**63 - 1  # what the ledger's integers hold

Counted: TypeAlias = "tuple[Cell, int, int]"
"""A cell, its quantity, and the unix second of its last usage."""


class FullError(Exception):
    """The generation has no room for another cell."""


class ForeignFileError(Exception):
    """The file is not a generation that this version of meterkit can read."""


class Generation:
    """
    A generation that this process owns and counts in.

    Not thread-safe: the journal holds its lock around every call.

    Attributes:
        id: Unique for ever; the ledger remembers it once it is folded.
        path: None for one that had to be kept in memory.
        is_full: There was no room for a cell.
    """

    def __init__(self, buffer: mmap.mmap | bytearray, generation_id: str, *, path: Path | None, fd: int | None) -> None:
        self.id = generation_id
        self.path = path
        self._fd = fd
        self._buffer = buffer
        self._words = memoryview(buffer).cast("B").cast("Q")
        self._cells: dict[Cell, int] = {}
        self._is_shed = False
        self.is_full = False
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
        generation_id = uuid.uuid4()
        path = directory / f"{generation_id.hex}{SUFFIX}"
        unfinished = path.with_suffix(UNFINISHED)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(fd, size)
            os.pwrite(fd, _header(generation_id, size), 0)
            buffer = mmap.mmap(fd, size)
            unfinished.rename(path)
        except BaseException:
            os.close(fd)
            unfinished.unlink(missing_ok=True)
            raise
        return cls(buffer, generation_id.hex, path=path, fd=fd)

    @classmethod
    def in_memory(cls, size: int = GENERATION_BYTES) -> Generation:
        """One without a file, for when none can be had. It counts as well, but a kill takes it along."""
        return cls(bytearray(size), uuid.uuid4().hex, path=None, fd=None)

    @property
    def empty(self) -> bool:
        """Nothing has been counted in it."""
        return not self._cells and not self._is_shed

    def has(self, cell: Cell) -> bool:
        """*cell* is counted in it already."""
        return cell in self._cells

    def count(self, cell: Cell, quantity: int, now: int) -> None:
        """
        Add *quantity* to *cell*.

        Raises:
            FullError: There is no room for a new cell, or the cell can hold no more.
        """
        at = self._cells.get(cell)
        if at is None:
            at = self._append(cell)
        words = self._words
        total = words[at + 1] + quantity
        if total > _MAX_COUNT:
            raise FullError
        words[at + 2] = now
        words[at + 1] = total

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
        words = self._words
        return [(cell, words[at + 1], words[at + 2]) for cell, at in self._cells.items()]

    @property
    def is_gone(self) -> bool:
        """Somebody else removed the file. What is in it can still be read, as long as this process lives."""
        return self._fd is not None and os.fstat(self._fd).st_nlink == 0

    def shed(self) -> None:
        """Nothing more is counted in it: keep it in its file only. One in memory stays there."""
        if self._fd is not None and not self._is_shed:
            self._is_shed = True
            self._release()
            self._cells = {}

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
        self._words.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def _append(self, cell: Cell) -> int:
        key = json.dumps(cell, separators=(",", ":")).encode("ascii")
        at = self._next
        end = at + _RECORD_WORDS + -(-len(key) // 8)
        if end > len(self._words):
            self.is_full = True
            raise FullError
        start = (at + _RECORD_WORDS) * 8
        self._buffer[start : start + len(key)] = key
        self._words[at] = zlib.crc32(key) << 32 | len(key)
        self._next = end
        self._cells[cell] = at
        return at


def generation_id(data: bytes) -> str:
    """
    The id in a generation's header.

    Raises:
        ForeignFileError: *data* is not a generation of this version.
    """
    if len(data) < HEADER_BYTES:
        raise ForeignFileError(f"it has {len(data)} bytes, too few for a header")
    magic, version, _pid, raw_id, _created, size = _HEADER.unpack_from(data)
    (crc,) = struct.unpack_from("<I", data, _HEADER.size)
    if magic != _MAGIC:
        raise ForeignFileError("it was not written by meterkit")
    if version != _VERSION:
        raise ForeignFileError(f"it has format version {version}, and this meterkit reads {_VERSION}")
    if crc != zlib.crc32(data[: _HEADER.size]):
        raise ForeignFileError("its header is damaged")
    if size % 8:
        raise ForeignFileError("its size is not a whole number of words")
    return uuid.UUID(bytes=raw_id).hex


def owner(data: bytes) -> int:
    """The pid of the process that made the generation."""
    return int(_HEADER.unpack_from(data)[2])


def read(data: bytes) -> list[Counted]:
    """
    What a generation holds, which its owner may still be writing.

    Raises:
        ForeignFileError: *data* is not a generation, or torn.
    """
    generation_id(data)
    return list(records(data))


def records(data: bytes) -> Iterator[Counted]:
    """
    The cells in *data*, whose header is sound, one by one.

    Raises:
        ForeignFileError: From here on it is torn.
    """
    declared = int(_HEADER.unpack_from(data)[5])
    words = memoryview(data)[: len(data) // 8 * 8].cast("Q")
    at = HEADER_BYTES // 8
    while at < len(words) and words[at]:
        crc, length = words[at] >> 32, words[at] & 0xFFFFFFFF
        start = (at + _RECORD_WORDS) * 8
        key = data[start : start + length]
        if len(key) != length or zlib.crc32(key) != crc:
            raise ForeignFileError(f"the record at byte {at * 8} is damaged")
        meter, event_name, company, user, window = json.loads(key)
        yield (meter, event_name, company, user, window), words[at + 1], words[at + 2]
        at += _RECORD_WORDS + -(-length // 8)
    if len(data) < declared:
        raise ForeignFileError(f"it was cut from {declared} to {len(data)} bytes")


def _header(generation_id: uuid.UUID, size: int) -> bytes:
    head = _HEADER.pack(_MAGIC, _VERSION, os.getpid(), generation_id.bytes, int(time.time()), size)
    return head + struct.pack("<I", zlib.crc32(head))


def _allocate(fd: int, size: int) -> None:
    """Take the space now: storing into a hole of a full disk would kill the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.pwrite(fd, bytes(size), 0)
