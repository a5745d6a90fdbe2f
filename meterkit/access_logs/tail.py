"""
Follow log files, and count each of their lines once.

A file is recognized by its content: where it is renamed, copied and truncated, or compressed, counting goes on where it
was. Only files that this process has open are never mistaken; what is found at its start is compared with `Position`s.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from meterkit.access_logs.counter import LineCounter
from meterkit.access_logs.files import (
    HEAD,
    BrokenFileError,
    Content,
    Found,
    Piece,
    clean,
    digest,
    find,
    inodes,
    is_pattern,
)
from meterkit.access_logs.formats.line import Line, UnreadableError
from meterkit.access_logs.formats.named import Format, read_by_any, recognized
from meterkit.access_logs.positions import (
    SEEN_SECONDS,
    MovedError,
    Position,
    Positions,
    advance,
    moved,
)
from meterkit.access_logs.recognition import File, Recognition, Unknown, stored
from meterkit.accounts.period_edges import PeriodEdges
from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.errors import LedgerError
from meterkit.ledger import schema
from meterkit.ledger.database import Database, UnstorableError
from meterkit.ledger.ledger import Ledger, Settle

BATCH = 5_000
"""Lines in one transaction, which other processes' flushes wait for."""

PATIENCE = 20.0
"""Seconds to wait for a lock in the ledger: no request waits here."""

AHEAD_SECONDS = 300
"""Seconds by which the clock of a gateway may be ahead of this one."""

SHARED_SECONDS = 5.0
"""Seconds until a file is looked at again that another process counts."""

OPEN_SECONDS = 600.0
"""Seconds for which a file stays open that has been moved away, after it last grew: servers write to it for a while."""

RECENT_SECONDS = 3600.0
"""Seconds after which a file that no longer grows is closed, and opened again when it does."""


