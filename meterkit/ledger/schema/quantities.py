"""
Quantities of any size, and their exact sums, on both databases.

A request can add 15 digits, so ten thousand of them exceed 64 bits. PostgreSQL gets ``NUMERIC`` columns. SQLite has no
such type: it would turn a larger sum into a float, without its last digits, or fail. There, what exceeds 64 bits is
stored as text, such as ``x0…09999999999999999990``, and added by Python functions; anything smaller never leaves
SQLite's own arithmetic. Such text is larger than any integer in SQLite's order, and in the order of its number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1  # SQLite's integers

_DIGITS = 38


class Quantity(sa.TypeDecorator[int]):
    """Type of a column with a quantity that may exceed 64 bits; in Python, it is an int."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Return the database's type: ``NUMERIC`` on PostgreSQL."""
        return dialect.type_descriptor(sa.Numeric(_DIGITS, 0) if dialect.name == "postgresql" else sa.BigInteger())

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> Any:
        """Return *value* as the database stores it."""
        return value if dialect.name == "postgresql" else stored(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's names
        """Return what the database stores as an int."""
        return loaded(value)


class _Exact(FunctionElement[int]):
    type = Quantity()


class added(_Exact):  # noqa: N801 - a function, as in SQLAlchemy
    """SQL expression: the sum of two quantities."""

    name = "added"
    inherit_cache = True


class subtracted(_Exact):  # noqa: N801
    """SQL expression: the first quantity less the second."""

    name = "subtracted"
    inherit_cache = True


class sum_of(_Exact):  # noqa: N801
    """SQL aggregate: the sum of a quantity over all rows; NULL if there are none."""

    name = "sum_of"
    inherit_cache = True


def literal(quantity: int) -> sa.BindParameter[int]:
    """Return *quantity* as an SQL expression."""
    return sa.literal(quantity, Quantity())


def stored(quantity: int | None) -> int | str | None:
    """Return *quantity* as SQLite stores it."""
    if quantity is None or _SMALLEST <= quantity <= _LARGEST:
        return quantity
    return f"x{quantity:0{_DIGITS}d}"


def is_stored_as_it_is(quantities: list[int]) -> bool:
    """Return whether `stored` would change none of *quantities*."""
    return not quantities or (min(quantities) >= _SMALLEST and max(quantities) <= _LARGEST)


def register(connection: Any) -> None:
    """Define the functions that SQLite lacks, for *connection*, the driver's."""
    connection.create_function("meterkit_added", 2, _both(int.__add__), deterministic=True)
    connection.create_function("meterkit_subtracted", 2, _both(int.__sub__), deterministic=True)
    connection.create_function("meterkit_total", 3, _total, deterministic=True)
    connection.create_aggregate("meterkit_total_of_large", 1, _TotalOfLarge)


def loaded(value: Any) -> int | None:
    """Return what a database stores as an int: the inverse of `stored`."""
    return None if value is None else int(value[1:] if isinstance(value, str) else value)


def _both(operator: Callable[[int, int], int]) -> Callable[[Any, Any], int | str | None]:
    def apply(left: Any, right: Any) -> int | str | None:
        one, other = loaded(left), loaded(right)
        return None if one is None or other is None else stored(operator(one, other))

    return apply


def _total(high: int | None, low: int | None, large: str | None) -> int | str | None:
    """Return the sum of the upper halves, of the lower halves, and of what is stored as text."""
    return None if high is None or low is None else stored((high << 32) + low + (loaded(large) or 0))


class _TotalOfLarge:
    def __init__(self) -> None:
        self._sum = 0

    def step(self, value: Any) -> None:
        self._sum += loaded(value) or 0

    def finalize(self) -> int | str | None:
        return stored(self._sum)


def _operands(element: _Exact, compiler: Any, **options: Any) -> list[str]:
    return [f"({compiler.process(each, **options)})" for each in element.clauses]


@compiles(added)
def _add(element: added, compiler: Any, **options: Any) -> str:
    return " + ".join(_operands(element, compiler, **options))


@compiles(subtracted)
def _subtract(element: subtracted, compiler: Any, **options: Any) -> str:
    return " - ".join(_operands(element, compiler, **options))


@compiles(sum_of)
def _sum(element: sum_of, compiler: Any, **options: Any) -> str:
    return f"sum({', '.join(_operands(element, compiler, **options))})"


@compiles(added, "sqlite")
def _add_in_sqlite(element: added, compiler: Any, **options: Any) -> str:
    return _in_sqlite("+", "meterkit_added", *_operands(element, compiler, **options))


@compiles(subtracted, "sqlite")
def _subtract_in_sqlite(element: subtracted, compiler: Any, **options: Any) -> str:
    return _in_sqlite("-", "meterkit_subtracted", *_operands(element, compiler, **options))


def _in_sqlite(operator: str, function: str, left: str, right: str) -> str:
    """Return the expression that leaves SQLite's own arithmetic only if that would give a float."""
    is_large = f"typeof({left}) = 'text' OR typeof({right}) = 'text' OR typeof({left} {operator} {right}) = 'real'"
    return f"CASE WHEN {is_large} THEN {function}({left}, {right}) ELSE {left} {operator} {right} END"


@compiles(sum_of, "sqlite")
def _sum_in_sqlite(element: sum_of, compiler: Any, **options: Any) -> str:
    # SQLite's sum() fails beyond 64 bits. The sums of both halves do not, unless there are 2**31 rows; and text counts
    # as 0 in them.
    (each,) = _operands(element, compiler, **options)
    large = f"meterkit_total_of_large({each}) FILTER (WHERE typeof({each}) = 'text')"
    return f"meterkit_total(sum({each} >> 32), sum({each} & 4294967295), {large})"
