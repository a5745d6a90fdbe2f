"""Daily counts of blocked requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to
from meterkit.ledger.database import Database


@dataclass(frozen=True, slots=True)
class BlockedRequests:
    """
    The blocked requests of one company, reason and day.

    Attributes:
        company: Company id, or None if no company was identified.
        reason: Reason of the block; see `meterkit.governance.refusal`.
        day: Unix second at which the day begins, in UTC.
        count: Number of requests.
    """

    company: str | None
    reason: str
    day: int
    count: int


def add_blocked(database: Database, counts: Mapping[tuple[str, str], int], now: int) -> None:
    """
    Add today's blocked requests to the ledger.

    Args:
        database: Database of the ledger.
        counts: Number of requests, by company and reason.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger failed; nothing was added.
    """
    rows = [(company, reason, now - now % DAY, count) for (company, reason), count in counts.items()]
    with database.transaction() as connection:
        add_to(schema.blocked, connection, rows, add="count")


def stopped(database: Database, *, since: int) -> list[BlockedRequests]:
    """
    Return the blocked requests of all days that begin at the Unix second *since* or later.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.blocked
    query = sa.select(table).where(table.c.day >= since).order_by(table.c.day, table.c.company, table.c.reason)
    with database.snapshot() as connection:
        return [
            BlockedRequests(row.company or None, row.reason, row.day, row._mapping["count"])  # noqa: SLF001 - row.count is a method
            for row in connection.execute(query)
        ]
