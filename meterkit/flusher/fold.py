"""Fold generations of the journal into the ledger: this process's own, and those of others, which are orphans."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted
from meterkit.errors import LedgerError
from meterkit.journal import recovery
from meterkit.journal.file_format import ForeignFileError, intact
from meterkit.journal.journal import Journal

if TYPE_CHECKING:  # SQLAlchemy is imported by a thread, or by a call that needs it
    from meterkit.accounts.period_edges import PeriodEdges
    from meterkit.governance.reservations import Reservations
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.ledger.record_keys import Conflict


MOST_ORPHANS = 50
"""Generations of other processes that are folded in one transaction, at most."""

MOST_CELLS = 20_000
"""Counts after which no further generation is added to a transaction."""


class Folder:
    """
    Moves counts from the journal's files to the ledger. For one thread at a time.

    Args:
        journal: Journal of this process.
        problems: Where problems are reported.
        database: Function that opens and returns the ledger's database.
        edges: Function that returns the edges of billing periods, which decide on windows.
        reservations: Function that returns the units that this process has reserved, or None.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        problems: Problems,
        *,
        database: Callable[[], Database],
        edges: Callable[[], PeriodEdges],
        reservations: Callable[[], Reservations | None],
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._problems = problems
        self._database = database
        self._edges = edges
        self._reservations = reservations
        self._clock = clock
        self._folded: list[str] = []  # generations whose files are removed
        self._unpublished: list[str] = []

    def fold_retired(self) -> None:
        """
        Fold this process's own retired generations.

        Raises:
            LedgerError: The ledger failed; they stay in the journal.
        """
        from meterkit.ledger.database import UnstorableError

        for generation in self._journal.retired():
            reservations = self._reservations()
            try:
                self._ledger().fold(
                    generation.id,
                    self._edges().placed(intact(generation.cells()), since=generation.begun),
                    folded=None if reservations is None else reservations.move,
                    conflict=self._note_conflict,
                )
            except (UnstorableError, ForeignFileError) as error:
                self._journal.give_up(generation, str(error))
                continue
            self._unpublished.append(generation.id)
            self._journal.remember_companies(generation)
            self._journal.forget(generation)
            self._folded.append(generation.id)
            self._journal.prepare()  # counts may arrive faster than they are folded

    def fold_orphans(self) -> None:
        """
        Fold what other processes have handed over, or left when they ended.

        Raises:
            LedgerError: The ledger failed; they stay in the journal.
        """
        failed: Exception | None = None
        for batch in _batches(self._journal.orphans()):
            try:
                self._fold_batch(deque(batch))
            except LedgerError:  # it would fail for the others, too
                raise
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def take_folded(self) -> list[str]:
        """Return the ids of the generations that were folded since the last call."""
        folded, self._unpublished = self._unpublished, []
        return folded

    def forget_folded(self) -> None:
        """Delete the ledger's records of folded generations, once a removed file cannot come back after a power cut."""
        folded = list(self._folded)
        if folded and recovery.sync(self._journal.directory):
            self._ledger().forget(folded)
            del self._folded[: len(folded)]

    def _ledger(self) -> Ledger:
        from meterkit.ledger.ledger import Ledger

        return Ledger(self._database(), clock=self._clock)

    def _fold_batch(self, left: deque[recovery.Orphan]) -> None:
        """Fold orphans in one transaction; one by one if the ledger cannot store one of them. All are released."""
        failed: Exception | None = None
        try:
            if len(left) > 1 and self._is_folded(left):
                while left:
                    self._remove(left.popleft())
            while left:
                try:
                    self._fold_orphan(left.popleft())
                except LedgerError:
                    raise
                except Exception as error:
                    failed = failed or error
        finally:
            for orphan in left:
                orphan.release()
        if failed is not None:
            raise failed

    def _is_folded(self, orphans: Iterable[recovery.Orphan]) -> bool:
        """Fold *orphans* in one transaction, and return whether that was possible."""
        from meterkit.ledger.database import UnstorableError

        by_id: dict[str, Iterable[Counted]] = {}
        for orphan in orphans:
            by_id.setdefault(orphan.id, self._placed(orphan))
        try:
            self._ledger().fold_many(by_id, conflict=self._note_conflict)
            self._unpublished += by_id
        except UnstorableError:
            return False
        except LedgerError:
            raise
        except Exception:  # one by one, it concerns one of them only
            return False
        return True

    def _fold_orphan(self, orphan: recovery.Orphan) -> None:
        from meterkit.ledger.database import UnstorableError

        try:
            self._ledger().fold(orphan.id, self._placed(orphan), conflict=self._note_conflict)
            self._unpublished.append(orphan.id)
        except UnstorableError as error:
            orphan.keep_refused(str(error), self._problems)
            return
        except BaseException:
            orphan.release()
            raise
        self._remove(orphan)

    def _placed(self, orphan: recovery.Orphan) -> Iterable[Counted]:
        return self._edges().placed(orphan.cells, since=orphan.begun)

    def _remove(self, orphan: recovery.Orphan) -> None:
        """Remove the file of *orphan*, whose counts are in the ledger."""
        if orphan.torn is not None:
            orphan.keep(orphan.torn, self._problems)
            return
        try:
            orphan.discard()
        except OSError as error:  # the ledger remembers that it is folded
            message = f"{orphan.path} is in the ledger, but cannot be removed: {error}"
            self._problems.note("journal_unreadable", message, level=logging.ERROR)
        else:
            self._folded.append(orphan.id)

    def _note_conflict(self, found: Conflict) -> None:
        self._problems.note(
            "key_reused",
            f"record(key={found.key!r:.100}) of {found.meter} for {found.company!r:.100} counted {found.counted:,}, "
            f"and was called again with {found.ignored:,}, which does not count: give each piece of work its own key",
            meter=found.meter,
            company=found.company,
        )


def _batches(orphans: Iterable[recovery.Orphan]) -> Iterator[list[recovery.Orphan]]:
    """Yield *orphans* in batches, each for one transaction, which others wait for: most of their rows are the same."""
    batch: list[recovery.Orphan] = []
    cells = 0
    try:
        for orphan in orphans:
            batch.append(orphan)
            cells += len(orphan.cells)
            if len(batch) >= MOST_ORPHANS or cells >= MOST_CELLS:
                full, batch, cells = batch, [], 0
                yield full
    except BaseException:
        for orphan in batch:
            orphan.release()
        raise
    if batch:
        yield batch
