"""Fold generations of the journal into the ledger: this process's own, and those of others, which are orphans."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted
from meterkit.errors import LedgerError
from meterkit.journal import recovery
from meterkit.journal.file_format import ForeignFileError, intact
from meterkit.journal.journal import LONGEST_WAY_SECONDS, Journal

if TYPE_CHECKING:  # SQLAlchemy is imported by a thread, or by a call that needs it
    from typing import TypeAlias

    from sqlalchemy import Connection

    from meterkit.accounts.period_edges import PeriodEdges
    from meterkit.jetstream.publisher import JetStreamPublisher
    from meterkit.journal.generation import Generation
    from meterkit.ledger.daily_totals import UsageRow
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.ledger.record_keys import Conflict

    Spend: TypeAlias = Callable[[Connection, Iterable[UsageRow], Mapping[tuple[str, str], int]], object]

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
        publisher: Function that returns what publishes to JetStream; None to fold into the ledger.
        spend: Function that spends what usage is worth, in the transaction that folds it; None without wallets.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        problems: Problems,
        *,
        database: Callable[[], Database],
        edges: Callable[[], PeriodEdges],
        publisher: Callable[[], JetStreamPublisher] | None,
        clock: Callable[[], float],
        spend: Spend | None = None,
    ) -> None:
        self._journal = journal
        self._problems = problems
        self._database = database
        self._edges = edges
        self._publisher = publisher
        self._clock = clock
        self._spend = spend
        self._folded: list[str] = []  # generations whose files are removed
        self._unpublished: list[str] = []
        self._on_their_way: dict[str, float] = {}  # published to JetStream, and when, ``time.monotonic()`` seconds

    def fold_retired(self) -> None:
        """
        Fold this process's own retired generations.

        Raises:
            LedgerError: The ledger failed; they stay in the journal.
        """
        from meterkit.ledger.database import UnstorableError

        for generation in self._journal.retired():
            try:
                is_published = self._publish(generation, intact(generation.cells()))
                if not is_published:
                    self._ledger().fold(
                        generation.id,
                        self._edges().placed(intact(generation.cells()), since=generation.begun),
                        settle=self._settle,
                        conflict=self._note_conflict,
                    )
            except (UnstorableError, ForeignFileError) as error:
                self._journal.give_up(generation, str(error))
                continue
            if is_published:
                self._note_on_its_way(generation.id)
            else:
                self._unpublished.append(generation.id)
            self._journal.remember_companies(generation)
            self._journal.forget(generation, published=is_published)
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
        self._give_back_of_ended()

    def take_folded(self) -> list[str]:
        """
        Return the ids of the generations that were folded since the last call.

        Raises:
            LedgerError: The ledger cannot be asked what collectors have folded.
        """
        arrived: set[str] = set()
        if self._on_their_way:
            arrived = self._ledger().folded(self._on_their_way)
            oldest = time.monotonic() - LONGEST_WAY_SECONDS
            left = {each: at for each, at in self._on_their_way.items() if each not in arrived and at > oldest}
            self._on_their_way = left
        folded, self._unpublished = [*self._unpublished, *arrived], []
        return folded

    def _note_on_its_way(self, generation: str) -> None:
        if self._journal.watches:
            self._on_their_way[generation] = time.monotonic()

    def forget_folded(self) -> None:
        """Delete the ledger's records of folded generations, once a removed file cannot come back after a power cut."""
        folded = list(self._folded)
        if folded and recovery.sync(self._journal.directory):
            # A copy of what was published may still come.
            forgotten = folded if self._publisher is None else self._publisher().forgettable(folded)
            del self._folded[: len(folded)]
            self._ledger().forget(forgotten)

    def _settle(self, connection: Connection, counts: Mapping[str, Iterable[UsageRow]], rows: list[UsageRow]) -> None:
        """Settle what was drawn ahead for *counts*, which is usage by generation, and spend what *rows* are worth."""
        from meterkit.slices.rows import settle, wallets_in

        covered = settle(connection, counts)
        if self._spend is not None:
            self._spend(connection, rows, wallets_in(covered))

    def _give_back_of_ended(self) -> None:
        """Give back what processes have drawn of quotas and wallets that have ended, once all is folded."""
        for lineage in self._journal.ended():
            if lineage.is_folded:
                from meterkit.slices import rows

                with self._database().transaction() as connection:
                    rows.give_back(connection, lineage.id)
                lineage.remove()

    def _publish(self, generation: Generation | recovery.Orphan, cells: Iterable[Counted]) -> bool:
        """
        Publish *generation*, unless this folds into the ledger; return whether JetStream has it.

        Raises:
            LedgerError: It is not certain that JetStream has it.
        """
        if self._publisher is None:
            return False
        from meterkit.jetstream.client import TooLargeError

        if isinstance(generation, recovery.Orphan) and not generation.cells:
            return True
        with suppress(OSError):  # it matters only to a kit that is built without jetstream= later
            generation.mark_published()
        try:
            self._publisher().publish(generation.id, cells, begun=generation.begun)
        except TooLargeError:  # rare, and the ledger takes it as well
            return False
        return True

    def _ledger(self) -> Ledger:
        from meterkit.ledger.ledger import Ledger

        return Ledger(self._database(), clock=self._clock)

    def _fold_batch(self, left: deque[recovery.Orphan]) -> None:
        """Fold orphans in one transaction; one by one if the ledger cannot store one of them. All are released."""
        failed: Exception | None = None
        try:
            if len(left) > 1 and self._publisher is None and self._is_folded(left):
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
            self._ledger().fold_many(by_id, settle=self._settle, conflict=self._note_conflict)
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
            if self._publish(orphan, orphan.cells):
                self._note_on_its_way(orphan.id)
            else:
                self._ledger().fold(orphan.id, self._placed(orphan), settle=self._settle, conflict=self._note_conflict)
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
            # If this has folded what another process may have published, a collector may come to it, too.
            if self._publisher is not None or not orphan.published:
                self._folded.append(orphan.id)

    def _note_conflict(self, found: Conflict) -> None:
        self._problems.note("key_reused", found.message, meter=found.meter, company=found.company)


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
