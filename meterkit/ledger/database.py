"""
Connections and transactions, for SQLite and PostgreSQL.

Imported by the background thread or by a call that needs the ledger, never on the request path.
A connection is used for one transaction, in one thread, and no transaction stays open during an HTTP call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from meterkit.core import threads
from meterkit.core.filesystem import identity_of, make_private_directory, make_private_file, network_type
from meterkit.errors import LedgerError
from meterkit.ledger.payers import CUSTOMER_IDS
from meterkit.ledger.schema import VERSION
from meterkit.ledger.schema.migrations import prepare, script, version_of
from meterkit.ledger.schema.quantities import register
from meterkit.ledger.schema.stripe_mode import ACCOUNT, LIVE

if TYPE_CHECKING:  # it uses what uses this
    from meterkit.ledger.rating.rows import Raters

PATIENCE = 5.0
"""Seconds to wait for a connection, and for a lock on rows or on the SQLite file."""

HURRY = 1.0
"""Seconds to wait instead while the process is shutting down, because it cannot end before."""

STATEMENT_SECONDS = 60
"""PostgreSQL: seconds after which a statement is cancelled; a flush of many customers takes one."""

_KEEPALIVE = {
    # libpq: detect a dead server after about ten seconds instead of two hours.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A pooler such as PgBouncer shares a connection between clients, which would mix up prepared statements.
    "prepare_threshold": None,
}


class UnstorableError(LedgerError):
    """A value does not fit into the ledger; nothing was written, and a repetition would fail again."""


class Database:
    """
    The database of the ledger.

    Args:
        url: SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://...``.
        customer_ids: Whether a company id that is a Stripe customer id pays for itself; see `meterkit.ledger.payers`.
        live: Whether the Stripe key is live, None if that is unknown; see `meterkit.ledger.schema.stripe_mode`.
        account: Connected account that the kit bills for; None for the key's own.
        raters: Tables of the kit's ``Price.by(...)``: whoever writes usage rates it; see `meterkit.ledger.rating`.

    Attributes:
        patience: Seconds to wait for a connection, and for a lock.
        raters: The same.

    Raises:
        LedgerError: *url* is not a database URL.
    """

    def __init__(
        self,
        url: str,
        *,
        customer_ids: bool = False,
        live: bool | None = None,
        account: str | None = None,
        raters: Raters | None = None,
    ) -> None:
        self._url = _parsed(url)
        self.raters: Raters = raters or {}
        self._options = {CUSTOMER_IDS: customer_ids, LIVE: live, ACCOUNT: account}
        self._lock = threads.rlock()
        self._engine: sa.Engine | None = None
        self.patience = PATIENCE

    def __str__(self) -> str:
        secrets = {name: "***" for name in self._url.query if "pass" in name or "key" in name}
        return self._url.update_query_dict(secrets).render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """
        Open a connection and a transaction, which is committed at the end of the block.

        Raises:
            LedgerError: The database cannot be reached, or reports an error. Nothing was written, or, if the
                connection broke during the commit, possibly everything.
            UnstorableError: The database cannot store a value. Nothing was written.
        """
        with self._ledger_errors(), self._open_engine().begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """
        Open a connection for reading: it sees one consistent state, and does not block writers.

        Raises:
            LedgerError: The database cannot be read.
        """
        reading = {"isolation_level": "REPEATABLE READ"} if self._is_postgresql else {"only_reads": True}
        with self._ledger_errors(), self._open_engine().execution_options(**reading).begin() as connection:
            yield connection

    def lacks_tables(self) -> bool:
        """
        Return whether there are tables to make or upgrade, which the role may not do. Makes none.

        Raises:
            LedgerError: The database cannot be read.
        """
        with self._unprepared() as connection:
            if version_of(connection) == VERSION or not self._is_postgresql:
                return False
            return not connection.scalar(sa.text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))

    def script(self) -> list[str]:
        """
        Return the SQL statements that make or upgrade the tables; none if there is nothing to do. Makes none.

        Raises:
            LedgerError: The database cannot be read.
        """
        with self._unprepared() as connection:
            return script(connection, str(self))

    @contextmanager
    def _unprepared(self) -> Iterator[sa.Connection]:
        """Open a connection to the database as it is; to an empty one, if there is no SQLite file yet."""
        if self._is_postgresql:
            engine = self._postgresql()
        elif Path(str(self._url.database)).exists():
            engine = self._sqlite()
        else:
            engine = sa.create_engine("sqlite://")
        with self._ledger_errors(), engine.execution_options(only_reads=True).begin() as connection:
            yield connection

    def hurry(self) -> None:
        """Wait less from now on, because the process is shutting down."""
        self.patience = HURRY

    @property
    def _is_postgresql(self) -> bool:
        return self._url.get_backend_name() == "postgresql"

    @contextmanager
    def _ledger_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, OverflowError, UnicodeEncodeError) as error:
            if _is_unstorable(error):
                raise UnstorableError(f"the ledger {self} cannot store a value: {_first_line(error)}") from error
            raise LedgerError(f"the ledger {self} failed: {_first_line(error)}{self._cure(error)}") from error

    def _open_engine(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                engine = self._postgresql() if self._is_postgresql else self._sqlite()
                with engine.begin() as connection:
                    home = None if self._is_postgresql else identity_of(Path(str(self._url.database)))
                    prepare(connection, str(self), home=home)
                # Not execution_options(): SQLAlchemy 2.0 allows no isolation level on an engine that this returns.
                engine.update_execution_options(**self._options)
                self._engine = engine
            return self._engine

    def _postgresql(self) -> sa.Engine:
        try:
            engine = sa.create_engine(self._url, poolclass=sa.NullPool, isolation_level="READ COMMITTED")
        except ImportError as error:
            raise LedgerError(
                f"the ledger {self} needs a PostgreSQL driver: pip install 'meterkit[postgres]'"
            ) from error

        def before_connect(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            given = {**_KEEPALIVE, "connect_timeout": max(2, int(self.patience)), **options}  # under 2 counts as 2
            options.update(given)

        def after_begin(connection: sa.Connection) -> None:
            # Not as a connection option: poolers reject those.
            limits = {"lock_timeout": self.patience, "statement_timeout": STATEMENT_SECONDS}
            connection.exec_driver_sql("; ".join(f"SET LOCAL {name} = '{each}s'" for name, each in limits.items()))

        sa.event.listen(engine, "do_connect", before_connect)
        sa.event.listen(engine, "begin", after_begin)
        return engine

    def _sqlite(self) -> sa.Engine:
        path = Path(str(self._url.database))
        network = network_type(path)
        if network is not None:
            raise LedgerError(
                f"the ledger {self} is on a network file system ({network}), whose locks do not hold between hosts: "
                "two hosts could corrupt it, or bill usage twice. Set ledger= to a file on a local disk, or, for "
                "several hosts, to PostgreSQL"
            )
        make_private_directory(path.parent)
        make_private_file(path)
        engine = sa.create_engine(self._url, poolclass=sa.NullPool)

        def before_connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
            # Connecting must not create a file where one was deleted: it would not know what has been reported.
            arguments[0] = f"{path.absolute().as_uri()}?mode=rw"
            options.update(timeout=self.patience, uri=True)

        sa.event.listen(engine, "do_connect", before_connect)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _has_vanished(self) -> bool:
        """Return whether the SQLite file has been deleted or moved since it was opened."""
        if self._engine is None or self._is_postgresql:
            return False
        try:
            return not Path(str(self._url.database)).exists()
        except OSError:  # its directory cannot be searched, which the error itself says
            return False

    def _cure(self, error: Exception) -> str:
        # SQLite says "readonly" if the file disappears during a write, and "unable to open" if it was gone before.
        text = str(error) + (_VANISHED if self._has_vanished() else "")
        return next((f". {cure}; usage stays in the journal meanwhile" for sign, cure in _CURES if sign in text), "")


_VANISHED = " no longer exists"
_START_OVER = "restart the processes to start a new, empty one"
_MORE_CONNECTIONS = (
    "Raise max_connections on the server, or run fewer processes; each needs one connection for a moment"
)

_CURES = (
    (_VANISHED, f"The file no longer exists: restore it from a backup, or {_START_OVER}"),
    ("no such table", f"Its tables are missing: restore it from a backup, or remove it and {_START_OVER}"),
    ("malformed", f"The file is damaged: restore it from a backup, or move it away and {_START_OVER}"),
    (
        "not a database",
        "The file is damaged or belongs to another program: restore it from a backup, or set ledger= to another file",
    ),
    ("is locked", "Another process keeps it locked: end whatever holds a transaction open"),
    ("readonly", "Make the file and its directory writable for this user"),
    (
        "read-only",
        "With SQLite, make the file and its directory writable; with PostgreSQL, point ledger= at the primary",
    ),
    ("unable to open", "Make its directory writable for this user, or choose another place with ledger= or data_dir="),
    ("Permission denied", "Make its directory writable for this user, or choose another with ledger= or data_dir="),
    (
        "permission denied for schema",
        (
            "The tables are missing, and this role may not create them: run meterkit tables as a role that may, or "
            "execute what meterkit tables --sql prints; then grant this role SELECT, INSERT, UPDATE and DELETE on them"
        ),
    ),
    (
        "must be owner of table",
        "This version of meterkit changes the tables: run meterkit tables as the role that owns them",
    ),
    (
        "permission denied for",
        "Grant this role SELECT, INSERT, UPDATE and DELETE on all tables of meterkit, and USAGE on their sequences",
    ),
    ("is full", "Free some space on its disk"),
    ("No space left", "Free some space on its disk"),
    ("disk I/O error", "Check that its disk is not full or failing, and that the file is writable"),
    ("too many clients", _MORE_CONNECTIONS),
    ("remaining connection slots", _MORE_CONNECTIONS),
    ("password authentication failed", "Correct the user or the password in ledger="),
    ("pg_hba.conf", "Allow this host, user and database in the server's pg_hba.conf"),
    ('FATAL:  database "', "Check that this database exists on the server, or correct its name in ledger="),
    ("resolve host", "Check the host name in ledger=, and that this machine can resolve it"),
    ("not known", "Check the host name in ledger=, and that this machine can resolve it"),
    ("connection failed", "Check that the server is running, and the host and port in ledger="),
    ("connection refused", "Check that the server is running, and the host and port in ledger="),
)
"""Part of a database error, and the cure for it. The first match counts."""


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        # Nothing of it is shown: where it cannot be parsed, the password may be anywhere.
        raise LedgerError(
            "ledger= is not a valid database URL: check the port, and write characters such as / and : in the password "
            "as %2F and %3A"
        ) from None


def agreed_time(connection: sa.Connection, clock: Callable[[], float]) -> int:
    """Return Unix seconds by the clock that all processes share: PostgreSQL's, or *clock* on SQLite's only host."""
    if connection.dialect.name != "postgresql":
        return int(clock())
    found = connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::bigint"))
    assert found is not None
    return int(found)


def put(table: sa.Table, connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Insert *row*, or overwrite the existing row with the same key."""
    keys = [column.name for column in table.primary_key]
    statement = insert_into(table, connection).values(**row)
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


