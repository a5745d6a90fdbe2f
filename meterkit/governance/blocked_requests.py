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
    Requests that did not pass.

    Attributes:
        company: Whose they were; None where nobody had said.
        reason: As in `meterkit.governance.refusal`.
        day: The unix second in which the day begins, in UTC.
        count: How many.
    """

    company: str | None
    reason: str
    day: int
    count: int


def add_blocked(database: Database, counts: Mapping[tuple[str, str], int], now: int) -> None:
    """
    Add what was stopped today, by company and reason.

    Raises:
        LedgerError: The ledger failed; nothing was added.
    """
    rows = [(company, reason, now - now % DAY, count) for (company, reason), count in counts.items()]
    with database.transaction() as connection:
        add_to(schema.blocked, connection, rows, add="count")


def stopped(database: Database, *, since: int) -> list[BlockedRequests]:
    """
    What was stopped on days that begin at *since* or later.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.blocked
    query = sa.select(table).where(table.c.day >= since).order_by(table.c.day, table.c.company, table.c.reason)
    with database.snapshot() as connection:
        return [
            BlockedRequests(row.company or None, row.reason, row.day, row._mapping["count"])  # noqa: SLF001 - a row has a count() of its own
            for row in connection.execute(query)
        ]
