"""
Fold journal generations into usage rows, exactly once.

`meterkit.outbox` writes the meter events that report these rows to Stripe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import sqlalchemy as sa

from meterkit.core.threads import free_gradually, yielding
from meterkit.core.usage_key import KEYED, Counted, UsageKey, is_observation
from meterkit.ledger import record_keys, schema
from meterkit.ledger.aggregates import increments, prune_peaks
from meterkit.ledger.bulk import BATCH, add_to
from meterkit.ledger.daily_totals import UsageRow, add_totals, reported_row
from meterkit.ledger.database import Database, insert_new
from meterkit.ledger.dimensions import rows as dimensions
from meterkit.ledger.dimensions.reading import UsageByValues, by_windows
from meterkit.ledger.lease import wait_for_holders
from meterkit.ledger.payers import customer_of
from meterkit.ledger.rating.rows import rate
from meterkit.ledger.record_keys import Conflict

FOLDS_KEPT_SECONDS = 40 * 24 * 3600
"""
Seconds for which a folded generation is remembered if its process never confirmed that the file was deleted.
If a host comes back later than that with the file, its usage is too old for Stripe: 35 days.
"""


Settle: TypeAlias = Callable[[sa.Connection, Mapping[str, Iterable[UsageRow]], list[UsageRow]], object]
"""Function that settles what was drawn ahead: of the rows of each generation, and of all that are added."""


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What one company, or one of its users, used in one window.

    Attributes:
        meter: Name of the meter.
        company: Company id, as the application knows it; None for unattributed usage.
        user: User id within the company; None if no user was identified.
        window: Unix second at which the window begins.
        quantity: Usage in the meter's unit.
        reported: Part of the quantity that is already in the outbox.
        customer: Id of the Stripe customer that pays; None while the company is not linked.
    """

    meter: str
    company: str | None
    user: str | None
    window: int
    quantity: int
    reported: int
    customer: str | None


class _Counts:
    """
    Counts of one generation, by how they are added.

    Args:
        counts: Counts of the generation.

    Attributes:
        rows: Rows of usage.
        observations: Observed values of `unique()` and `maximum()`.
        keyed: Keyed records.
    """

    def __init__(self, counts: Iterable[Counted]) -> None:
        self.rows: list[UsageRow] = []
        self.observations: list[Counted] = []
        self.keyed: list[Counted] = []
        for each in yielding(counts):
            (meter, event_name, company, user, window), quantity, last_used = each
            if user and is_observation(user):
                (self.keyed if user[0] == KEYED else self.observations).append(each)
            else:
                settled = 0 if event_name else quantity
                self.rows.append((meter, event_name, company, user, window, quantity, settled, last_used))


def _rows_of(connection: sa.Connection, added: Sequence[_Counts], now: int) -> tuple[list[UsageRow], list[Conflict]]:
    """Return the usage of generations that are *added*, and the keys that were recorded with another quantity."""
    rows = added[0].rows if len(added) == 1 else _merged(added)
    rows += increments(connection, [each for of in added for each in of.observations])
    recorded, conflicts = record_keys.once(connection, [each for of in added for each in of.keyed], now=now)
    rows += recorded
    return rows, conflicts


def _merged(counts: Iterable[_Counts]) -> list[UsageRow]:
    """Return the rows of all *counts*, with one row for each key: most companies are in several generations."""
    sums: dict[UsageKey, tuple[int, int, int]] = {}
    for of in counts:
        for meter, event_name, company, user, window, quantity, settled, last_used in yielding(of.rows):
            key = (meter, event_name, company, user, window)
            known = sums.get(key, (0, 0, 0))
            sums[key] = (quantity + known[0], settled + known[1], max(last_used, known[2]))
    return [(*key, *values) for key, values in sums.items()]