def insert_once(table: sa.Table, connection: sa.Connection, row: Mapping[str, Any]) -> bool:
    """
    Insert *row* unless its key exists.

    A single statement, so it waits for an earlier transaction whose commit was sent but not acknowledged.

    Returns:
        True if the row is new.
    """
    return wrote(connection, insert_into(table, connection).values(**row).on_conflict_do_nothing())


def insert_new(table: sa.Table, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """
    Insert those of *rows* whose key, of one column, does not exist; return these keys.

    Waits for earlier transactions, as `insert_once` does. Two transactions that both insert several rows must do so in
    the same order.
    """
    (key,) = table.primary_key
    if connection.dialect.name != "postgresql":  # RETURNING needs SQLite 3.35
        return {row[key.name] for row in rows if insert_once(table, connection, row)}
    statement = insert_into(table, connection).values(list(rows)).on_conflict_do_nothing()
    return set(connection.scalars(statement.returning(key)))


def wrote(connection: sa.Connection, statement: Any) -> bool:
    """Execute an INSERT, and return whether it wrote a row. SQLAlchemy keeps that number only on request."""
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1


def insert_into(table: sa.Table, connection: sa.Connection) -> Any:
    """Return an INSERT of the connection's dialect, which can handle conflicts."""
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` issues BEGIN
    cursor = connection.cursor()
    # A rollback journal, not WAL: SQLite 3.7.0 to 3.51.2 can corrupt a WAL database during concurrent commits and
    # checkpoints. FULL: the ledger must still know after a power cut what was reported to Stripe.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA trusted_schema=OFF")
    cursor.close()
    register(connection)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A deferred transaction that reads before it writes fails at once under contention, whatever the timeout.
    only_reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _is_unstorable(error: Exception) -> bool:
    """Return whether a value, and not the database, is the cause of *error*."""
    if isinstance(error, sa.exc.DBAPIError):
        # PostgreSQL, class 54: a limit is exceeded, such as the size of an index row.
        return isinstance(error, sa.exc.DataError) or str(getattr(error.orig, "sqlstate", None)).startswith("54")
    return isinstance(error, sa.exc.StatementError | OverflowError | UnicodeEncodeError)


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
