"""
Delete settled usage older than `keep_days`.

Usage is deleted together with its reports, and only once their outcome is known. Daily totals stay, so quotas, previews
and the twelve months on the customer page work as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.core.threads import Event
from meterkit.core.usage_key import billed_as, is_shadowed
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.dimensions import rows as dimensions
from meterkit.ledger.lease import Lease, hold
from meterkit.ledger.rating import rows as rating
from meterkit.ledger.schema.due import due, not_due
from meterkit.ledger.schema.quantities import literal, subtracted, sum_of
from meterkit.outbox.seal import reported_in_shadow

PAUSE_SECONDS = 0.05
"""Seconds between two transactions."""

MAX_BATCHES = 400
"""Transactions per pass. They delete more than a pass writes, so that a large ledger shrinks over time."""

AT_STRIPE = ("sent", "invoiced")
"""States of reports that Stripe has."""

SETTLED = (*AT_STRIPE, "canceled", "returned")
"""States of reports whose outcome is known."""


def prune(database: Database, lease: Lease, *, days: int, clock: Callable[[], float], stop: Event) -> None:
    """
    Delete settled usage whose window began more than *days* days ago.

    Raises:
        LeaseLostError: Another process holds the lease now.
        LedgerError: The ledger failed; the next pass deletes the rest.
    """
    before = int(clock()) - days * DAY
    for _ in range(MAX_BATCHES):
        with database.transaction() as connection:
            hold(lease, connection, clock=clock)
            if not _prune_batch(connection, before):
                return
        if stop.wait(PAUSE_SECONDS):  # let others write
            return


def _prune_batch(connection: sa.Connection, before: int) -> bool:
    """Delete one batch, and return whether there was anything to delete."""
    where = attrgetter("meter", "event_name", "window")
    rows = sorted(connection.execute(_old(connection, before)), key=where)
    if rows:  # first, as a fold does, so that the two do not deadlock
        table = schema.usage
        same = sa.and_(*(key == sa.bindparam(f"old_{key.name}") for key in table.primary_key))
        deleted = [{f"old_{key.name}": getattr(row, key.name) for key in table.primary_key} for row in rows]
        connection.execute(sa.delete(table).where(same), deleted)
        keys = [(row.meter, row.event_name, row.company, row.window) for row in rows]
        dimensions.prune(connection, keys)
        rating.prune(connection, keys)
    for (meter, event_name, window), those in groupby(rows, key=where):
        mine = list(those)
        if event_name:
            _delete_reports(connection, meter, event_name, window, {row.company for row in mine})
        else:  # not billable: there are no reports
            _uncount(connection, meter, sum(row.quantity for row in mine))
    return bool(rows)


def _old(connection: sa.Connection, before: int) -> sa.Select[Any]:
    """Return the keys and quantities of usage that is settled, in windows with nothing unsettled, oldest first."""
    usage, reports, sibling = schema.usage, schema.reports, schema.usage.alias()
    names = ("meter", "event_name", "company", "window")
    unsettled = sa.or_(reports.c.state.not_in(SETTLED), reports.c.unknown_since.is_not(None))
    is_open = sa.exists().where(*(reports.c[name] == usage.c[name] for name in names), unsettled)
    is_growing = sa.exists().where(*(sibling.c[name] == usage.c[name] for name in names), due(sibling))
    keys = [usage.c[key.name] for key in usage.primary_key]
    old = sa.select(*keys, usage.c.quantity).where(not_due(usage), usage.c.window < before, ~is_open, ~is_growing)
    old = old.order_by(usage.c.window).limit(BATCH)  # the order of the index, so that no more rows are read
    # Skip rows that another process is adding to; the next pass deletes them.
    is_shared = connection.dialect.name == "postgresql"
    return old.with_for_update(skip_locked=True, of=usage) if is_shared else old


def _delete_reports(
    connection: sa.Connection, meter: str, event_name: str, window: int, companies: Collection[str]
) -> None:
    table = schema.reports
    mine = [table.c.meter == meter, table.c.event_name == billed_as(event_name), table.c.window == window]
    mine.append(table.c.company.in_(companies))
    mine.append(reported_in_shadow() if is_shadowed(event_name) else ~reported_in_shadow())
    known = sa.select(sum_of(table.c.quantity)).where(*mine, table.c.state.in_(AT_STRIPE))
    quantity = connection.scalar(known) or 0
    connection.execute(sa.delete(table).where(*mine))
    _uncount(connection, meter, int(quantity))


def _uncount(connection: sa.Connection, meter: str, quantity: int) -> None:
    """Subtract what is deleted: the books cover what is kept, and must still balance."""
    counted = schema.counted
    less = sa.update(counted).filter_by(meter=meter)
    connection.execute(less.values(quantity=subtracted(counted.c.quantity, literal(quantity))))
