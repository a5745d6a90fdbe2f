"""Draw from the ledger, and give back: in transactions that all processes wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from meterkit.errors import LedgerError
from meterkit.journal.handed_over import is_waiting
from meterkit.ledger.daily_totals import lock_totals
from meterkit.slices import rows
from meterkit.slices.rows import Key, Row
from meterkit.slices.slice import Slice
from meterkit.slices.taken import ShortageError, Source

if TYPE_CHECKING:
    import sqlalchemy as sa

    from meterkit.journal.journal import Journal
    from meterkit.ledger.database import Database


_CLOSED = "the kit is being closed"


class Want(NamedTuple):
    """
    What is to be drawn of a slice.

    Attributes:
        slice: Slice.
        quantity: Units that are to be free in it.
        fewest: Units without which there is a shortage.
        sources: What limits it.
    """

    slice: Slice
    quantity: int
    fewest: int
    sources: Sequence[Source]


class Draw:
    """
    Draws slices from the ledger. For one thread at a time.

    What a transaction has written counts in memory only once it is committed; what is given back, even before. So if it
    is not known whether a commit has succeeded, the ledger may have too much as drawn, until it is written again.

    Args:
        database: Database of the ledger.
        journal: Journal of this process.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, journal: Journal, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._journal = journal
        self._clock = clock

    def draw(self, wants: Mapping[Key, Want], *, lock: AbstractContextManager[Any]) -> dict[Key, ShortageError]:
        """
        Draw what is wanted, and some more, as far as it is there.

        Args:
            wants: What is wanted, by company and name.
            lock: Lock of what is in memory.

        Returns:
            Those of which there is not enough.

        Raises:
            LedgerError: The ledger failed, or the kit is closing; nothing may be used that was not before.
        """
        self._live()
        shortages: dict[Key, ShortageError] = {}
        drawn: dict[Key, int] = {}
        with self._database.transaction() as connection:
            lock_totals(connection)
            if not self._journal.lineage.lives:  # closed while this waited: nobody would give back what it draws
                raise LedgerError(_CLOSED)
            found = rows.rows_of(connection, wants)
            for key, (slice_, quantity, fewest, sources) in wants.items():
                mine = found[key].pop(self._journal.lineage.id, None)
                folded = self._begin(connection, slice_, lock) if mine is None else mine.folded
                others = sum(each.held for each in found[key].values())
                with lock:
                    in_flight = slice_.in_flight()
                    counted = slice_.counted()
                left = [(each.left(connection, key[0]) - (in_flight + counted - folded), each) for each in sources]
                least, source = min(left, key=lambda each: each[0])
                free = least - others  # if nothing of what is free here counts
                with lock:
                    if free < fewest:
                        total = max(slice_.drawn, in_flight + counted)
                        shortages[key] = ShortageError(source, max(0, free), is_held=least >= fewest)
                        slice_.low, slice_.is_scarce = 0, True
                    else:
                        needed = min(max(quantity, slice_.wanted), free)
                        ahead = slice_.ahead(free - needed, of=quantity)
                        total = max(slice_.drawn, in_flight + counted + needed + ahead)
                rates, now = slice_.rates, int(self._clock())
                slice_.is_written = False
                rows.write(connection, self._journal.lineage.id, key, Row(total, folded), rates=rates, now=now)
                drawn[key] = total
        with lock:
            for key, total in drawn.items():
                slice_ = wants[key][0]
                slice_.drawn, slice_.is_begun, slice_.is_written = total, True, True
                slice_.measure()
        return shortages

    def write(self, slices: Iterable[Slice], *, lock: AbstractContextManager[Any]) -> None:
        """
        Write what is drawn of *slices*, after some was given back.

        Args:
            slices: Slices to write.
            lock: Lock of what is in memory.

        Raises:
            LedgerError: The ledger failed; write again.
        """
        by_key = {each.key: each for each in slices}
        if not by_key:
            return
        lineage = self._journal.lineage.id
        gone = []
        with self._database.transaction() as connection:
            lock_totals(connection)
            found = rows.rows_of(connection, by_key)
            for key, slice_ in by_key.items():
                mine = found[key].get(lineage)
                if mine is None:
                    gone.append(slice_)
                    continue
                with lock:
                    in_flight = slice_.in_flight()
                    row = Row(max(slice_.drawn, in_flight + slice_.counted()), mine.folded)
                rows.write(connection, lineage, key, row, rates=slice_.rates, now=int(self._clock()))
                if not row.held:
                    gone.append(slice_)
        with lock:
            for slice_ in by_key.values():
                slice_.is_written = True
            for slice_ in gone:
                slice_.is_begun, slice_.left = False, 0

    def _live(self) -> None:
        if not self._journal.is_open:
            raise LedgerError(_CLOSED)
        try:
            self._journal.lineage.live()
        except OSError as error:
            raise LedgerError(
                f"no units can be drawn, because no file can be created in {self._journal.directory}: {error}. "
                f"Make the directory writable, or free disk space"
            ) from error

    def _begin(self, connection: sa.Connection, slice_: Slice, lock: AbstractContextManager[Any]) -> int:
        """
        Begin to add up what is counted for *slice_*, of which the ledger has no row.

        Returns:
            What is in the ledger of that already.
        """
        company, rates = slice_.key[0], slice_.rates
        followed = {meter: self._journal.follow((company, meter)) for meter in rates}
        with lock:
            slice_.begin(sum(rates[meter] * each.before for meter, each in followed.items()))
        recorded = rows.folded(connection, {each for of_meter in followed.values() for each in of_meter.generations})
        folded = 0
        for meter, of_meter in followed.items():
            for generation, (quantity, path) in of_meter.generations.items():
                # The record is deleted after the file, so the file of what is in the ledger without one is gone by now.
                if generation in recorded or (path is not None and not is_waiting(path)):
                    folded += rates[meter] * quantity
        return folded
