"""
Which content a file has, and how far that has been counted.

A file is the same as long as it has the same inode and begins with the same bytes; otherwise it is compared with the
content that is known: it may be a copy, compressed, or on another file system.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meterkit.access_logs.files import HEAD, BrokenFileError, Content, Found, digest, family_of
from meterkit.access_logs.formats.named import Format
from meterkit.access_logs.positions import Position, new_position

TICK_SECONDS = 0.05
"""By how much the time of a file's last change may be behind the clock; more than file systems are."""


class File:
    """
    A log file that is followed.

    Args:
        found: Where it is.
        content: Its content, open.
        position: How far it has been counted.
        met_at: When it was first seen, Unix seconds; 0 if that was before this process.

    Attributes:
        found: Where it is.
        met_at: When it was first seen, Unix seconds; 0 if that was before this process.
        position: How far it has been counted.
        formats: Formats that its lines have; None until that is known.
        looked_at: Size and time at which its end was reached; empty if it was not.
        gone_at: When it was found to have been moved away, ``time.monotonic()`` seconds; None if it is there.
        waits_until: When it is looked at again, ``time.monotonic()`` seconds, because another process counts it.
    """

    def __init__(self, found: Found, content: Content, position: Position, *, met_at: float = 0.0) -> None:
        self.found = found
        self.met_at = met_at
        self.position = position
        self.formats: Sequence[Format] | None = None
        self.looked_at = ""
        self.gone_at: float | None = None
        self.waits_until = 0.0
        self._content: Content | None = content

    def content(self) -> Content:
        """
        Return its content, open.

        Raises:
            OSError: It cannot be opened, or is another file by now.
        """
        if self._content is None:
            self._content = Content(self.found)
        return self._content

    def close(self) -> None:
        """Close it."""
        if self._content is not None:
            self._content.close()
        self._content = None

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._content is not None

    def begins_with(self, head: bytes) -> bool:
        """Return whether it is open, and its content begins with *head*."""
        if self._content is None or self._content.is_compressed:
            return False
        return self._content.read(0, len(head)) == head

    def is_intact(self) -> bool:
        """Return whether the file still begins with what was there, and has all that was counted."""
        content = self.content()
        if content.is_compressed:
            return True
        head = content.read(0, self.position.head_bytes)
        return content.status().st_size >= self.position.read_bytes and _matches(head, self.position)


@dataclass(slots=True)
class Unknown:
    """A file that this process has not followed yet, and its beginning."""

    found: Found
    content: Content
    head: bytes
    compared: dict[tuple[str, int], str] = field(default_factory=dict)