class Tail:
    """
    Follows log files. For one thread.

    Args:
        database: Database of the ledger.
        patterns: Paths of log files, or patterns for them.
        counter: Counts lines.
        formats: Formats that the lines have; None to find out.
        source: Name of the host or gateway.
        since: Unix second before which no line counts.
        follows: Whether files are still being written: a copy that has just appeared may not be complete yet.
        problems: Where problems are reported.
        clock: Function that returns Unix seconds.
        stops: Function that returns whether to stop after the next commit.
        says: Function that is told what happens, for people.
        settle: Function that spends what usage is worth, in the transaction that adds it; None without wallets.
    """

    def __init__(
        self,
        database: Database,
        patterns: Sequence[str],
        *,
        counter: LineCounter,
        formats: Sequence[Format] | None,
        source: str,
        since: int,
        follows: bool,
        problems: Problems,
        clock: Callable[[], float],
        stops: Callable[[], bool],
        says: Callable[[str], object],
        settle: Settle | None = None,
    ) -> None:
        self._database = database
        self._patterns = patterns
        self._counter = counter
        self._formats = formats
        self._source = source
        self._since = since
        self._follows = follows
        self._problems = problems
        self._clock = clock
        self._stops = stops
        self._says = says
        self._settle = settle
        self._ledger = Ledger(database, clock=clock)
        self._positions = Positions(database, source)
        self._edges = PeriodEdges(counter.windows, clock=clock)
        self._files: dict[str, File] = {}
        self._recognition = Recognition(source, clock=clock)
        self._finished: dict[tuple[str, str], str] = {}
        self._appeared: dict[str, str] = {}
        self._is_stale = True
        self._most = BATCH
        self._next_seen = time.monotonic()
        database.patience = max(database.patience, PATIENCE)

    @property
    def is_shared(self) -> bool:
        """Whether another process has counted lines of a file that this one was about to count."""
        return any(file.waits_until > time.monotonic() for file in self._files.values())

    @property
    def has_unreadable(self) -> bool:
        """Whether there were lines that could not be counted, or files that could not be read."""
        return bool(
            {"log_line_unreadable", "log_line_outdated", "log_file_unreadable"} & self._problems.as_dict().keys()
        )

    def poll(self) -> int:
        """
        Count what is new, and return the number of lines.

        Raises:
            LedgerError: The ledger failed. What is not in it is read again.
        """
        try:
            if self._is_stale:
                self._reload()
            self._look()
            if time.monotonic() >= self._next_seen:
                self._next_seen = time.monotonic() + SEEN_SECONDS
                present = {file.position.id for file in self._files.values()} | set(self._finished.values())
                markers = {each.id for each in self._recognition.known if not each.inode}
                self._positions.note_seen(present | markers, self._now())
            truncated = len(self._recognition.truncated)
            lines = self._read_all()
            if len(self._recognition.truncated) > truncated:
                self._look()
                lines += self._read_all()
        except LedgerError:
            self._is_stale = True
            raise
        return lines

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _read_all(self) -> int:
        oldest_first = sorted(self._files.values(), key=lambda file: file.found.modified)
        return sum([self._read(file) for file in oldest_first if not self._stops()])

    def _now(self) -> int:
        return int(self._clock())

    def _reload(self) -> None:
        """Read the positions anew: another process has moved them, or it is not certain whether a commit succeeded."""
        self._recognition.known = self._positions.read()
        by_id = {each.id: each for each in self._recognition.known}
        for inode, file in list(self._files.items()):
            position = by_id.get(file.position.id)
            if position is None:
                self._drop(inode)
            else:
                file.position, file.looked_at = position, ""
        self._is_stale = False
        families = [stored(os.path.abspath(each)) for each in self._patterns if not is_pattern(each)]  # noqa: PTH100
        if any(self._recognition.begun(family) is None for family in families):
            self._recognition.known = self._positions.add(lambda known: self._recognition.beginnings(known, families))

    def _look(self) -> None:
        """Find the files, and what has become of those that are followed."""
        found = inodes(each for pattern in self._patterns for each in find(pattern))
        for inode, file in list(self._files.items()):
            there = found.pop(inode, None)
            if there is not None:
                file.found, file.gone_at = there, None
            else:
                self._note_gone(inode, file)
        self._appeared = {inode: stamp for inode, stamp in self._appeared.items() if inode in found}
        self._recognition.passed_over &= found.keys()
        finished = {(each.inode, each.finished): each.id for each in self._recognition.known if each.finished}
        self._finished = {
            key: finished[key] for each in found.values() if (key := (each.inode, each.stamp)) in finished
        }
        inodes_known = {each.inode for each in self._recognition.known}
        unknown: list[Unknown] = []
        for each in found.values():
            if (each.inode, each.stamp) in self._finished or each.inode in self._recognition.passed_over:
                continue
            if self._follows and each.is_rotated and each.inode not in inodes_known:
                before, self._appeared[each.inode] = self._appeared.get(each.inode), each.stamp
                if before != each.stamp:
                    continue  # it may be a copy that is not complete yet
            opened = self._opened(each)
            if opened is not None:
                unknown.append(opened)
        if unknown:
            self._meet(unknown)

    def _note_gone(self, inode: str, file: File) -> None:
        """Close a file that is no longer there, once nobody writes to it any more."""
        now = time.monotonic()
        if not file.is_open:
            self._drop(inode)
        elif file.gone_at is None or not file.looked_at:
            file.gone_at = now
        elif now > file.gone_at + OPEN_SECONDS:
            self._drop(inode)

    def _drop(self, inode: str) -> None:
        self._files.pop(inode).close()

    def _opened(self, found: Found) -> Unknown | None:
        try:
            content = Content(found)
        except OSError as error:
            self._note_file(found, f"cannot be opened: {error.strerror or error}")
            return None
        try:
            return Unknown(found, content, content.head())
        except (OSError, BrokenFileError) as error:
            content.close()
            self._note_file(found, f"cannot be read: {error}")
            return None

    def _note_file(self, found: Found, what: str) -> None:
        self._problems.note(
            "log_file_unreadable",
            f"the log {found.path} {what}; it is tried again when it has changed. Let the user of meterkit tail read "
            "it, and check that it is not damaged",
            level=logging.ERROR,
        )

    def _meet(self, unknown: list[Unknown]) -> None:
        """Find out which content files have that are new to this process."""
        files: list[File] = []

        def choose(known: list[Position]) -> list[Position]:
            files[:], new = self._recognition.assign(unknown, known, self._files)
            return new

        try:
            choose(self._recognition.known)  # compressed files are read now, and not while others wait for the ledger
            self._recognition.known = self._positions.add(choose)
        except BaseException:
            for each in unknown:
                each.content.close()
            raise
        kept = {file.found.inode for file in files}
        for each in unknown:
            if each.found.inode not in kept:
                each.content.close()
        for file in files:
            self._files[file.found.inode] = file

    def _read(self, file: File) -> int:
        """Count what is new in *file*, and return the number of lines."""
        lines = 0
        if file.waits_until > time.monotonic() or (
            not file.is_open and file.looked_at == file.found.stamp and not self._is_unfinished(file)
        ):
            return 0
        try:
            content = file.content()
            status = content.status()
            stamp = f"{status.st_size}:{status.st_mtime_ns}"
            while stamp != file.looked_at and not self._stops():
                if not file.is_intact():
                    self._recognition.truncated.add((file.found.inode, file.position.id))
                    self._drop(file.found.inode)
                    return lines
                piece = content.lines(file.position.read_bytes, most=self._most)
                if piece is None:
                    self._reach_end(file, stamp)
                    break
                head = content.head() if file.position.head_bytes < HEAD else b""
                if not file.is_intact():
                    continue  # it was truncated while it was read
                if not self._count(file, piece, head, stamp):
                    break
                lines += len(piece.lines) + piece.overlong
                file.gone_at = None  # somebody still writes to it
                if not content.is_compressed and file.position.read_bytes >= status.st_size:
                    break  # what was written meanwhile has its turn after the other files
        except FileNotFoundError:
            file.close()  # it has just been moved away
        except (OSError, BrokenFileError) as error:
            self._note_file(file.found, f"cannot be read: {error}")
            file.looked_at = file.found.stamp
            file.close()
        return lines

    def _is_unfinished(self, file: File) -> bool:
        return file.found.is_compressed and not file.position.finished

    def _reach_end(self, file: File, stamp: str) -> None:
        file.looked_at = stamp
        if file.found.is_compressed:
            position = moved(file.position, finished=stamp, inode=file.found.inode, path=stored(str(file.found.path)))
            if self._commit(file, position, []):
                self._recognition.known.append(position)  # the latest of an id counts
                self._drop(file.found.inode)
        elif time.time() - file.found.modified / 1e9 > RECENT_SECONDS and file.gone_at is None:
            file.close()

    def _count(self, file: File, piece: Piece, head: bytes, stamp: str) -> bool:
        """Count the lines of *piece*; return whether to go on with the file."""
        cleaned = [clean(line) for line in piece.lines]
        if file.formats is None:
            file.formats = self._formats or self._recognized(file, [line for line in cleaned if line])
            if file.formats is None and any(cleaned):
                file.looked_at = stamp
                return False
        position = file.position
        read, errors = self._parsed(file, piece, cleaned)
        now = self._now()
        self._edges.read(self._database, since=min([line.at for line in read], default=None))
        for line in read:
            self._counter.add(line, min(int(line.at), now))
        unreadable = piece.overlong + sum(kind == "unreadable" for kind, _ in errors)
        too_old = sum(kind == "outdated" for kind, _ in errors)
        after = moved(
            position,
            inode=file.found.inode,
            path=stored(str(file.found.path)),
            head_bytes=len(head) or position.head_bytes,
            head=digest(head) if head else position.head,
            tail_bytes=len(piece.tail),
            tail=digest(piece.tail),
            read_bytes=position.read_bytes + piece.size,
            lines=position.lines + len(piece.lines) + piece.overlong,
            unreadable=position.unreadable + unreadable,
            outdated=position.outdated + too_old,
            error=errors[-1][1] if errors else position.error,
            error_at=now if errors else position.error_at,
            seen_at=now,
        )
        counts = self._counter.take()
        try:
            is_counted = self._commit(file, after, counts)
        except UnstorableError as error:
            if len(piece.lines) > 1:
                self._most = len(piece.lines) // 2
                return True  # again, with fewer lines, until it is clear which of them it is
            why = self._note_line(file, position.read_bytes, f"the ledger cannot store what it counts: {error}")
            after = moved(after, unreadable=after.unreadable + 1, error=why, error_at=now)
            is_counted = self._commit(file, after, [])
        if is_counted:
            self._most = min(BATCH, 2 * self._most)
        return is_counted

    def _recognized(self, file: File, lines: list[bytes]) -> list[Format] | None:
        found = recognized(lines)
        if found is None and not lines:
            return None
        if found is None:
            self._note_file(file.found, "has no format that is known: name it with --format")
            return None
        self._says(f"{file.found.path} has the format {found.name}.")
        return [found]

    def _parsed(self, file: File, piece: Piece, cleaned: list[bytes]) -> tuple[list[Line], list[tuple[str, str]]]:
        """Return the lines that count, and why others do not: ``unreadable`` or ``outdated``, and a sentence."""
        now, since = self._clock(), max(self._since, file.position.since)
        read: list[Line] = []
        errors: list[tuple[str, str]] = []
        at = file.position.read_bytes
        formats = file.formats or ()
        if piece.overlong:
            errors.append(("overlong", self._note_line(file, at, "it is longer than any line of a log")))
        for raw, text in zip(piece.lines, cleaned, strict=True):
            if text:
                try:
                    line = read_by_any(formats, text)
                except UnreadableError as error:
                    errors.append(("unreadable", self._note_line(file, at, str(error))))
                else:
                    if line.at >= since:
                        why = outdated(line.at, now)
                        if why is None:
                            read.append(line)
                        else:
                            errors.append(("outdated", self._note_line(file, at, why, reason="log_line_outdated")))
            at += len(raw) + 1
        return read, errors

    def _note_line(self, file: File, at: int, why: str, *, reason: str = "log_line_unreadable") -> str:
        where = f"the line at byte {at:,}: {why}"
        self._problems.note(
            reason,
            f"{file.found.path} has a line that does not count, {where}. See meterkit tail --check",
            level=logging.ERROR,
        )
        return where

    def _commit(self, file: File, after: Position, counts: list[Counted]) -> bool:
        """
        Add *counts*, and move the position, in one transaction; return whether no other process had moved it.

        Raises:
            LedgerError: Nothing was added, or the outcome of the commit is unknown; read the positions again.
        """
        before = file.position

        def move(connection: sa.Connection, generation: str) -> None:
            # The position remembers what was counted, so nothing else has to.
            connection.execute(sa.delete(schema.folds).where(schema.folds.c.generation == generation))
            advance(connection, before, after)

        try:
            self._ledger.fold(uuid.uuid4().hex, counts, folded=move, settle=self._settle)
        except MovedError:
            self._is_stale = True
            file.waits_until = time.monotonic() + SHARED_SECONDS
            self._problems.note(
                "log_shared",
                f"another meterkit tail counts {file.found.path}, so this one only waits for it to end. If that is "
                "another host with a file of the same name, give each a --source of its own",
            )
            return False
        file.position = after
        return True


def outdated(at: float, now: float) -> str | None:
    """Return why a line of the Unix second *at* does not count *now*; None if it does."""
    if at > now + AHEAD_SECONDS:
        return f"its time is {at - now:,.0f} seconds in the future: set the clocks of the gateway and this host"
    if at < now - OLDEST_SECONDS:
        return "its time is more than 35 days ago, and Stripe does not accept usage that old"
    return None
