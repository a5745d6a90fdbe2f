"""
Which usage rows are due to be reported: those whose quantity is not what was reported.

On PostgreSQL, a column says so, which the server computes. Flushes raise the quantity of the same rows again and again.
If no indexed column changes, the server writes no index for it, and the columns in an index's condition count as
indexed: with the quantity in it, every flush would write all indexes of the table, and leave them to be vacuumed.
SQLite makes no such difference, and has no column.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from meterkit.core.usage_key import SHADOWED

COLUMN = """
ALTER TABLE meterkit_usage ADD COLUMN due BOOLEAN NOT NULL GENERATED ALWAYS AS (quantity <> reported) STORED;
CREATE INDEX meterkit_usage_unreported ON meterkit_usage ("window") WHERE due;
CREATE INDEX meterkit_usage_reported ON meterkit_usage ("window") WHERE NOT due;
ALTER TABLE meterkit_usage SET (fillfactor = 80);
ALTER TABLE meterkit_month_totals SET (fillfactor = 80)
""".strip().split(";\n")
"""Statements that add the column and its indexes on PostgreSQL, and leave room in each page for what is updated."""


def due(usage: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition for rows of *usage*, the table or an alias, that are to be reported."""
    return _Due(usage.c.quantity, usage.c.reported)


def not_due(usage: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition for rows of *usage*, the table or an alias, of which all is reported."""
    return _NotDue(usage.c.quantity, usage.c.reported)


def was_shadowed(usage: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition for rows of *usage*, the table or an alias, that were counted in shadow mode."""
    return sa.func.substr(usage.c.event_name, 1, 1) == SHADOWED


class _Condition(FunctionElement[bool]):
    type = sa.Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002 - of the base class
        """Return this as it is: SQLite's ``quantity <> reported = 1`` would find no index."""
        return self


class _Due(_Condition):
    name = "due"
    inherit_cache = True


class _NotDue(_Condition):
    name = "not_due"
    inherit_cache = True


@compiles(_Due, "postgresql")
def _column(element: _Due, compiler: Any, **options: Any) -> str:
    quantity, _ = element.clauses
    return f"{compiler.process(quantity, **options).removesuffix('quantity')}due"


@compiles(_NotDue, "postgresql")
def _no_column(element: _NotDue, compiler: Any, **options: Any) -> str:
    quantity, _ = element.clauses
    return f"NOT {compiler.process(quantity, **options).removesuffix('quantity')}due"


@compiles(_Due, "sqlite")
def _differs(element: _Due, compiler: Any, **options: Any) -> str:
    quantity, reported = (compiler.process(each, **options) for each in element.clauses)
    return f"{quantity} <> {reported}"


@compiles(_NotDue, "sqlite")
def _equals(element: _NotDue, compiler: Any, **options: Any) -> str:
    quantity, reported = (compiler.process(each, **options) for each in element.clauses)
    return f"{quantity} = {reported}"