class Recognition:
    """
    Finds the positions of files that this process has not followed yet.

    Args:
        source: Name of the host or gateway.
        clock: Function that returns Unix seconds.

    Attributes:
        known: All positions of the source.
        truncated: Files, by inode, and the positions that they certainly no longer have.
        passed_over: Inodes of files with history from before their log was followed.
    """

    def __init__(self, source: str, *, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self.known: list[Position] = []
        self.truncated: set[tuple[str, str]] = set()
        self.passed_over: set[str] = set()
        self._copies: dict[tuple[str, str], str] = {}

    def beginnings(self, known: list[Position], families: Iterable[str]) -> list[Position]:
        """Return what notes since when logs are followed: what they are rotated to from then on counts, too."""
        self.known = known
        return [
            new_position(self._source, family, family, "", now=int(self._clock()))
            for family in dict.fromkeys(families)
            if self.begun(family) is None
        ]

    def begun(self, family: str) -> Position | None:
        """Return what notes since when a log is followed; None if it is not."""
        return next((each for each in self.known if not each.inode and each.family == family), None)

    def assign(
        self, unknown: Iterable[Unknown], known: list[Position], followed: Mapping[str, File]
    ) -> tuple[list[File], list[Position]]:
        """
        Return the files that are to be followed, and those of their positions that are new.

        Args:
            unknown: Files that are not followed yet.
            known: All positions of the source.
            followed: Files that are followed, by inode.
        """
        self.known = known
        in_use = {file.position.id for file in followed.values()}
        files: list[File] = []
        new: list[Position] = []
        left: list[Unknown] = []

        def follow(each: Unknown, position: Position) -> None:
            in_use.add(position.id)
            is_new = any(one is position for one in new)
            files.append(File(each.found, each.content, position, met_at=time.time() if is_new else 0.0))

        for each in unknown:
            position = self._of_inode(each, in_use)
            if position is None:
                left.append(each)
            else:
                follow(each, position)
        for each in left:
            position, is_copy = self._of_content(each, in_use, followed)
            if position is None and not is_copy:
                position = self._new(each)
                if position is not None:
                    new.append(position)
            if position is not None:
                follow(each, position)
        return files, new

    def _of_inode(self, each: Unknown, in_use: set[str]) -> Position | None:
        for position in reversed(self.known):
            if (
                position.inode == each.found.inode
                and position.id not in in_use
                and (each.found.inode, position.id) not in self.truncated
                and _compared(each, position) == "same"
            ):
                return position
        return None

    def _of_content(
        self, each: Unknown, in_use: set[str], followed: Mapping[str, File]
    ) -> tuple[Position | None, bool]:
        """
        Return the position of a file that has been copied, compressed, or moved to another file system.

        Also whether it is certainly a copy, and so does not count, although it has no position now: the original is
        there, too, or the copy is not complete.
        """
        found, family = each.found, stored(family_of(each.found.path))
        older = [file for file in followed.values() if file.met_at <= found.modified / 1e9 + TICK_SECONDS]
        if found.is_rotated and each.head:
            original = next((file for file in older if file.begins_with(each.head)), None)
            if original is not None:
                self._copies[found.inode, found.stamp] = original.position.id
                return None, True
        # A file that was met after this one was last written to cannot be its original, however alike they are.
        younger = {file.position.id for file in followed.values() if file not in older}
        for position in reversed(self.known):
            is_certain = position.head_bytes == HEAD
            if not position.head_bytes or not (is_certain or position.family == family):
                continue
            if not _matches(each.head, position):
                continue
            if position.id in in_use:
                if found.is_rotated and position.id not in younger:
                    return None, True
                continue
            what = _compared(each, position)
            if what == "shorter" and found.is_rotated:
                return None, True
            is_moved = is_certain or position.path == stored(str(found.path))
            if what == "same" and (found.is_rotated or (is_moved and (found.inode, position.id) not in self.truncated)):
                return position, False
        copied = self._copies.get((found.inode, found.stamp))
        return None, any(each.id == copied and found.size <= each.read_bytes for each in self.known)

    def _new(self, each: Unknown) -> Position | None:
        """Return the position of new content; None if it is from before the log was followed, and was not asked for."""
        found, since = each.found, 0
        family = stored(family_of(found.path))
        if not found.is_asked:
            begun = self.begun(family)
            if begun is None or found.modified / 1e9 < begun.created_at:
                self.passed_over.add(found.inode)
                return None
            since = begun.created_at
        return new_position(
            self._source,
            family,
            stored(str(found.path)),
            found.inode,
            now=int(self._clock()),
            head_bytes=len(each.head),
            head=digest(each.head) if each.head else "",
            since=since,
        )


def _matches(head: bytes, position: Position) -> bool:
    """Return whether content that begins with *head* begins with that of *position*."""
    size = position.head_bytes
    return len(head) >= size and (not size or digest(head[:size]) == position.head)


def _compared(each: Unknown, position: Position) -> str:
    """Return whether content is the ``same`` as that of *position*, ``shorter`` than what was counted, or ``other``."""
    place = (position.id, position.read_bytes)
    if place not in each.compared:
        each.compared[place] = _compare(each, position)
    return each.compared[place]


def _compare(each: Unknown, position: Position) -> str:
    if not _matches(each.head, position):
        return "other"
    try:
        tail = each.content.read(position.read_bytes - position.tail_bytes, position.tail_bytes)
    except (OSError, BrokenFileError):
        return "shorter"
    if len(tail) < position.tail_bytes:
        return "shorter"
    return "same" if not position.tail_bytes or digest(tail) == position.tail else "other"


def stored(path: str) -> str:
    """Return *path* as the ledger can store it: file names may be bytes that are no text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
