"""Processes that share a ledger, and do not agree on who bills."""

from __future__ import annotations

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.due import due, was_shadowed
from meterkit.ledger.schema.quantities import subtracted, sum_of

RECENT_SECONDS = 1800
"""How long it is said that something was counted in shadow mode: longer than a deployment replaces processes for."""


def conflicts(database: Database, *, now: int, is_shadow: bool) -> list[str]:
    """
    Return a sentence for each meter of which one process counts what it bills, and another what it does not.

    Args:
        database: Database of the ledger.
        now: Current time, Unix seconds.
        is_shadow: Whether this kit is in shadow mode.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    usage, accounts = schema.usage, schema.accounts
    query = (
        sa.select(usage.c.meter, sum_of(subtracted(usage.c.quantity, usage.c.reported)).label("quantity"))
        .where(due(usage), usage.c.event_name != "", usage.c.company != NOBODY)
        .group_by(usage.c.meter)
        .order_by(usage.c.meter)
    )
    if is_shadow:
        linked = sa.exists().where(accounts.c.company == usage.c.company)
        query = query.where(~was_shadowed(usage), linked, usage.c.window < hour_of(now) - HOUR)
        text = (
            "{quantity:,} {meter} were counted without shadow mode, and wait for a process without shadow= to report "
            "them: start one; or, if another program has billed them, reverse them with meterkit correct"
        )
    else:
        query = query.where(was_shadowed(usage), usage.c.last_used > now - RECENT_SECONDS)
        text = (
            "{quantity:,} {meter} of the last half hour were counted in shadow mode, and so are never billed by "
            "meterkit: where the other program has stopped, restart processes that still have shadow="
        )
    with database.snapshot() as connection:
        return [text.format(quantity=int(row.quantity), meter=row.meter) for row in connection.execute(query)]
