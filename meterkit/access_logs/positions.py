"""
How far each log file has been counted.

A position moves in the transaction that adds what was counted up to it, and only from where it was before: so whoever
counts a line that another process has counted meanwhile finds its position moved, and adds nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database

KEPT_SECONDS = 40 * 24 * 3600
"""Seconds for which the position of a file is kept that nobody has seen: then all its lines are too old for Stripe."""

SEEN_SECONDS = 24 * 3600
"""Interval at which it is noted that a file is still there."""

SHOWN_SECONDS = 7 * 24 * 3600
"""How long it is said that lines of a file could not be counted."""

_LOCK = 0x6C6F6773  # "logs": key of an advisory lock that no other program takes


class MovedError(Exception):
    """Another process has counted these lines; nothing was added."""


@dataclass(slots=True)
class Position:
    """
    How far the content of a file has been counted.

    Attributes:
        id: Id of the content, whatever the file is called.
        source: Name of the host or gateway, if several use the same ledger and have different files of the same name.
        family: Path of the log that it is, or was rotated from.
        path: Path at which it was last found.
        inode: Device and inode at which it was last found; empty for the beginning of a family.
        head_bytes: Number of bytes at its beginning that `head` is the fingerprint of.
        head: Fingerprint of its beginning.
        tail_bytes: Number of bytes before `read_bytes` that `tail` is the fingerprint of.
        tail: Fingerprint of what is before the position.
        read_bytes: Bytes of its content that have been counted.
        since: Unix second before which its lines do not count; 0 if all do.
        lines: Number of lines up to there.
        unreadable: Number of those that could not be read.
        outdated: Number of those whose time is in the future, or more than 35 days ago.
        error: Why the last line could not be counted, and where it is; empty if all could.
        error_at: Unix second at which that happened; 0 if it did not.
        created_at: Unix second at which it was first seen.
        seen_at: Unix second at which it was last seen, within a day.
        finished: Size and time of the compressed file that has been counted to its end; empty if none has.
    """

    id: str
    source: str
    family: str
    path: str
    inode: str
    head_bytes: int
    head: str
    tail_bytes: int
    tail: str
    read_bytes: int
    since: int
    lines: int
    unreadable: int
    outdated: int
    error: str
    error_at: int
    created_at: int
    seen_at: int
    finished: str


def new_position(
    source: str, family: str, path: str, inode: str, *, now: int, head_bytes: int = 0, head: str = "", since: int = 0
) -> Position:
    """Return the position of content of which nothing has been counted."""
    about = (uuid.uuid4().hex, source, family, path, inode, head_bytes, head)
    return Position(*about, 0, "", 0, since, 0, 0, 0, "", 0, now, now, "")


class Positions:
    """
    The positions of the log files of a source.

    Args:
        database: Database of the ledger.
        source: Name of the source.
    """

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    def read(self) -> list[Position]:
        """
        Return all positions.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        with self._database.snapshot() as connection:
            return _read(connection, self._source)

    def add(self, choose: Callable[[list[Position]], list[Position]]) -> list[Position]:
        """
        Add positions, while no other process does.

        Args:
            choose: Function that returns the new ones, given all that there are.

        Returns:
            All that there are then.

        Raises:
            LedgerError: The ledger failed; perhaps they were added all the same.
        """
        with self._database.transaction() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            known = _read(connection, self._source)
            new = choose(known)
            for each in new:
                connection.execute(sa.insert(schema.access_logs).values(**_row(each)))
        return [*known, *new]

    def note_seen(self, ids: Iterable[str], now: int) -> None:
        """
        Note that files are still there, and forget those that nobody has seen for long.

        Raises:
            LedgerError: The ledger failed.
        """
        table, seen = schema.access_logs, list(ids)
        with self._database.transaction() as connection:
            for start in range(0, len(seen), BATCH):
                some = table.c.id.in_(seen[start : start + BATCH])
                connection.execute(sa.update(table).where(some).values(seen_at=now))
            connection.execute(sa.delete(table).where(table.c.seen_at < now - KEPT_SECONDS))


def advance(connection: sa.Connection, before: Position, after: Position) -> None:
    """
    Move a position in this transaction.

    Raises:
        MovedError: It is not where it was *before*.
    """
    table = schema.access_logs
    mine = sa.and_(table.c.id == before.id, table.c.read_bytes == before.read_bytes)
    values = {name: value for name, value in _row(after).items() if name not in ("id", "source")}
    if connection.execute(sa.update(table).where(mine).values(**values)).rowcount != 1:
        raise MovedError


def moved(position: Position, **changes: Any) -> Position:
    """Return *position* with *changes*."""
    return replace(position, **changes)


def _read(connection: sa.Connection, source: str) -> list[Position]:
    table = schema.access_logs
    query = sa.select(table).where(table.c.source == source).order_by(table.c.created_at, table.c.id)
    return [Position(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - its public name


def _row(position: Position) -> dict[str, Any]:
    return {name: getattr(position, name) for name in Position.__slots__}


def health_of_logs(database: Database, now: int) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return what is known of the log files that were counted in the last days, and sentences about what needs attention.

    Args:
        database: Database of the ledger.
        now: Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.access_logs
    query = sa.select(table).where(table.c.inode != "", table.c.seen_at > now - SHOWN_SECONDS)
    with database.snapshot() as connection:
        rows = list(connection.execute(query.order_by(table.c.family, table.c.created_at)))
    shown = [
        {
            "path": row.path,
            "source": row.source or None,
            "read_bytes": row.read_bytes,
            "lines": row.lines,
            "unreadable": row.unreadable,
            "outdated": row.outdated,
            "error": row.error or None,
        }
        for row in rows
    ]
    attention = [
        f"{row.unreadable + row.outdated:,} of {row.lines:,} lines of {row.path} could not be counted, lately "
        f"{row.error}. Try meterkit tail --check with that file"
        for row in rows
        if row.error and row.error_at > now - SHOWN_SECONDS
    ]
    return shown, attention
