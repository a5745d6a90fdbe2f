"""
Exact quotas: reserve units in the ledger before a request is allowed.

Before a request under an exact quota is allowed, its process reserves a unit, in a transaction of the ledger that all
other processes wait for. A reservation belongs to the journal generation that will count the request, and is deleted in
the transaction that folds this generation: at any moment, the ledger's usage and all reservations together are the most
that can have been used. The reservations of a killed process are deleted when its journal is adopted.
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
from meterkit.ledger.schema.quantities import sum_of
from meterkit.metering.exchange import Exchange


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """
    One unit of an exact quota, for a request.

    Attributes:
        meter: Name of the quota's meter.
        limit: Units that may be used in the period.
        since: Unix second at which the period began.
    """

    meter: str
    limit: int
    since: int


@dataclass(slots=True)
class _Reservation:
    exchange: Exchange
    pair: Pair
    generation: str


class Reservations:
    """
    Reserves units for the requests of one process.

    Args:
        database: Database of the ledger.
        journal: Journal in which the requests will be counted.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, journal: Journal, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock
        self._lock = threads.rlock()
        self._reserved: list[_Reservation] = []
        self._written: dict[Pair, tuple[str, int]] = {}
        self._taking = 0  # calls of `take` in progress, which may have chosen a generation that is retired meanwhile

    def take(
        self, exchange: Exchange, company: str, requests: Collection[ReservationRequest]
    ) -> tuple[ReservationRequest, int] | None:
        """
        Reserve one unit for *exchange* under each of *requests*, or none at all.

        Returns:
            The request whose quota is used up, and the units used of it; None if all were reserved.

        Raises:
            LedgerError: The ledger failed, or the kit is closing; nothing was reserved.
        """
        taken: list[_Reservation] = []
        if self._journal.current_id is None:
            raise LedgerError("the kit is being closed")
        with self._lock:
            self._taking += 1
        try:
            with self._database.transaction() as connection:
                lock_totals(connection)
                for each in requests:
                    used = self._used(connection, company, each)
                    if used >= each.limit:
                        return each, used
                # Of what is current under the lock: nothing that is current or retired now is folded before the commit.
                generation = self._journal.current_id or ""
                for pair in {(company, each.meter) for each in requests}:
                    taken.append(self._add(exchange, pair, generation))
                    self._write(connection, pair, generation)
        except BaseException:
            self._drop(taken)
            raise
        finally:
            with self._lock:
                self._taking -= 1
        return None

    def move(self, connection: sa.Connection, generation: str) -> None:
        """
        Move the reservations of requests in flight to the next generation.

        Args:
            connection: Connection of the transaction that folds *generation*.
            generation: Id of the generation.
        """
        lock_totals(connection)
        self._move({generation})
        for pair in list(self._written):
            self._write(connection, pair)

    def leave(self, generations: Collection[str]) -> None:
        """
        Move the reservations of requests in flight to the next generation, before another process folds *generations*.

        Whoever folds a generation deletes its reservations with it. So those of requests in flight are under the next
        one before it can be folded; and what stays is what the generation has counted, so that no unit is in both.

        Args:
            generations: Ids of this process's retired generations.

        Raises:
            LedgerError: The ledger failed, or the outcome of the commit is unknown; nothing may be folded by another
                process before this has succeeded.
        """
        with self._lock:
            if not self._written and not self._taking and not self._in_flight():
                return
        holds = schema.holds
        with self._database.transaction() as connection:
            lock_totals(connection)
            self._move(generations)
            left = connection.execute(sa.select(holds).where(holds.c.generation.in_(generations))).all()
            for row in left:
                counted = self._journal.unfolded((row.company, row.meter)).get(row.generation, 0)
                mine = {"generation": row.generation, "company": row.company, "meter": row.meter}
                if counted != row.quantity:
                    connection.execute(sa.update(holds).filter_by(**mine).values(quantity=counted))
            for pair in list(self._written):
                self._write(connection, pair)

    def _move(self, generations: Collection[str]) -> None:
        with self._lock:
            for reservation in self._in_flight():
                if reservation.generation in generations:
                    reservation.generation = self._journal.current_id or reservation.generation

    @property
    def has_reserved(self) -> bool:
        """Whether the ledger has reservations of this process, as far as it knows."""
        return bool(self._written)

    def release_unused(self) -> None:
        """
        Release the units of requests that were not counted. Called after each flush.

        Raises:
            LedgerError: The ledger failed; they stay reserved until the next flush.
        """
        if all(self._needed(pair) == written for pair, written in self._written.items()):
            return
        with self._database.transaction() as connection:
            lock_totals(connection)
            for pair in list(self._written):
                self._write(connection, pair)

    def _used(self, connection: sa.Connection, company: str, request: ReservationRequest) -> int:
        """Return the most that can have been used: the ledger's usage, others' reservations and this process's own."""
        pair = (company, request.meter)
        # What is under way first: a request that ends meanwhile is then in both, and not in neither. That may block one
        # request too early, until the next looks again; the other order would allow one too many.
        with self._lock:
            in_flight = sum(reservation.pair == pair for reservation in self._in_flight())
        own = self._journal.unfolded(pair)
        folds, holds = schema.folds, schema.holds
        folded = set(connection.scalars(sa.select(folds.c.generation).where(folds.c.generation.in_(own))))
        others = connection.scalar(
            sa.select(sum_of(holds.c.quantity)).where(
                holds.c.company == company,
                holds.c.meter == request.meter,
                holds.c.held_at >= request.since,
                holds.c.generation.not_in(own),
            )
        )
        counted = sum(quantity for generation, quantity in own.items() if generation not in folded)
        ledger = used_since(connection, {company: request.since}).get(pair, 0)
        return ledger + int(others or 0) + in_flight + counted

    def _add(self, exchange: Exchange, pair: Pair, generation: str) -> _Reservation:
        with self._lock:
            reservation = _Reservation(exchange, pair, generation)
            self._reserved.append(reservation)
        return reservation

    def _drop(self, taken: Iterable[_Reservation]) -> None:
        with self._lock:
            for reservation in taken:
                self._reserved.remove(reservation)

    def _write(self, connection: sa.Connection, pair: Pair, generation: str | None = None) -> None:
        """Write what is to be reserved for *pair* under *generation*, by default the current one."""
        generation, quantity = self._written[pair] = self._needed(pair, generation)
        if not generation:
            return  # the kit is being closed; the rest is deleted when its journal is folded
        table = schema.holds
        company, meter = pair
        key = {"generation": generation, "company": company, "meter": meter}
        if quantity:
            put(table, connection, {**key, "quantity": quantity, "held_at": int(self._clock())})
        else:
            del self._written[pair]
            connection.execute(sa.delete(table).filter_by(**key))

    def _needed(self, pair: Pair, generation: str | None = None) -> tuple[str, int]:
        """Return the generation, and the units to reserve under it: for requests in flight and its counts."""
        generation = (self._journal.current_id or "") if generation is None else generation
        with self._lock:
            in_flight = sum(each.pair == pair and each.generation == generation for each in self._in_flight())
        return generation, in_flight + self._journal.unfolded(pair).get(generation, 0)

    def _in_flight(self) -> list[_Reservation]:
        """Return the reservations of requests that are not counted yet: once counted, an exchange has no native."""
        self._reserved = [each for each in self._reserved if each.exchange.native is not None]
        return self._reserved
