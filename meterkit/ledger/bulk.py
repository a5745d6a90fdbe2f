"""
Bulk upserts for both dialects.

For a hundred thousand rows, SQLAlchemy's own way takes three times as long as SQLite itself. PostgreSQL gets one array
per column, because a statement per row would cost a round trip each; and rows are written in the order of their keys,
so that two processes never deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from meterkit.core.threads import yielding
from meterkit.ledger.database import insert_into
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
    statement = insert_into(table, connection)
    columns = (add,) if isinstance(add, str) else add
    values: dict[str, Any] = {name: added(table.c[name], statement.excluded[name]) for name in columns}
    if latest:
        old, new = table.c[latest], statement.excluded[latest]
        values[latest] = sa.case((new > old, new), else_=old)
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    _write(table, connection, statement, table.columns.keys(), rows, add=columns)


def overwrite(table: sa.Table, connection: sa.Connection, rows: Iterable[tuple[Any, ...]], *, column: str) -> None:
    """Set *column* of existing *rows*."""
    statement = insert_into(table, connection)
    # An upsert locks rows in the given order; a joining UPDATE would choose its own, and might deadlock.
    values = {column: statement.excluded[column]}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    _write(table, connection, statement, table.columns.keys(), rows)


def insert(table: sa.Table, connection: sa.Connection, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert *rows*, which have values for the columns *names* only, in the order of the table's columns."""
    _write(table, connection, insert_into(table, connection), names, rows)


def _write(
    table: sa.Table,
    connection: sa.Connection,
    statement: Any,
    names: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    *,
    add: tuple[str, ...] = (),
) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(statement.from_select(names, _sorted_select(table, names, list(rows), add)))
    else:
        compiled = statement.compile(dialect=connection.dialect, column_keys=names)
        assert compiled.positiontup == list(names), "the names are not in the order of the table's columns"
        connection.exec_driver_sql(str(compiled), _stored(table, names, list(rows)))


def _stored(table: sa.Table, names: Sequence[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return *rows* as SQLite stores them: the driver gets them past SQLAlchemy."""
    for at in [at for at, name in enumerate(names) if isinstance(table.c[name].type, Quantity)]:
        if not is_stored_as_it_is([row[at] for row in rows]):
            rows = [(*row[:at], stored(row[at]), *row[at + 1 :]) for row in rows]
    return rows


def _sorted_select(
    table: sa.Table, names: Sequence[str], rows: list[tuple[Any, ...]], add: tuple[str, ...]
) -> sa.Select[Any]:
    """Return *rows* as a SELECT, merged and sorted by key: PostgreSQL must not touch a row twice in one statement."""
    found = [table.c[name].type for name in names]
    types = [sa.ARRAY(sa.Numeric() if isinstance(each, Quantity) else each) for each in found]
    arrays = [sa.cast([row[at] for row in yielding(rows)], each) for at, each in enumerate(types)]
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
