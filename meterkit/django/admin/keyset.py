"""Pages of a table of any length: each begins after the last row of the one before, and nothing is counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

PAGE = 100
"""Rows of a page."""


class Key(NamedTuple):
    """
    One column of the order of a list; all columns together are unique.

    Attributes:
        column: Column to order by.
        descending: Whether larger values come first.
    """

    column: sa.ColumnElement[Any]
    descending: bool = False


def ordered(query: sa.Select[Any], keys: Sequence[Key], after: Sequence[Any] | None) -> sa.Select[Any]:
    """
    Return *query* in the order of *keys*, limited to a page and one row more.

    Args:
        query: Query to order.
        keys: Columns to order by.
        after: Values of *keys* in the last row of the page before; None for the first page.
    """
    if after is not None:
        # The first column by itself, too: an index on it can then begin there.
        first = keys[0].column
        query = query.where(first <= after[0] if keys[0].descending else first >= after[0], _follows(keys, after))
    return query.order_by(*(each.column.desc() if each.descending else each.column for each in keys)).limit(PAGE + 1)


def _follows(keys: Sequence[Key], after: Sequence[Any]) -> sa.ColumnElement[bool]:
    (column, descending), *rest = keys
    beyond = column < after[0] if descending else column > after[0]
    return sa.or_(beyond, sa.and_(column == after[0], _follows(rest, after[1:]))) if rest else beyond


def written(values: Sequence[Any]) -> str:
    """Return the values of a row's keys as text, for an address."""
    return json.dumps(values, separators=(",", ":"))


def read(text: str, kinds: Sequence[type]) -> list[Any] | None:
    """Return what `written` wrote, if its values are of *kinds*; otherwise None, for the first page."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    if not isinstance(values, list) or [type(each) for each in values] != list(kinds):
        return None
    return None if any(isinstance(each, int) and abs(each) >= 2**63 for each in values) else values
