"""
Usage per company, meter and day, with a change counter for incremental readers; and by meter and day, and by month.

Each commit gives the rows that it touches a higher change number. So a reader can query only the rows that have changed
since its last query: see `meterkit.accounts.period_usage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import DAY, month_of
from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import NOBODY, UsageKey
from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to

UsageRow: TypeAlias = tuple[str, str, str, str, int, int, int, int]
"""A row of ``schema.usage``: meter, event name, company, user, window, quantity, reported, last used."""


def usage_row(key: UsageKey, quantity: int, last_used: int) -> UsageRow:
    """Return a new row. What is not billable, and so has no event name, is settled: there is nothing to report."""
    return (*key, quantity, 0 if key[1] else quantity, last_used)


def reported_row(row: UsageRow) -> UsageRow:
    """Return *row* with all of its usage as reported."""
    meter, event_name, company, user, window, quantity, _, last_used = row
    return meter, event_name, company, user, window, quantity, quantity, last_used


def add_totals(connection: sa.Connection, rows: Iterable[UsageRow]) -> dict[str, int]:
    """
    Add usage *rows*, which this transaction has written, to the daily totals.

    Returns:
        Quantity by meter, including usage without a company.
    """
    sums: dict[tuple[str, int], dict[str, int]] = {}
    by_company: dict[str, int] = {}
    same_meter, same_window = "", -1  # mostly the same as before: comparing is faster than looking up the pair
    for meter, _, company, _, window, quantity, _, _ in yielding(rows):
        if meter != same_meter or window != same_window:
            same_meter, same_window = meter, window
            by_company = sums.setdefault((meter, window - window % DAY), {})
        by_company[company] = by_company.get(company, 0) + quantity
    by_meter: dict[str, int] = {}
    by_day: list[tuple[str, int, int]] = []
    for (meter, day), by_company in sums.items():
        quantity = sum(by_company.values())
        by_meter[meter] = by_meter.get(meter, 0) + quantity
        by_day.append((meter, day, quantity))
        by_company.pop(NOBODY, None)
    if by_day:
        written = [
            (company, meter, day, quantity)
            for (meter, day), by_company in sums.items()
            for company, quantity in yielding(by_company.items())
        ]
        of_months = _by_month(sums)
        if of_months:
            add_to(schema.month_totals, connection, of_months, add="quantity")
            free_gradually(of_months)
        change = _next_change(connection)  # late, because all other flushes wait from here to the commit
        add_to(schema.meter_totals, connection, by_day, add="quantity")
        if written:
            numbered = ((*row, change) for row in written)
            add_to(schema.totals, connection, numbered, add="quantity", latest="change")
            free_gradually(written)
    return by_meter


def _by_month(sums: dict[tuple[str, int], dict[str, int]]) -> list[tuple[Any, ...]]:
    """Return the rows of ``schema.month_totals`` for sums by meter, day and company."""
    by_month: dict[tuple[int, str], dict[str, int]] = {}
    for (meter, day), by_company in sums.items():
        of_month = by_month.setdefault((month_of(day).start, meter), by_company)
        if of_month is not by_company:  # of another day, of which nobody needs the sums any more
            for company, quantity in yielding(by_company.items()):
                of_month[company] = of_month.get(company, 0) + quantity
    return [
        (month, meter, company, quantity)
        for (month, meter), by_company in by_month.items()
        for company, quantity in yielding(by_company.items())
    ]


def lock_totals(connection: sa.Connection) -> None:
    """Lock the totals against changes by other transactions until this one commits."""
    connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "change").with_for_update())


def _next_change(connection: sa.Connection) -> int:
    """Return the next change number. Its row stays locked until the commit, so numbers grow in commit order."""
    mine = schema.meta.c.key == "change"
    value = sa.cast(schema.meta.c.value, sa.BigInteger)
    raised = sa.update(schema.meta).where(mine).values(value=sa.cast(value + 1, sa.Text))
    if connection.dialect.name == "postgresql":
        return int(connection.scalar(raised.returning(schema.meta.c.value)) or 0)
    connection.execute(raised)  # RETURNING needs SQLite 3.35
    return int(connection.scalar(sa.select(schema.meta.c.value).where(mine)) or 0)
