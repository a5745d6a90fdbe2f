"""
Delete settled usage older than `keep_days`.

Usage goes with its reports, and only when their fate is known. What was summed up by day stays, so quotas, previews and
the twelve months that a customer sees are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.core.threads import Event
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold

REST_SECONDS = 0.05
"""Between two of them."""

PORTIONS = 400
"""In one pass. More than a pass writes anew, so that a ledger that was kept whole becomes small in time."""

AT_STRIPE = ("sent", "invoiced")
SETTLED = (*AT_STRIPE, "canceled", "returned")
"""States of reports."""


def prune(database: Database, lease: Lease, *, days: int, clock: Callable[[], float], stop: Event) -> None:
    """
    Forget usage whose window began more than so many days ago.

    Raises:
        LeaseLostError: Another process reports now.
        LedgerError: The ledger failed; what is left is for the next time.
    """
    before = int(clock()) - days * DAY
    for _ in range(PORTIONS):
        with database.transaction() as connection:
            hold(lease, connection, clock=clock)
            if not _let_go(connection, before):
                return
        if stop.wait(REST_SECONDS):  # let others write
            return


def _let_go(connection: sa.Connection, before: int) -> bool:
    """One portion; whether there was any."""
    where = attrgetter("meter", "event_name", "window")
    rows = sorted(connection.execute(_old(connection, before)), key=where)
    for (meter, event_name, window), those in groupby(rows, key=where):
        _forget_reports(connection, meter, event_name, window, {row.company for row in those})
    if rows:
        table = schema.usage
        mine = sa.and_(*(key == sa.bindparam(f"old_{key.name}") for key in table.primary_key))
        gone = [{f"old_{name}": value for name, value in row._asdict().items()} for row in rows]
        connection.execute(sa.delete(table).where(mine), gone)
    return bool(rows)


def _old(connection: sa.Connection, before: int) -> sa.Select[Any]:
    """The keys of usage that is all reported, and of whose place nothing is open any more; the oldest first."""
    usage, reports, beside = schema.usage, schema.reports, schema.usage.alias()
    names = ("meter", "event_name", "company", "window")
    unsettled = sa.or_(reports.c.state.not_in(SETTLED), reports.c.unknown_since.is_not(None))
    is_open = sa.exists().where(*(reports.c[name] == usage.c[name] for name in names), unsettled)
    unreported = beside.c.quantity != beside.c.reported
    is_growing = sa.exists().where(*(beside.c[name] == usage.c[name] for name in names), unreported)
    keys = [usage.c[key.name] for key in usage.primary_key]
    old = sa.select(*keys).where(usage.c.quantity == usage.c.reported, usage.c.window < before, ~is_open, ~is_growing)
    old = old.order_by(usage.c.window).limit(BATCH)  # as in the index, so that no more rows are looked at
    # Those that somebody is adding to just now are for the next time.
    is_shared = connection.dialect.name == "postgresql"
    return old.with_for_update(skip_locked=True, of=usage) if is_shared else old


def _forget_reports(
    connection: sa.Connection, meter: str, event_name: str, window: int, companies: Collection[str]
) -> None:
    table, counted = schema.reports, schema.counted
    mine = [table.c.meter == meter, table.c.event_name == event_name, table.c.window == window]
    mine.append(table.c.company.in_(companies))
    known = sa.select(sa.func.sum(table.c.quantity)).where(*mine, table.c.state.in_(AT_STRIPE))
    quantity = connection.scalar(known) or 0
    connection.execute(sa.delete(table).where(*mine))
    # The books say what is kept, and go on to balance.
    less = sa.update(counted).filter_by(meter=meter)
    connection.execute(less.values(quantity=counted.c.quantity - int(quantity)))
