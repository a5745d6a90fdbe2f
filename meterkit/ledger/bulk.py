"""
Bulk upserts for both dialects.

For a hundred thousand rows, SQLAlchemy's own way takes three times as long as SQLite itself. PostgreSQL gets one array
per column, because a statement per row would cost a round trip each; and rows are written in the order of their keys,
so that two processes never deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from meterkit.core.threads import yielding
from meterkit.ledger.schema.quantities import Quantity, added, is_stored_as_it_is, stored

BATCH = 500
"""Ids or rows per statement: far below the number of parameters that either database allows."""


def add_to(
    table: sa.Table,
    connection: sa.Connection,
    rows: Iterable[tuple[Any, ...]],
    *,
    add: str | tuple[str, ...],
    latest: str = "",
) -> None:
    """Insert *rows*; if one exists, add to its columns *add* and raise its column *latest* to the higher value."""
    columns = (add,) if isinstance(add, str) else add
    _write(connection, _adding(table, connection.dialect.name, columns, latest), rows)


def overwrite(table: sa.Table, connection: sa.Connection, rows: Iterable[tuple[Any, ...]], *, column: str) -> None:
    """Set *column* of existing *rows*."""
    _write(connection, _overwriting(table, connection.dialect.name, column), rows)


def insert(table: sa.Table, connection: sa.Connection, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert *rows*, which have values for the columns *names* only, in the order of the table's columns."""
    _write(connection, _inserting(table, connection.dialect.name, tuple(names)), rows)


def select_by_key(
    table: sa.Table, connection: sa.Connection, names: Sequence[str], keys: Sequence[tuple[str, ...]]
) -> Iterator[sa.Row[Any]]:
    """
    Yield the rows of *table* with one of *keys*, which are different texts for the columns *names*.

    A condition for each would take SQLAlchemy longer than the database.
    """
    if connection.dialect.name == "postgresql":
        arrays = {name: [key[at] for key in yielding(keys)] for at, name in enumerate(names)}
        yield from connection.execute(_with_keys(table, tuple(names)), arrays)
        return
    for start in range(0, len(keys), _KEYS):
        portion = keys[start : start + _KEYS]
        row = f"({', '.join('?' * len(names))})"
        same = " AND ".join(f"{table.name}.{name} = column{at + 1}" for at, name in enumerate(names))
        # CROSS JOIN: SQLite then looks up each key in the index, and does not read the table
        values = ", ".join([row] * len(portion))
        text = f"SELECT {table.name}.* FROM (VALUES {values}) CROSS JOIN {table.name} ON {same}"  # noqa: S608 - names
        yield from connection.exec_driver_sql(text, tuple(value for key in portion for value in key))


_KEYS = 300
"""Keys per statement: three values of each are fewer than the 999 parameters that an old SQLite allows."""


@cache
def _with_keys(table: sa.Table, names: tuple[str, ...]) -> Any:
    arrays = [sa.cast(sa.bindparam(name, type_=sa.ARRAY(sa.Text())), sa.ARRAY(sa.Text())) for name in names]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    return sa.select(table).join(given, sa.and_(*(table.c[name] == given.c[name] for name in names)))


@dataclass(frozen=True, slots=True)
class _Statement:
    """
    A statement that writes rows. Made once: to put it together takes longer than to write a few rows.

    Attributes:
        names: Names of the columns that a row has values for.
        quantities: Positions of those with quantities.
        arrays: The statement for PostgreSQL, which takes an array per column; None on SQLite.
        text: The statement for SQLite's driver, which takes the rows; empty on PostgreSQL.
    """

    names: tuple[str, ...]
    quantities: tuple[int, ...]
    arrays: Any
    text: str


@cache
def _adding(table: sa.Table, dialect: str, add: tuple[str, ...], latest: str) -> _Statement:
    statement = _INSERT[dialect](table)
    values: dict[str, Any] = {name: added(table.c[name], statement.excluded[name]) for name in add}
    if latest:
        old, new = table.c[latest], statement.excluded[latest]
        values[latest] = sa.case((new > old, new), else_=old)
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    return _statement(table, dialect, statement, tuple(table.columns.keys()), add=add)


@cache
def _overwriting(table: sa.Table, dialect: str, column: str) -> _Statement:
    statement = _INSERT[dialect](table)
    # An upsert locks rows in the given order; a joining UPDATE would choose its own, and might deadlock.
    values = {column: statement.excluded[column]}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    return _statement(table, dialect, statement, tuple(table.columns.keys()))


@cache
def _inserting(table: sa.Table, dialect: str, names: tuple[str, ...]) -> _Statement:
    return _statement(table, dialect, _INSERT[dialect](table), names)


_INSERT: dict[str, Callable[[sa.Table], Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def _statement(
    table: sa.Table, dialect: str, statement: Any, names: tuple[str, ...], *, add: tuple[str, ...] = ()
) -> _Statement:
    quantities = tuple(at for at, name in enumerate(names) if isinstance(table.c[name].type, Quantity))
    if dialect == "postgresql":
        return _Statement(names, quantities, statement.from_select(names, _sorted_select(table, names, add)), "")
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"), column_keys=names)
    assert compiled.positiontup == list(names), "the names are not in the order of the table's columns"
    return _Statement(names, quantities, None, str(compiled))


def _write(connection: sa.Connection, statement: _Statement, rows: Iterable[tuple[Any, ...]]) -> None:
    given = list(rows)
    if statement.arrays is None:
        connection.exec_driver_sql(statement.text, _stored(given, statement.quantities))
    else:
        arrays = {name: [row[at] for row in yielding(given)] for at, name in enumerate(statement.names)}
        connection.execute(statement.arrays, arrays)


def _stored(rows: list[tuple[Any, ...]], quantities: Iterable[int]) -> list[tuple[Any, ...]]:
    """Return *rows* as SQLite stores them: the driver gets them past SQLAlchemy."""
    for at in quantities:
        if not is_stored_as_it_is([row[at] for row in rows]):
            rows = [(*row[:at], stored(row[at]), *row[at + 1 :]) for row in rows]
    return rows


def _sorted_select(table: sa.Table, names: tuple[str, ...], add: tuple[str, ...]) -> sa.Select[Any]:
    """Return the rows as a SELECT, merged and sorted by key: PostgreSQL must not touch a row twice in one statement."""
    found = [table.c[name].type for name in names]
    types = [sa.ARRAY(sa.Numeric() if isinstance(each, Quantity) else each) for each in found]
    arrays = [sa.cast(sa.bindparam(name, type_=each), each) for name, each in zip(names, types, strict=True)]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    keys = [column.name for column in table.primary_key if column.name in names]
    if not keys:
        return sa.select(*(given.c[name] for name in names))
    whole = {name: given.c[name] for name in keys}
    summed = {name: (sa.func.sum if name in add else sa.func.max)(given.c[name]) for name in names if name not in keys}
    columns = {name: sa.cast(each, table.c[name].type) for name, each in {**whole, **summed}.items()}
    is_text = {name: isinstance(table.c[name].type, sa.String) for name in keys}
    order = [sa.collate(given.c[name], "C") if is_text[name] else given.c[name] for name in keys]
    return sa.select(*(columns[name] for name in names)).group_by(*whole.values()).order_by(*order)
