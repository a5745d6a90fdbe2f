"""
Keep: many rows in one statement.

SQLAlchemy's own way takes three times as long as SQLite for a hundred thousand rows. PostgreSQL gets one array for each
column, because a statement for each row is a way to the server and back; and it sorts them by their keys, in the same
way for every process, so that two never wait for each other crosswise.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from meterkit.database import insert_into
from meterkit.native import politely


def add_to(
    table: sa.Table, connection: sa.Connection, rows: list[dict[str, Any]], *, add: str, latest: str = ""
) -> None:
    """Insert *rows*; where one exists, add to its column *add* and raise its column *latest*."""
    statement = insert_into(table, connection)
    values = {add: table.c[add] + statement.excluded[add]}
    if latest:
        old, new = table.c[latest], statement.excluded[latest]
        values[latest] = sa.case((new > old, new), else_=old)
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    _write(table, connection, statement, rows, add=add)


def overwrite(table: sa.Table, connection: sa.Connection, rows: list[dict[str, Any]], *, column: str) -> None:
    """Set *column* of *rows*, which exist and are given whole."""
    statement = insert_into(table, connection)
    # An UPDATE that joins would lock them in the order that it finds best.
    values = {column: statement.excluded[column]}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)
    _write(table, connection, statement, rows)


def insert(table: sa.Table, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert *rows*, which have what the table's columns need."""
    _write(table, connection, insert_into(table, connection), rows)


def _write(
    table: sa.Table, connection: sa.Connection, statement: Any, rows: list[dict[str, Any]], *, add: str = ""
) -> None:
    names = list(rows[0])
    if connection.dialect.name == "postgresql":
        connection.execute(statement.from_select(names, _given(table, names, rows, add)))
    else:
        compiled = statement.compile(dialect=connection.dialect, column_keys=names)
        values = itemgetter(*compiled.positiontup)
        connection.exec_driver_sql(str(compiled), [values(row) for row in politely(rows)])


def _given(table: sa.Table, names: list[str], rows: list[dict[str, Any]], add: str) -> sa.Select[Any]:
    """*rows* in the order of their keys, one for each: a statement of PostgreSQL must not touch a row twice."""
    arrays = [sa.cast([row[name] for row in politely(rows)], sa.ARRAY(table.c[name].type)) for name in names]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    keys = [column.name for column in table.primary_key if column.name in names]
    if not keys:
        return sa.select(*(given.c[name] for name in names))
    whole = {name: given.c[name] for name in keys}
    summed = {name: (sa.func.sum if name == add else sa.func.max)(given.c[name]) for name in names if name not in keys}
    columns = {name: sa.cast(each, table.c[name].type) for name, each in {**whole, **summed}.items()}
    is_text = {name: isinstance(table.c[name].type, sa.String) for name in keys}
    order = [sa.collate(given.c[name], "C") if is_text[name] else given.c[name] for name in keys]
    return sa.select(*(columns[name] for name in names)).group_by(*whole.values()).order_by(*order)
