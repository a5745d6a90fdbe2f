"""What this process checks requests against: read from the ledger, or from what another process publishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from meterkit.core.windows import Windows
from meterkit.errors import LedgerError
from meterkit.journal.journal import Journal
from meterkit.publication import blocked_counts
from meterkit.publication.follower import Follower
from meterkit.snapshot.writer import FILE

if TYPE_CHECKING:
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger
    from meterkit.publication.publisher import Publisher
    from meterkit.publication.rules import SnapshotRules
    from meterkit.snapshot.reader import SnapshotSource


class LedgerReader(Protocol):
    """What opens the ledger, when it is first needed."""

    def database(self) -> Database:
        """Return its database."""

    def ledger(self) -> Ledger:
        """Return it."""

    def usage(self) -> UsageByPeriod:
        """Return its usage, by kind of period."""


class RequestFigures:
    """
    Keeps up to date what requests are checked against. For one thread at a time.

    Args:
        reader: What opens the ledger.
        source: Snapshot that requests are checked against.
        rules: What it follows from.
        fingerprint: What must be in the header of a file that this process follows.
        data_dir: Directory of the file.
        clock: Function that returns the time in Unix seconds.
        interval: Seconds between two flushes of the process that publishes.
        journal: Journal of this process.
        windows: Windows in which it counts.
        governor: Governor of the kit, or None.
        plans: Plans of the companies, or None.
        folded: Function that returns the ids of the generations that were folded since it was called last.

    Attributes:
        source: Snapshot that requests are checked against.
        publisher: Publisher of what is read from the ledger; None while another process publishes.
        follower: Follower of what another process publishes.
    """

    def __init__(
        self,
        reader: LedgerReader,
        source: SnapshotSource,
        rules: SnapshotRules,
        fingerprint: bytes,
        *,
        data_dir: Path,
        clock: Callable[[], float],
        interval: float,
        journal: Journal,
        windows: Windows,
        governor: Governor | None,
        plans: CompanyPlans | None,
        folded: Callable[[], Iterable[str]],
    ) -> None:
        self._reader = reader
        self.source, self._rules, self._fingerprint = source, rules, fingerprint
        self._path, self._blocked = data_dir / FILE, data_dir / blocked_counts.DIRECTORY
        self._clock = clock
        self._journal, self._windows = journal, windows
        self._governor, self._plans = governor, plans
        self._folded = folded
        self.publisher: Publisher | None = None
        self.follower = Follower(
            source,
            self._path,
            fingerprint,
            interval=interval,
            journal=journal,
            windows=windows,
            governor=governor,
            plans=plans,
        )

    def refresh(self, *, leads: bool) -> None:
        """
        Read the ledger.

        Args:
            leads: Whether to publish what was read to the processes that follow this one.

        Raises:
            LedgerError: The ledger could not be read; what was read before stays.
        """
        database, journal, governor = self._reader.database, self._journal, self._governor
        if journal.publishes and governor is not None:
            journal.arrived(self._reader.ledger().folded(journal.published()))
        folded = journal.folded()  # first: what is folded while the ledger is read may not be in what was read
        publisher = self._publisher_of_ledger()
        self.follower.stop()
        try:
            if self._plans is not None:
                self._plans.refresh(database())  # limits depend on them
                self._plans.follows = False  # only now: until then, requests went by what was published
            figures = publisher.publish(
                self._path if leads else None,
                int(self._clock()),
                edges=self._windows.boundaries,
                past=self._windows.past,
                folded=self._folded,
            )
        except LedgerError:
            publisher.beat()
            raise
        self.source.use(figures)
        if governor is not None:
            governor.renew(journal, folded)
            governor.blocked.add(blocked_counts.collect(self._blocked) if leads else {})
            governor.write(database, journal)

    def follow(self) -> bool:
        """Go on with what the process that flushes publishes; return whether there is anything."""
        if not self.follower.follow():
            return False
        self.withdraw()
        self.publisher = None
        if self._governor is not None:
            with suppress(OSError):  # the counts are left with the next flush
                self._governor.write(
                    self._reader.database,
                    self._journal,
                    leave=lambda counts: blocked_counts.leave(self._blocked, counts),
                )
        return True

    def withdraw(self) -> None:
        """Publish no longer: processes that start wait for one that does."""
        if self.publisher is not None:
            self.publisher.close()

    def _publisher_of_ledger(self) -> Publisher:
        if self.publisher is None:
            reader = self._reader
            self.publisher = self._rules.publisher(reader.database(), reader.usage(), self._fingerprint)
        return self.publisher