class Ledger:
    """
    Usage, and which customer pays for it.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def fold(
        self,
        generation: str,
        counts: Iterable[Counted],
        *,
        folded: Callable[[sa.Connection, str], None] | None = None,
        settle: Settle | None = None,
        conflict: Callable[[Conflict], object] = lambda _: None,
        already_reported: Callable[[sa.Connection, list[UsageRow]], None] | None = None,
    ) -> bool:
        """
        Add the counts of a journal generation, exactly once, however often it is folded.

        Args:
            generation: Id of the generation.
            counts: Counts of the generation.
            folded: Function called in the transaction, after the counts are added, with the connection and the id.
            settle: Function called in the transaction that settles what processes had drawn ahead for this usage; None
                if they had not, and no wallet pays for it.
            conflict: Function called after it for each key that was recorded again with another quantity.
            already_reported: Function that stores the reports of the usage, which others have sent to Stripe: called in
                the transaction, while nothing else is written to the outbox. None if the usage is still to be reported.

        Returns:
            False if the generation had been folded before.

        Raises:
            LedgerError: Nothing was added, or the outcome of the commit is unknown; fold again.
        """
        return bool(
            self.fold_many(
                {generation: counts},
                folded=folded,
                settle=settle,
                conflict=conflict,
                already_reported=already_reported,
            )
        )

    def fold_many(
        self,
        generations: Mapping[str, Iterable[Counted]],
        *,
        folded: Callable[[sa.Connection, str], None] | None = None,
        settle: Settle | None = None,
        conflict: Callable[[Conflict], object] = lambda _: None,
        already_reported: Callable[[sa.Connection, list[UsageRow]], None] | None = None,
    ) -> set[str]:
        """
        Add the counts of several journal generations in one transaction, each exactly once.

        Args:
            generations: Counts by the id of their generation.
            folded: Function called at the end of the transaction for each new one, with the connection and the id.
            settle: Function called in the transaction that settles what processes had drawn ahead for this usage; None
                if they had not, and no wallet pays for it.
            conflict: Function called after it for each key that was recorded again with another quantity.
            already_reported: Function that stores the reports of the usage, which others have sent to Stripe: called in
                the transaction, while nothing else is written to the outbox. None if the usage is still to be reported.

        Returns:
            Ids of the generations that had not been folded before.

        Raises:
            LedgerError: Nothing was added, or the outcome of the commit is unknown; fold again.
        """
        now = int(self._clock())
        counts = {generation: _Counts(generations[generation]) for generation in sorted(generations)}
        with self._database.transaction() as connection:
            new = insert_new(schema.folds, connection, [{"generation": each, "folded_at": now} for each in counts])
            added = [counts[each] for each in counts if each in new]
            if not added:
                return set()
            if already_reported is not None:
                wait_for_holders(connection)
            lengths = {each: len(counts[each].rows) for each in new}  # without what is added to them now
            rows, conflicts = _rows_of(connection, added, now)
            is_new = already_reported is None  # so nobody has priced it yet
            rows, of_values = dimensions.split(rate(connection, rows, self._database.raters) if is_new else rows)
            rows = rows if is_new else [reported_row(row) for row in rows]
            if rows:
                add_to(schema.usage, connection, rows, add=("quantity", "reported"), latest="last_used")
                dimensions.add(connection, of_values)
                counted = add_totals(connection, rows)
                add_to(schema.counted, connection, counted.items(), add="quantity")
                if settle is not None:  # under the lock that the totals have taken
                    own = {each: islice(counts[each].rows, lengths[each]) for each in sorted(new)}
                    settle(connection, own, rows)
            if already_reported is not None:
                already_reported(connection, rows)
            if folded is not None:
                for each in sorted(new):
                    folded(connection, each)
        free_gradually(rows)
        for each_conflict in conflicts:
            conflict(each_conflict)
        return new

    def folded(self, generations: Collection[str]) -> set[str]:
        """
        Return those of *generations* that are known to be in the ledger.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        ids, found = sorted(generations), set[str]()
        with self._database.snapshot() as connection:
            for start in range(0, len(ids), BATCH):
                known = schema.folds.c.generation.in_(ids[start : start + BATCH])
                found.update(connection.scalars(sa.select(schema.folds.c.generation).where(known)))
        return found

    def forget(self, generations: Iterable[str]) -> None:
        """Delete the records of *generations*, whose files are deleted, and all records that have expired."""
        deleted = [{"deleted": generation} for generation in sorted(generations)]
        outdated = schema.folds.c.folded_at < int(self._clock()) - FOLDS_KEPT_SECONDS
        with self._database.transaction() as connection:
            if deleted:
                mine = schema.folds.c.generation == sa.bindparam("deleted")
                connection.execute(sa.delete(schema.folds).where(mine), deleted)
            prune_peaks(connection, int(self._clock()))
            record_keys.prune(connection, int(self._clock()))
            old_slices = schema.slices.c.drawn_at < int(self._clock()) - FOLDS_KEPT_SECONDS
            connection.execute(sa.delete(schema.slices).where(old_slices))  # their journals were never folded
            # Skip rows that another host is deleting: two hosts must not deadlock.
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
        """
        Return usage by meter, company, user and window.

        Args:
            company: Only usage of this company id.
            meter: Only usage of the meter of this name.
            since: Only windows that begin at this Unix second or later.
            until: Only windows that begin before this Unix second.

        Raises:
            LedgerError: The ledger cannot be read.
        """
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
                    reported=row.reported if row.event_name else 0,
                    customer=customer_of(connection, row.company, row.customer),
                )
                for row in connection.execute(query)
            ]

    def usage_by(
        self,
        names: Iterable[str],
        *,
        company: str | None = None,
        meter: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[UsageByValues]:
        """
        Return usage by meter, company, window and the values of the dimensions *names*; see `by_windows`.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        with self._database.snapshot() as connection:
            return by_windows(connection, names, since=since, until=until, company=company, meter=meter)
