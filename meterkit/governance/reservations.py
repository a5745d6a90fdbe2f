"""
Exact quotas: reserve units in the ledger before a request passes.

Before a request of an exact quota passes, its process takes a unit here, in a transaction of the ledger that all
others wait for. What it has taken stands under the generation of its journal that is to count it, and goes in the
transaction that folds that generation: at any moment the ledger's usage and what is held are together all that may
have been used. A killed process's holds go when its journal is adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.accounts.period_usage import Pair, used_since
from meterkit.core import threads
from meterkit.errors import LedgerError
from meterkit.journal.journal import Journal
from meterkit.ledger import schema
from meterkit.ledger.daily_totals import lock_totals
from meterkit.ledger.database import Database, put
from meterkit.metering.exchange import Exchange


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """
    What a request needs of an exact quota.

    Attributes:
        meter: Its name.
        limit: How much may be used.
        since: The unix second in which the period began.
    """

    meter: str
    limit: int
    since: int


@dataclass(slots=True)
class _Held:
    exchange: Exchange
    pair: Pair
    generation: str


class Reservations:
    """
    Takes units for the requests of one process.

    Args:
        database: Where the ledger is kept.
        journal: Where they will be counted.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, journal: Journal, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._lock = threads.rlock()
        self._held: list[_Held] = []
        self._written: dict[Pair, tuple[str, int]] = {}

    def take(
        self, exchange: Exchange, company: str, wanted: Collection[ReservationRequest]
    ) -> tuple[ReservationRequest, int] | None:
        """
        Take a unit of each that is *wanted* for *exchange*.

        Returns:
            What was used up, and how much of it is used; None if all was to be had.

        Raises:
            LedgerError: It cannot be told; nothing was taken.
        """
        taken: list[_Held] = []
        if self._journal.current_id is None:
            raise LedgerError("the kit is being closed")
        try:
            with self._database.transaction() as connection:
                lock_totals(connection)
                for each in wanted:
                    used = self._used(connection, company, each)
                    if used >= each.limit:
                        return each, used
                for pair in {(company, each.meter) for each in wanted}:
                    taken.append(self._hold(exchange, pair))
                    self._write(connection, pair)
        except BaseException:
            self._drop(taken)
            raise
        return None

    def move(self, connection: sa.Connection, generation: str) -> None:
        """*generation* is folded in this transaction: what it holds and nobody has answered yet is the next one's."""
        lock_totals(connection)
        with self._lock:
            for held in self._under_way():
                if held.generation == generation:
                    held.generation = self._journal.current_id or generation
        for pair in list(self._written):
            self._write(connection, pair)

    def release_unused(self) -> None:
        """
        Of requests that turned out to be no usage; after each flush.

        Raises:
            LedgerError: They stay held until the next one.
        """
        if all(self._needed(pair) == written for pair, written in self._written.items()):
            return
        with self._database.transaction() as connection:
            lock_totals(connection)
            for pair in list(self._written):
                self._write(connection, pair)

    def _used(self, connection: sa.Connection, company: str, wanted: ReservationRequest) -> int:
        """All that may have been used: what is in the ledger, what others hold, and what this process knows."""
        pair = (company, wanted.meter)
        own = self._journal.unfolded(pair)
        folds, holds = schema.folds, schema.holds
        folded = set(connection.scalars(sa.select(folds.c.generation).where(folds.c.generation.in_(own))))
        others = connection.scalar(
            sa.select(sa.func.sum(holds.c.quantity)).where(
                holds.c.company == company,
                holds.c.meter == wanted.meter,
                holds.c.held_at >= wanted.since,
                holds.c.generation.not_in(own),
            )
        )
        with self._lock:
            under_way = sum(held.pair == pair for held in self._under_way())
        counted = sum(quantity for generation, quantity in own.items() if generation not in folded)
        ledger = used_since(connection, {company: wanted.since}).get(pair, 0)
        return ledger + int(others or 0) + under_way + counted

    def _hold(self, exchange: Exchange, pair: Pair) -> _Held:
        with self._lock:
            held = _Held(exchange, pair, self._journal.current_id or "")
            self._held.append(held)
        return held

    def _drop(self, taken: Iterable[_Held]) -> None:
        with self._lock:
            for held in taken:
                self._held.remove(held)

    def _write(self, connection: sa.Connection, pair: Pair) -> None:
        generation, quantity = self._written[pair] = self._needed(pair)
        if not generation:
            return  # the kit is being closed; what is left goes with its journal
        table = schema.holds
        company, meter = pair
        key = {"generation": generation, "company": company, "meter": meter}
        if quantity:
            put(table, connection, {**key, "quantity": quantity, "held_at": int(self._clock())})
        else:
            del self._written[pair]
            connection.execute(sa.delete(table).filter_by(**key))

    def _needed(self, pair: Pair) -> tuple[str, int]:
        """The generation that counts now, and what it holds: what is under way, and what it has counted."""
        generation = self._journal.current_id or ""
        with self._lock:
            under_way = sum(held.pair == pair and held.generation == generation for held in self._under_way())
        return generation, under_way + self._journal.unfolded(pair).get(generation, 0)

    def _under_way(self) -> list[_Held]:
        """Those that are not counted yet: when it is, an exchange lets go of its native."""
        self._held = [held for held in self._held if held.exchange.native is not None]
        return self._held
