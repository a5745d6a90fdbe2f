"""Moments at which what usage costs changes: usage before and after must not be in one meter event."""

from __future__ import annotations

import sqlalchemy as sa

from meterkit.ledger import schema


def moments() -> list[tuple[sa.Table, sa.Column[int]]]:
    """Return the columns that hold such moments, in Unix seconds, with their tables, which have a ``customer``, too."""
    items, former, subscriptions = schema.items, schema.former_items, schema.subscriptions
    columns = {
        items: (items.c.period_start, items.c.period_end, items.c.since),
        former: (former.c.until,),
        subscriptions: (
            subscriptions.c.ended_at,
            subscriptions.c.cancel_at,
            subscriptions.c.trial_start,
            subscriptions.c.trial_end,
        ),
    }
    return [(table, column) for table, of_table in columns.items() for column in of_table]
