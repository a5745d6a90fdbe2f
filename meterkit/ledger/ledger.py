"""
Fold journal generations into usage rows, exactly once.

`meterkit.outbox.outbox` is the other half: what of it goes to Stripe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import Counted, is_observation
from meterkit.ledger import schema
from meterkit.ledger.aggregates import forget_peaks, rises
from meterkit.ledger.bulk import add_to
from meterkit.ledger.daily_totals import UsageRow, add_totals
from meterkit.ledger.database import Database, insert_once
from meterkit.ledger.payers import customer_of

FOLDS_KEPT_SECONDS = 40 * 24 * 3600
"""
How long it is remembered that a generation is folded whose process could not say that its file is gone for good.
If the file of a host that was away for longer comes back, its usage is too old for Stripe: 35 days.
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What one company, or one of its users, used in one window.

    Attributes:
        meter: The meter's name.
        company: As identified; None where nobody said who pays.
        user: None where nobody said who.
        window: The unix second in which the window, one UTC hour, begins.
        quantity: In the meter's unit.
        reported: How much of the quantity has been handed to the reporter.
        customer: The Stripe customer who pays; None while the company has no link.
    """

    meter: str
    company: str | None
    user: str | None
    window: int
    quantity: int
    reported: int
    customer: str | None


class Ledger:
    """
    Usage, and who pays for it.

    Args:
        database: Where it is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def fold(
        self,
        generation: str,
        cells: Iterable[Counted],
        *,
        folded: Callable[[sa.Connection, str], None] | None = None,
    ) -> bool:
        """
        Add what a journal generation counted, once, however often it is folded.

        Args:
            generation: Its id.
            cells: What it counted.
            folded: Called at the end of the transaction, with the id.

        Returns:
            False if it had been folded before.

        Raises:
            LedgerError: Nothing was added, or it cannot be told; fold again.
        """
        now = int(self._clock())
        rows: list[UsageRow] = []
        observations: list[Counted] = []
        for each in yielding(cells):
            (meter, event_name, company, user, window), quantity, last_used = each
            if user and is_observation(user):
                observations.append(each)
            else:
                rows.append((meter, event_name, company, user, window, quantity, 0, last_used))
        with self._database.transaction() as connection:
            if not insert_once(schema.folds, connection, {"generation": generation, "folded_at": now}):
                return False
            rows += rises(connection, observations)
            if rows:
                add_to(schema.usage, connection, rows, add="quantity", latest="last_used")
                counted = add_totals(connection, rows)
                add_to(schema.counted, connection, counted.items(), add="quantity")
            release(connection, generation)
            if folded is not None:
                folded(connection, generation)
        free_gradually(rows)
        return True

    def forget(self, generations: Iterable[str]) -> None:
        """Folded *generations* can never come back, so there is no need to know them; nor those of long ago."""
        gone = [{"gone": generation} for generation in sorted(generations)]
        outdated = schema.folds.c.folded_at < int(self._clock()) - FOLDS_KEPT_SECONDS
        with self._database.transaction() as connection:
            if gone:
                mark = schema.folds.c.generation == sa.bindparam("gone")
                connection.execute(sa.delete(schema.folds).where(mark), gone)
            forget_peaks(connection, int(self._clock()))
            forget_holds(connection, int(self._clock()) - FOLDS_KEPT_SECONDS)
            # Only rows that nobody else is deleting: two hosts must not wait for each other crosswise.
            old = sa.select(schema.folds.c.generation).where(outdated).with_for_update(skip_locked=True)
            connection.execute(sa.delete(schema.folds).where(schema.folds.c.generation.in_(old)))

    def usage(
        self,
        *,
        company: str | None = None,
        meter: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Usage]:
        """Usage by meter, company, user and window; *since* and *until* (excluded) bound the window's begin."""
        table = schema.usage
        query = sa.select(table, schema.accounts.c.customer).join_from(
            table, schema.accounts, table.c.company == schema.accounts.c.company, isouter=True
        )
        if company is not None:
            query = query.where(table.c.company == company)
        if meter is not None:
            query = query.where(table.c.meter == meter)
        if since is not None:
            query = query.where(table.c.window >= since)
        if until is not None:
            query = query.where(table.c.window < until)
        query = query.order_by(table.c.meter, table.c.company, table.c.user, table.c.window)
        with self._database.snapshot() as connection:
            return [
                Usage(
                    meter=row.meter,
                    company=row.company or None,
                    user=row.user or None,
                    window=row.window,
                    quantity=row.quantity,
                    reported=row.reported,
                    customer=customer_of(row.company, row.customer),
                )
                for row in connection.execute(query)
            ]


def release(connection: sa.Connection, generation: str) -> None:
    """*generation* is folded: its usage is in the ledger."""
    connection.execute(sa.delete(schema.holds).filter_by(generation=generation))


def forget_holds(connection: sa.Connection, before: int) -> None:
    """Those of journals that never came back, older than the second *before*."""
    connection.execute(sa.delete(schema.holds).where(schema.holds.c.held_at < before))
