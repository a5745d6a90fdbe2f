"""
Write how much of the usage is of which values of its dimensions, in the transaction that writes the usage.

Until then, the values stand in the event name. The rows of usage are without them, so what reports usage, and what
reads the sums of meters, is the same with dimensions as without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import month_of
from meterkit.core.threads import yielding
from meterkit.core.usage_key import VALUES, UsageKey, split_values
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to
from meterkit.ledger.daily_totals import UsageRow

ValueRow: TypeAlias = "tuple[str, str, int, str, str, int]"
"""A row of ``schema.usage_values``: company, meter, window, values, event name, quantity."""


def split(rows: list[UsageRow]) -> tuple[list[UsageRow], list[ValueRow]]:
    """Return *rows* without values in their event names, one for each key; and how much of them is of which values."""
    meters = {row[0] for row in yielding(rows) if VALUES in row[1]}
    if not meters:
        return rows, []
    others = [row for row in yielding(rows) if row[0] not in meters]
    plain: dict[UsageKey, tuple[int, int, int]] = {}
    of_values: dict[tuple[str, str, int, str, str], int] = {}
    for meter, marked, company, user, window, quantity, settled, last_used in yielding(rows):
        if meter not in meters:
            continue
        event_name, values = split_values(marked)
        if values:
            value_key = (company, meter, window, values, event_name)
            of_values[value_key] = of_values.get(value_key, 0) + quantity
        is_settled = not event_name  # what is not billable has only values in its event name, and is never reported
        key = (meter, event_name, company, user, window)
        before, settled_before, latest = plain.get(key, (0, 0, 0))
        plain[key] = (
            before + quantity,
            settled_before + (quantity if is_settled else settled),
            max(latest, last_used),
        )
    merged: list[UsageRow] = [(*key, *sums) for key, sums in plain.items()]
    return others + merged, [(*key, quantity) for key, quantity in of_values.items()]


def add(connection: sa.Connection, rows: Iterable[ValueRow]) -> None:
    """Add *rows*, whose usage this transaction has written."""
    given = list(rows)
    if not given:
        return
    add_to(schema.usage_values, connection, given, add="quantity")
    by_month: dict[tuple[int, str, str, str], int] = {}
    for company, meter, window, values, _, quantity in yielding(given):
        key = (month_of(window).start, meter, company, values)
        by_month[key] = by_month.get(key, 0) + quantity
    add_to(schema.month_values, connection, [(*key, each) for key, each in by_month.items()], add="quantity")


def prune(connection: sa.Connection, keys: Iterable[tuple[str, str, str, int]]) -> None:
    """
    Delete the values of usage that was deleted.

    Args:
        connection: Connection in the transaction that has deleted it.
        keys: Meter, event name, company and window of the usage, of which the rows of some users may be left.
    """
    table, usage = schema.usage_values, schema.usage
    names = ("meter", "event_name", "company", "window")
    is_there = sa.exists().where(*(usage.c[name] == table.c[name] for name in names))
    same = sa.and_(*(table.c[name] == sa.bindparam(f"old_{name}") for name in names))
    deleted = [{f"old_{name}": each for name, each in zip(names, key, strict=True)} for key in sorted(set(keys))]
    if deleted:
        connection.execute(sa.delete(table).where(same, ~is_there), deleted)
