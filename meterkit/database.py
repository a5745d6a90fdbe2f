"""
Keep: the connection to the ledger's database, SQLite or PostgreSQL.

Imported by the background thread or by a call that asks for the ledger, never on the request path.
A connection lives for one transaction, in one thread, and no transaction stays open across an HTTP call.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from meterkit import schema
from meterkit.errors import LedgerError

BUSY_SECONDS = 5
"""How long to wait for another process that writes to the same SQLite file."""


class Database:
    """
    Where the ledger is kept.

    Args:
        url: As SQLAlchemy takes it: ``sqlite:///path`` or ``postgresql+psycopg://...``.

    Raises:
        LedgerError: The URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None
        self.ledger_id = ""

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """
        A connection in a transaction, which commits at the end of the block.

        Raises:
            LedgerError: The database cannot be reached, or refuses; nothing of the block was kept,
                or, if the connection broke during the commit, all of it.
        """
        try:
            with self._opened().begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise LedgerError(f"the ledger {self} failed: {_first_line(error)}") from error

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                engine = self._connect()
                with engine.begin() as connection:
                    self.ledger_id = _prepare(connection, str(self))
                self._engine = engine
            return self._engine

    def _connect(self) -> sa.Engine:
        if self._url.get_backend_name() != "sqlite":
            try:
                return sa.create_engine(self._url, poolclass=sa.NullPool)
            except ImportError as error:
                raise LedgerError(f"the ledger {self} needs a driver: pip install 'psycopg[binary]'") from error
        Path(str(self._url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sa.create_engine(self._url, poolclass=sa.NullPool, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
        return engine


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        shown = url.rsplit("@", 1)[-1]  # what stands before it may hold a password
        raise LedgerError(f"ledger= cannot be read as a database's URL; it ends in {shown!r}") from None


def add_to(
    table: sa.Table, connection: sa.Connection, rows: list[dict[str, Any]], *, add: str, latest: str = ""
) -> None:
    """
    Insert *rows*; where one exists, add to its column *add* and raise its column *latest*.

    The rows go in the order of their keys, so that two processes never wait for each other crosswise.
    """
    keys = [column.name for column in table.primary_key]
    statement: Any = _insert(connection)(table)
    values = {add: table.c[add] + statement.excluded[add]}
    if latest:
        old, new = table.c[latest], statement.excluded[latest]
        values[latest] = sa.case((new > old, new), else_=old)
    statement = statement.on_conflict_do_update(index_elements=keys, set_=values)
    connection.execute(statement, sorted(rows, key=lambda row: [row[key] for key in keys]))


def put(table: sa.Table, connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Insert *row*, or replace the one that has its key."""
    keys = [column.name for column in table.primary_key]
    statement = _insert(connection)(table).values(**row)
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


def _insert(connection: sa.Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    # A rollback journal, not WAL: SQLite 3.7.0 to 3.51.2 can corrupt a WAL database under concurrent commit and
    # checkpoint. FULL: what was reported to Stripe must still be in the ledger after a power cut.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    # A deferred BEGIN that reads and then writes fails at once under contention, whatever the time-out.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: sa.Connection, name: str) -> str:
    """Make the tables if need be, check the version, and answer the ledger's id."""
    if not sa.inspect(connection).has_table(schema.meta.name):
        schema.metadata.create_all(connection)
        connection.execute(
            sa.insert(schema.meta),
            [
                {"key": "schema_version", "value": str(schema.VERSION)},
                {"key": "ledger_id", "value": uuid.uuid4().hex},
            ],
        )
    found = {row.key: row.value for row in connection.execute(sa.select(schema.meta))}
    version = int(found["schema_version"])
    if version > schema.VERSION:
        raise LedgerError(
            f"the ledger {name} has schema version {version}, written by a newer meterkit; this one knows "
            f"{schema.VERSION}. Install that version again; usage stays in the journal meanwhile"
        )
    return str(found["ledger_id"])


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
