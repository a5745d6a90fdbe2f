"""The usage of the last weeks by day, from the daily sums of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.accounts.period_usage import Pair
from meterkit.core.periods import DAY
from meterkit.core.threads import yielding
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH

DAYS = 42
"""Most days of a history: six weeks. Usage that is older says little about the next month."""


@dataclass(frozen=True, slots=True)
class History:
    """
    What one company has used of one meter on the days before today.

    Attributes:
        until: Unix second at which today begins, in UTC.
        days: Quantity of each whole day since the company began to use the meter, the latest last; at most `DAYS`.
    """

    until: int
    days: tuple[int, ...]


def histories(connection: sa.Connection, companies: Iterable[str], *, now: int) -> dict[Pair, History]:
    """
    Return the history of each company and meter with usage in the last `DAYS` days or today.

    Args:
        connection: Connection to the ledger.
        companies: Company ids.
        now: Current time, Unix seconds.
    """
    today = now - now % DAY
    first = today - DAYS * DAY
    ids, table = sorted(companies), schema.totals
    by_pair: dict[Pair, list[int]] = {}
    for start in range(0, len(ids), BATCH):
        query = sa.select(table.c.company, table.c.meter, table.c.day, table.c.quantity).where(
            table.c.company.in_(ids[start : start + BATCH]), table.c.day >= first, table.c.day <= today
        )
        for company, meter, day, quantity in yielding(connection.execute(query)):
            days = by_pair.get((company, meter))
            if days is None:
                days = by_pair[company, meter] = [0] * (DAYS + 1)  # and today
            days[(day - first) // DAY] = max(0, quantity)  # less than 0 after a correction
    return {pair: history_of(days[:DAYS], until=today) for pair, days in yielding(by_pair.items())}


def history_of(days: list[int], *, until: int) -> History:
    """
    Return the history of someone who has used these quantities.

    The day of the first usage is left out, unless it is the first of `DAYS`: it began somewhere in it.

    Args:
        days: Quantity of each of the last days, the latest last.
        until: Unix second at which today begins.
    """
    known = days[-DAYS:]
    first = next((number for number, quantity in enumerate(known) if quantity), len(known))
    whole = known if first == 0 and len(known) == DAYS else known[first + 1 :]
    return History(until, tuple(whole))
