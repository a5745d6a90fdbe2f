"""
Connections and transactions, for SQLite and PostgreSQL.

Imported by the background thread or by a call that asks for the ledger, never on the request path.
A connection lives for one transaction, in one thread, and no transaction stays open across an HTTP call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from meterkit.core import threads
from meterkit.core.filesystem import network_type
from meterkit.errors import LedgerError
from meterkit.ledger.migrations import prepare

PATIENCE = 5.0
"""Seconds to wait for a connection, and for others that write the same rows, or to the same SQLite file."""

HURRY = 1.0
"""The same at the end of a process, which waits for it."""

STATEMENT_SECONDS = 60
"""PostgreSQL: after so long a statement of ours is given up; a flush of many customers takes a second."""

_KEEPALIVE = {
    # libpq's: a server that vanished without a word is noticed after some ten seconds, not after two hours.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A pooler such as PgBouncer hands one connection to many clients, which would mix up prepared statements.
    "prepare_threshold": None,
}


class Database:
    """
    Where the ledger is kept.

    Args:
        url: As SQLAlchemy takes it: ``sqlite:///path`` or ``postgresql+psycopg://...``.

    Attributes:
        patience: Seconds to wait for a connection, and for a lock.

    Raises:
        LedgerError: The URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._lock = threads.rlock()
        self._writing: sa.Engine | None = None
        self.patience = PATIENCE

    def __str__(self) -> str:
        secrets = {name: "***" for name in self._url.query if "pass" in name or "key" in name}
        return self._url.update_query_dict(secrets).render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """
        A connection in a transaction, which commits at the end of the block.

        Raises:
            LedgerError: The database cannot be reached, or refuses; nothing of the block was kept,
                or, if the connection broke during the commit, all of it.
        """
        with self._failing_as_ledger(), self._opened().begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """
        A connection for reading: all that it sees is of one moment, and it holds up nobody who writes.

        Raises:
            LedgerError: The database cannot be read.
        """
        reading = {"isolation_level": "REPEATABLE READ"} if self._is_postgresql else {"only_reads": True}
        with self._failing_as_ledger(), self._opened().execution_options(**reading).begin() as connection:
            yield connection

    def hurry(self) -> None:
        """The process ends, and waits for what is under way."""
        self.patience = HURRY

    @property
    def _is_postgresql(self) -> bool:
        return self._url.get_backend_name() == "postgresql"

    @contextmanager
    def _failing_as_ledger(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            raise LedgerError(f"the ledger {self} failed: {_first_line(error)}{self._cure(error)}") from error

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._writing is None:
                engine = self._postgresql() if self._is_postgresql else self._sqlite()
                with engine.begin() as connection:
                    prepare(connection, str(self))
                self._writing = engine
            return self._writing

    def _postgresql(self) -> sa.Engine:
        try:
            engine = sa.create_engine(self._url, poolclass=sa.NullPool, isolation_level="READ COMMITTED")
        except ImportError as error:
            raise LedgerError(f"the ledger {self} needs a driver: pip install 'meterkit[postgres]'") from error

        def before_connect(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            given = {**_KEEPALIVE, "connect_timeout": max(2, int(self.patience)), **options}  # under 2 counts as 2
            options.update(given)

        def after_begin(connection: sa.Connection) -> None:
            # Not as an option of the connection, which poolers refuse.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{self.patience}s'")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")

        sa.event.listen(engine, "do_connect", before_connect)
        sa.event.listen(engine, "begin", after_begin)
        return engine

    def _sqlite(self) -> sa.Engine:
        path = Path(str(self._url.database))
        network = network_type(path)
        if network is not None:
            raise LedgerError(
                f"the ledger {self} is on a network file system ({network}), whose locks do not keep hosts apart: two "
                "of them could destroy it, or bill twice. Set ledger= to a file on a local disk, or, for many hosts, "
                "to PostgreSQL"
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sa.create_engine(self._url, poolclass=sa.NullPool)

        def before_connect(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            options["timeout"] = self.patience
            if self._has_vanished():
                # To connect would make an empty one, in which what was reported before is not known.
                raise FileNotFoundError(f"{path} is gone")

        sa.event.listen(engine, "do_connect", before_connect)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _has_vanished(self) -> bool:
        """SQLite: the file was there, and is not any more."""
        return self._writing is not None and not self._is_postgresql and not Path(str(self._url.database)).exists()

    def _cure(self, error: Exception) -> str:
        text = str(error) + " is gone" * self._has_vanished()  # SQLite calls it readonly if it goes amid a write
        return next((f". {cure}; usage stays in the journal meanwhile" for sign, cure in _CURES if sign in text), "")


_CURES = (
    (" is gone", "Restore it from a backup, or restart the processes to begin another at zero"),
    ("no such table", "Restore it from a backup, or remove it and restart the processes to begin another at zero"),
    ("malformed", "It is damaged: restore it from a backup, or move it away and restart the processes"),
    ("not a database", "It is another program's, or damaged: set ledger= to another file, or restore it"),
    ("is locked", "Another process holds it for long: end what keeps a transaction open"),
    ("readonly", "Make the file and its directory writable for this user"),
    ("read-only", "Make it writable: for SQLite the file and its directory, for PostgreSQL ask the primary"),
    ("unable to open", "Make its directory writable for this user, or set ledger= or data_dir="),
    ("Permission denied", "Make its directory writable for this user, or set ledger= or data_dir="),
    ("is full", "Free space on its disk"),
    ("No space left", "Free space on its disk"),
    ("disk I/O error", "Look at its disk, and whether it is full"),
    ("too many clients", "Give the server more connections, or run fewer processes; each needs one for a moment"),
    ("remaining connection slots", "Give the server more connections, or run fewer processes"),
    ("password authentication failed", "Correct the password in ledger="),
    ("resolve host", "See that ledger= names the server's host as this machine knows it"),
    ("not known", "See that ledger= names the server's host as this machine knows it"),
    ("connection failed", "See that the server runs, and that ledger= says where"),
    ("connection refused", "See that the server runs, and that ledger= says where"),
)
"""What an error of the database says, and what helps. The first that fits counts."""


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        shown = url.rsplit("@", 1)[-1]  # what stands before it may hold a password
        raise LedgerError(f"ledger= cannot be read as a database's URL; it ends in {shown!r}") from None


def agreed_time(connection: sa.Connection, clock: Callable[[], float]) -> int:
    """Unix seconds by the one clock that all who share the database have: the server's, or that of SQLite's host."""
    if connection.dialect.name != "postgresql":
        return int(clock())
    found = connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::bigint"))
    assert found is not None
    return int(found)


def put(table: sa.Table, connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Insert *row*, or replace the one that has its key."""
    keys = [column.name for column in table.primary_key]
    statement = insert_into(table, connection).values(**row)
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


def insert_once(table: sa.Table, connection: sa.Connection, row: Mapping[str, Any]) -> bool:
    """
    Insert *row* unless its key exists.

    One statement, which waits for a transaction whose commit was sent and whose response was lost.

    Returns:
        True if the row is new.
    """
    return wrote(connection, insert_into(table, connection).values(**row).on_conflict_do_nothing())


def wrote(connection: sa.Connection, statement: Any) -> bool:
    """Execute an INSERT, and return whether it wrote a row; SQLAlchemy keeps that number only if asked."""
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1


def insert_into(table: sa.Table, connection: sa.Connection) -> Any:
    """An insert that knows what to do on a conflict, which each dialect says in its own way."""
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    # A rollback journal, not WAL: SQLite 3.7.0 to 3.51.2 can corrupt a WAL database under concurrent commit and
    # checkpoint. FULL: what was reported to Stripe must still be in the ledger after a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A deferred BEGIN that reads and then writes fails at once under contention, whatever the time-out.
    only_reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
