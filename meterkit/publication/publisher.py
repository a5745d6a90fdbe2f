"""Publish what requests are checked against, after each flush: from the ledger into the snapshot that processes map."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.governance.figures import detail_of, flags_of, values_of
from meterkit.snapshot.reader import SnapshotFile
from meterkit.snapshot.table import Default
from meterkit.snapshot.writer import SnapshotWriter

if TYPE_CHECKING:  # a kit without governance needs most of these not
    from meterkit.accounts.period_usage import UsageByPeriod
    from meterkit.core.periods import BillingCycle
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.limits.limit_cache import LimitCache
    from meterkit.governance.policy import Governance
    from meterkit.governance.refusal import Block
    from meterkit.ledger.database import Database
    from meterkit.metering.meter import Meter
    from meterkit.pricing.price import Price
    from meterkit.publication.snapshot_builder import QuotaUsage, Snapshot, SnapshotBuilder

T = TypeVar("T")

RETRY_SECONDS = 60.0
"""How long no file is tried again after one could not be created, as on a full disk."""

COMPANIES_PER_PAUSE = 50
"""Companies whose figures are written in about a millisecond."""


class Publisher:
    """
    Publishes figures of all companies. For one thread at a time.

    Args:
        database: Database of the ledger.
        usage: Usage of this process's ledger, by kind of period.
        fingerprint: What the figures follow from, for the header of the file.
        governance: Rules of the kit with the quotas of its plans, or None.
        limits: Limit caches, in the order of the quotas.
        prices: Prices of the kit, for companies without a known subscription.
        meters: Meters of the kit, by name.
        plans: Plans of the companies, or None.
        problems: Where is reported that no file can be created.
    """

    def __init__(
        self,
        database: Database,
        usage: UsageByPeriod,
        fingerprint: bytes,
        *,
        governance: Governance | None,
        limits: Iterable[LimitCache],
        prices: Iterable[Price],
        meters: Mapping[str, Meter],
        plans: CompanyPlans | None,
        problems: Problems,
    ) -> None:
        self._fingerprint = fingerprint
        self._limits = tuple(limits)
        self._plans = plans
        self._problems = problems
        self._periods = usage["period"].periods
        self.builder: SnapshotBuilder | None = None
        if governance is not None:
            from meterkit.publication.snapshot_builder import SnapshotBuilder

            self.builder = SnapshotBuilder(
                database, governance, usage=usage, limits=self._limits, prices=prices, meters=meters
            )
        self._writer: SnapshotWriter | None = None
        self._path: Path | None = None
        self._next_try = time.monotonic()
        self._known: set[str] = set()
        self._overdue: set[str] = set()
        self._blocks: Mapping[str, Block] = {}
        self._warned: frozenset[str] = frozenset()
        self._quotas: tuple[QuotaUsage, ...] = ()
        self._cycles: Mapping[str, BillingCycle] = {}
        self._of_meters: Mapping[str, Mapping[str, BillingCycle]] = {}
        self._past: Mapping[str, tuple[int, ...]] = {}
        self._changed: set[str] = set()  # companies whose figures are to be written

    def publish(
        self,
        path: Path | None,
        now: int,
        *,
        edges: Mapping[str, tuple[int, ...]],
        past: Mapping[str, tuple[int, ...]],
        folded: Callable[[], Iterable[str]] = tuple,
    ) -> SnapshotFile:
        """
        Read what has changed, and publish it; return what this process reads.

        Args:
            path: Path of the file for all processes; None for figures of this process alone.
            now: Current time, Unix seconds.
            edges: Boundaries of the current and the next hours, by company, Unix seconds.
            past: Boundaries of the last 35 days, by company, Unix seconds; another object whenever they were read anew.
            folded: Function that returns the ids of the generations that were folded since it was called last.

        Raises:
            LedgerError: The ledger could not be read; what was published before stays.
        """
        if self._writer is not None:
            self._writer.beat()
            self._writer.begin()
        ids = list(folded())  # first: what is folded while the ledger is read may not be in what is read
        if self.builder is not None:
            self._note_snapshot(self.builder.build(now))
            self._changed |= self.builder.changed
            self.builder.changed = set()
        self._note_cycles()
        if past is not self._past:
            self._changed |= _differing(self._past, past)
            self._past = past
        for limits in self._limits:
            self._changed |= limits.take_changed()
        if self._plans is not None:
            self._changed |= self._plans.take_changed()
        writer = self._open(path)
        try:
            self._write(writer, edges, ids)
        except OSError as error:
            writer = self._alone(error)
            self._write(writer, edges, ids)
        self._changed = set()
        return writer.reader()

    def beat(self) -> None:
        """Tell other processes that this one still looks after the figures, though the ledger failed just now."""
        if self._writer is not None:
            self._writer.beat()

    def close(self) -> None:
        """Remove the file: processes that start wait for one whose writer lives."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, path: Path | None) -> SnapshotWriter:
        if self._writer is not None and (path == self._path or (path and time.monotonic() < self._next_try)):
            return self._writer
        self.close()
        try:
            return self._begin(path)
        except OSError as error:
            return self._alone(error)

    def _begin(self, path: Path | None) -> SnapshotWriter:
        """Begin a file, in which everything is still to be written."""
        values = values_of([(0, limits.known("")) for limits in self._limits], is_blocked=False)
        everyone = self._everyone()
        writer = SnapshotWriter(path, self._fingerprint, default=Default(0, tuple(values)), companies=len(everyone))
        self._changed |= everyone
        self._writer, self._path = writer, path
        return writer

    def _alone(self, error: OSError) -> SnapshotWriter:
        """Go on in memory: the other processes then read the ledger for themselves."""
        self._problems.note(
            "snapshot_not_shared",
            f"what requests are checked against cannot be written to data_dir=, so each process reads the ledger for "
            f"itself: {error}",
        )
        self.close()
        self._next_try = time.monotonic() + RETRY_SECONDS
        return self._begin(None)

    def _write(self, writer: SnapshotWriter, edges: Mapping[str, tuple[int, ...]], folded: list[str]) -> None:
        for company in threads.yielding(self._changed, every=COMPANIES_PER_PAUSE):
            writer.beat()  # there may be a million
            block = self._blocks.get(company)
            writer.put(
                company,
                flags=flags_of(
                    is_known=company in self._known,
                    is_overdue=company in self._overdue,
                    is_blocked=block is not None,
                    is_warned=company in self._warned,
                ),
                plan=0 if self._plans is None else self._plans.number_of(company),
                values=values_of(
                    [(each.used.get((company, each.meter), 0), each.limits.known(company)) for each in self._quotas],
                    is_blocked=block is not None,
                ),
                detail=detail_of(
                    block=block,
                    cycle=self._cycles.get(company),
                    of_meters=self._of_meters.get(company, {}),
                    past=self._past.get(company, ()),
                ),
            )
        writer.publish(edges=edges, folded=folded)

    def _note_snapshot(self, found: Snapshot) -> None:
        known, overdue = found.standings.known, set(found.standings.overdue)
        self._changed |= (self._known ^ known) | (self._overdue ^ overdue) | (self._warned ^ found.warned)
        self._changed |= _differing(self._blocks, found.blocks)
        self._known, self._overdue, self._warned = known, overdue, found.warned
        self._blocks, self._quotas = found.blocks, found.quotas

    def _note_cycles(self) -> None:
        cycles, of_meters = self._periods.cycles
        if cycles is not self._cycles or of_meters is not self._of_meters:
            self._changed |= _differing(self._cycles, cycles) | _differing(self._of_meters, of_meters)
            self._cycles, self._of_meters = cycles, of_meters

    def _everyone(self) -> set[str]:
        """Return all companies of which something is known."""
        companies = self._known | self._blocks.keys() | self._past.keys() | self._cycles.keys() | self._of_meters.keys()
        companies |= {company for quota in self._quotas for company, meter in quota.used if meter == quota.meter}
        return companies if self._plans is None else companies | self._plans.names.keys()


def _differing(before: Mapping[str, T], after: Mapping[str, T]) -> set[str]:
    """Return the keys whose values are not the same."""
    changed = {key for key in threads.yielding(after) if before.get(key) != after[key]}
    return changed | (before.keys() - after.keys())
