"""
Find and read log files: plain or compressed by gzip, from any byte of their content, a piece at a time.

A piece has `PIECE` bytes at most, whatever is in the file, so memory stays bounded.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20
"""Bytes that are read at a time; a longer line is no line of an access log."""

HEAD = 4096
"""Bytes at the beginning of a file by which it is recognized, wherever it is moved or copied to."""

TAIL = 256
"""Bytes before a position by which it is made certain that it is one of this file."""

_COMPRESSED = re.compile(r"\.gz$")
_ROTATED = re.compile(r"(?:[.-]\d{1,3}|[.-]\d{4}-?\d\d-?\d\d(?:[-_.T]?\d{2,6})?|[.-]\d{10})$")
_MAGIC = re.compile(r"[*?[]")


class BrokenFileError(Exception):
    """A compressed file ends too early, or is damaged; the text says how."""


@dataclass(frozen=True, slots=True)
class Found:
    """
    A log file, as it is in a directory.

    Attributes:
        path: Absolute path.
        inode: Device and inode, by which it stays the same when it is renamed.
        size: Bytes in the directory, which are compressed ones if it is compressed.
        modified: Nanoseconds of its last change.
        is_asked: Whether it was named, or matches a pattern; otherwise it is beside one that was named, as its rotated
            former content.
    """

    path: Path
    inode: str
    size: int
    modified: int
    is_asked: bool

    @property
    def is_compressed(self) -> bool:
        """Whether its content is compressed."""
        return _COMPRESSED.search(self.path.name) is not None

    @property
    def is_rotated(self) -> bool:
        """Whether its name is one that only former content has, which may be a copy."""
        return self.is_compressed or _ROTATED.search(self.path.name) is not None

    @property
    def stamp(self) -> str:
        """Size and time, which change whenever it does."""
        return f"{self.size}:{self.modified}"


def family_of(path: Path) -> str:
    """Return what a log and its rotated former content have in common: the path without number, date and ``.gz``."""
    name = _COMPRESSED.sub("", path.name)
    return str(path.parent / _ROTATED.sub("", name))


def find(pattern: str) -> list[Found]:
    """
    Return the files that *pattern* names, the oldest first; for a path, also those that are beside it as its rotations.

    Args:
        pattern: Path, or a pattern with ``*``, ``?`` and ``[...]``.
    """
    path = os.path.abspath(pattern)  # noqa: PTH100 - a link is to stay one
    if _MAGIC.search(path):
        names = dict.fromkeys(glob.glob(path, recursive=True), True)  # noqa: PTH207 - it has a pattern of any kind
    else:
        escaped = glob.escape(path)
        beside = [each for mark in ".-" for each in glob.glob(f"{escaped}{mark}*")]  # noqa: PTH207
        names = {each: False for each in beside if family_of(Path(each)) == path}
        names[path] = True
    found = [each for name, is_asked in names.items() if (each := _found(Path(name), is_asked=is_asked)) is not None]
    return sorted(found, key=lambda each: (each.modified, str(each.path)))


def is_pattern(path: str) -> bool:
    """Return whether *path* is a pattern for the names of files."""
    return _MAGIC.search(path) is not None


def _found(path: Path, *, is_asked: bool) -> Found | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, f"{status.st_dev}:{status.st_ino}", status.st_size, status.st_mtime_ns, is_asked)


def digest(data: bytes) -> str:
    """Return the fingerprint of *data*."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Complete lines of a file.

    Attributes:
        lines: The lines as they are, but for the line feed.
        size: Bytes that they, and what was left out, take in the file.
        overlong: Number of lines that were left out because they are too long.
        tail: Last `TAIL` bytes of these, or fewer.
    """

    lines: list[bytes]
    size: int
    overlong: int
    tail: bytes


class Content:
    """
    The content of an open log file.

    Args:
        found: The file.

    Raises:
        OSError: It cannot be opened, or is another by now.
    """

    def __init__(self, found: Found) -> None:
        self._fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        status = os.fstat(self._fd)
        if f"{status.st_dev}:{status.st_ino}" != found.inode:
            os.close(self._fd)
            raise FileNotFoundError(f"{found.path} is another file by now")
        self.is_compressed = found.is_compressed
        self._raw: BinaryIO | None = None
        self._unpacked: gzip.GzipFile | None = None
        self._start, self._buffer, self._ended = 0, b"", False
        self._scanned = 0

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        self._close_raw()
        self._buffer = b""

    def _close_raw(self) -> None:
        if self._raw is not None:
            self._raw.close()
        self._raw = self._unpacked = None

    def status(self) -> os.stat_result:
        """Return the state of the file."""
        return os.fstat(self._fd)

    def read(self, position: int, size: int) -> bytes:
        """
        Return *size* bytes of the content from *position*; fewer at its end.

        Raises:
            OSError: It cannot be read.
            BrokenFileError: It is compressed, and damaged or not complete.
        """
        if not self.is_compressed:
            return os.pread(self._fd, size, position)
        if self._unpacked is None or position < self._start:
            self._rewind()
        unpacked = self._unpacked
        assert unpacked is not None
        while len(self._buffer) < position - self._start + size and not self._ended:
            passed = min(position - self._start, len(self._buffer))
            self._start, self._buffer = self._start + passed, self._buffer[passed:]
            try:
                more = unpacked.read(PIECE)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise BrokenFileError(str(error) or type(error).__name__) from None
            self._ended = not more
            self._buffer += more
        begin = position - self._start
        return self._buffer[begin : begin + size]

    def _rewind(self) -> None:
        self._close_raw()
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._raw = os.fdopen(os.dup(self._fd), "rb")
        self._unpacked = gzip.GzipFile(fileobj=self._raw)
        self._start, self._buffer, self._ended = 0, b"", False

    def head(self) -> bytes:
        """
        Return the first `HEAD` bytes, or as many as there are.

        Raises:
            OSError: It cannot be read.
            BrokenFileError: It is compressed, and damaged or not complete.
        """
        return self.read(0, HEAD)

    def lines(self, position: int, *, most: int) -> Piece | None:
        """
        Return the complete lines from *position*; None if there is none yet.

        Args:
            position: Byte at which a line begins.
            most: Number of lines, at most.

        Raises:
            OSError: It cannot be read.
            BrokenFileError: It is compressed, and damaged or not complete.
        """
        data = self.read(position, PIECE)
        end = data.rfind(b"\n") + 1
        if not end:
            return self._without_end(position, data)
        self._scanned = 0
        lines = data[:end].split(b"\n", most)
        rest = lines.pop()
        consumed = data[: end - len(rest)]
        return Piece(lines, len(consumed), 0, consumed[-TAIL:])

    def _without_end(self, position: int, data: bytes) -> Piece | None:
        if len(data) == PIECE and not data.strip(b"\0"):  # a hole, where a program goes on after a truncation
            return Piece([], len(data), 0, data[-TAIL:])
        if len(data) < PIECE:
            if data and self.is_compressed:  # it is complete, so this is the end of a line
                return Piece([data], len(data), 0, data[-TAIL:])
            return None
        at = max(position + len(data), self._scanned)
        while True:
            more = self.read(at, PIECE)
            found = more.find(b"\n")
            if found >= 0 or (not more and self.is_compressed):
                end = at + found + 1 if found >= 0 else at
                self._scanned = 0
                return Piece([], end - position, 1, more[: found + 1][-TAIL:])
            if not more:
                self._scanned = at
                return None
            at += len(more)


def clean(line: bytes) -> bytes:
    """Return *line* without what is around it: NULs of a hole, a byte order mark, a carriage return."""
    line = line.lstrip(b"\0").removesuffix(b"\r")
    return line.removeprefix(b"\xef\xbb\xbf")


def inodes(found: Iterable[Found]) -> dict[str, Found]:
    """Return the files by their inodes: a file that was found by several names once, by one that was asked for."""
    by_inode: dict[str, Found] = {}
    for each in found:
        before = by_inode.get(each.inode)
        if before is None or (each.is_asked and not before.is_asked):
            by_inode[each.inode] = each
    return by_inode
