"""
Usage per company, meter and day, with a change counter for incremental readers.

Each commit that touches one leaves a number there, which grows. So whoever follows them asks for what has changed
alone, however much there is: see `meterkit.accounts.period_usage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to

UsageRow: TypeAlias = tuple[str, str, str, str, int, int, int, int]
"""A row of ``schema.usage``: meter, event name, company, user, window, quantity, reported, last used."""


def add_totals(connection: sa.Connection, rows: Iterable[UsageRow]) -> dict[str, int]:
    """
    Add usage *rows*, which were written in this transaction, to the sums of their days.

    Returns:
        Their sums by meter, of all companies and nobody.
    """
    sums: dict[tuple[str, int], dict[str, int]] = {}
    theirs: dict[str, int] = {}
    same_meter, same_window = "", -1  # mostly they are: to see that takes less time than to look up a pair
    for meter, _, company, _, window, quantity, _, _ in yielding(rows):
        if meter != same_meter or window != same_window:
            same_meter, same_window = meter, window
            theirs = sums.setdefault((meter, window - window % DAY), {})
        theirs[company] = theirs.get(company, 0) + quantity
    by_meter: dict[str, int] = {}
    for (meter, _), theirs in sums.items():
        by_meter[meter] = by_meter.get(meter, 0) + sum(theirs.values())
        theirs.pop(NOBODY, None)
    if any(sums.values()):
        change = _next_change(connection)
        written = [
            (company, meter, day, quantity, change)
            for (meter, day), theirs in sums.items()
            for company, quantity in yielding(theirs.items())
        ]
        add_to(schema.totals, connection, written, add="quantity", latest="change")
        free_gradually(written)
    return by_meter


def lock_totals(connection: sa.Connection) -> None:
    """Wait until nobody else's transaction changes any, and keep them as they are until this one commits."""
    connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "change").with_for_update())


def _next_change(connection: sa.Connection) -> int:
    """One more than of any commit before: the row stays locked until this one commits, so they come in order."""
    mine = schema.meta.c.key == "change"
    value = sa.cast(schema.meta.c.value, sa.BigInteger)
    connection.execute(sa.update(schema.meta).where(mine).values(value=sa.cast(value + 1, sa.Text)))
    return int(connection.scalar(sa.select(schema.meta.c.value).where(mine)) or 0)
