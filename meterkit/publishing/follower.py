"""What a process does that does not flush: follow the snapshot that another one publishes. It needs no ledger."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meterkit.core.windows import Windows
from meterkit.journal.handed_over import HandedOver
from meterkit.journal.journal import Journal
from meterkit.snapshot.file_format import RING_IDS
from meterkit.snapshot.past_edges import PastEdges
from meterkit.snapshot.reader import SnapshotFile, SnapshotSource

if TYPE_CHECKING:
    from meterkit.governance.company_plans import CompanyPlans
    from meterkit.governance.governor import Governor

STALE_SECONDS = 20.0
"""Age of figures that nobody has looked after, besides the flush interval: the process that published them hangs."""

PATIENCE_SECONDS = 15.0
"""How long the first figures are waited for, while another process has the lock: it may have just begun."""


class _Noted(NamedTuple):
    file: SnapshotFile
    round: int
    folded: Collection[HandedOver]


class Follower:
    """
    Keeps this process up to date with what another one publishes.

    Args:
        source: Snapshot of this process.
        path: Path of the file.
        fingerprint: What must be in its header.
        interval: Seconds between two flushes of the process that publishes.
        journal: Journal of this process.
        windows: Windows in which it counts.
        governor: Governor of the kit, or None.
        plans: Plans of the companies, or None.
    """

    def __init__(
        self,
        source: SnapshotSource,
        path: Path,
        fingerprint: bytes,
        *,
        interval: float,
        journal: Journal,
        windows: Windows,
        governor: Governor | None,
        plans: CompanyPlans | None,
    ) -> None:
        self._source = source
        self._path, self._fingerprint = path, fingerprint
        self._within = STALE_SECONDS + 2 * interval
        self._journal = journal
        self._windows = windows
        self._governor = governor
        self._plans = plans
        self._past = PastEdges(source)
        self._edges: tuple[SnapshotFile, int] | None = None
        self._ring: tuple[SnapshotFile, int] | None = None
        self._noted: _Noted | None = None
        self._since: float | None = None

    def follow(self) -> bool:
        """Go on with what is published; return whether anything is, by a process that looks after it."""
        if not self._source.look(self._path, self._fingerprint, within=self._within):
            return False
        file = self._source.current
        assert file is not None
        self._since = None
        if self._edges != (file, file.edges_at):
            self._edges = (file, file.edges_at)
            self._windows.boundaries = file.edges()
        self._windows.past = self._past
        self._journal.cardinality.knows = self._knows
        if self._plans is not None:
            self._plans.follow()
        self.catch_up()
        self._note_rounds(file)
        if self._governor is not None:
            self._governor.follow(self._journal, self.catch_up)
        return True

    @property
    def is_patient(self) -> bool:
        """Whether to wait a little longer for the first figures: who has the lock has perhaps just begun."""
        if self._source.is_foreign:
            return False
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since < PATIENCE_SECONDS

    def stop(self) -> None:
        """Do not rely on what was read any longer: this process reads the ledger."""
        self._edges = self._ring = self._noted = None

    def catch_up(self) -> None:
        """Have quotas not count twice what is in the figures by now. Safe in any thread."""
        file = self._source.current
        if file is None:
            return
        ring = self._ring
        now = file.folded
        if ring is None or ring[0] is not file:
            ring = (file, max(0, now - RING_IDS))
        if now == ring[1] and ring is self._ring:
            return
        ids = file.folded_since(ring[1])
        if ids:
            self._journal.seen([each for each in self._journal.handed_over() if each.id in ids], own=False)
        self._ring = (file, now)

    def _note_rounds(self, file: SnapshotFile) -> None:
        """
        Have quotas not count twice what is in the ledger, but not named in the file: its former writer was killed.

        What was in the ledger before a round of the writer began is in the figures when that round is done.
        """
        done, _ = file.rounds
        noted = self._noted
        if noted is not None and noted.file is file and done > noted.round:
            self._journal.seen(noted.folded)
            noted = self._noted = None
        if noted is None or noted.file is not file:
            folded = self._journal.folded()
            _, begun = file.rounds  # after that
            self._noted = _Noted(file, begun, folded)

    def _knows(self, company: str) -> bool:
        file = self._source.current
        return file is not None and file.has(company)
