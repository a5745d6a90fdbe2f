"""
Where billing periods begin and end, as far as counts have to be split there.

A process counts into the whole hour until it has read that a period begins within it. The fold knows better: what was
counted in a generation that was begun after that moment belongs to the new period as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from meterkit.accounts.accounts import Accounts
from meterkit.core.usage_key import Counted, UsageKey
from meterkit.core.validation import OLDEST_SECONDS
from meterkit.core.windows import HOUR, Windows, hour_of
from meterkit.ledger import schema
from meterkit.ledger.database import Database

READ_SECONDS = 60.0
"""Interval at which the periods that end within the hour are read, even if no subscription has changed."""


class PeriodEdges:
    """
    Keeps `Windows` up to date, and corrects the windows of what was counted before. For the thread that flushes.

    Args:
        windows: Windows in which this process counts.
        clock: Function that returns Unix seconds.
        is_patient: Whether a change may take `READ_SECONDS` to become known, because somebody else places what was
            counted before, and the ledger is not to be asked more often.
    """

    def __init__(self, windows: Windows, *, clock: Callable[[], float], is_patient: bool = False) -> None:
        self._windows = windows
        self._clock = clock
        self._is_patient = is_patient
        self._since = 0
        self._next_read = time.monotonic()
        self._version: tuple[int, ...] = ()

    def read(self, database: Database, *, since: float | None = None) -> None:
        """
        Read the edges of this hour, the last and the next, if a subscription may have changed or a minute has passed.

        Args:
            database: Database of the ledger.
            since: Unix time at which the oldest generation was begun that is to be placed; None if none waited.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        now = int(self._clock())
        recent = hour_of(now) - HOUR
        earliest = recent if since is None else min(recent, hour_of(max(int(since), now - OLDEST_SECONDS)))
        is_due = time.monotonic() >= self._next_read or earliest < self._since
        if self._is_patient and not is_due:
            return
        subscriptions, accounts = schema.subscriptions.c, schema.accounts.c
        with database.snapshot() as connection:
            row = connection.execute(
                sa.select(
                    sa.select(sa.func.max(subscriptions.checked_at)).scalar_subquery(),
                    sa.select(sa.func.max(accounts.linked_at)).scalar_subquery(),
                )
            ).one()
        version = tuple(int(each or 0) for each in row)
        if version == self._version and not is_due:
            return
        self._windows.boundaries = Accounts(database, clock=self._clock).boundaries(since=earliest)
        self._since = earliest
        # Times are whole seconds: another change within this second would look the same.
        self._version = version if max(version) < now else ()
        self._next_read = time.monotonic() + READ_SECONDS

    def placed(self, counts: Iterable[Counted], *, since: float) -> Iterable[Counted]:
        """
        Return *counts* in the right windows.

        Args:
            counts: Counts of a generation.
            since: Unix time before which none of them was counted.
        """
        edges = {company: found for company, found in self._windows.boundaries.items() if min(found) <= since}
        if not edges:
            return counts
        return _moved(counts, edges, since)


def _moved(counts: Iterable[Counted], edges: dict[str, tuple[int, ...]], since: float) -> Iterable[Counted]:
    moved: dict[UsageKey, tuple[int, int]] = {}
    for each in counts:
        (meter, event_name, company, user, window), quantity, last_used = each
        if company not in edges:
            yield each
            continue
        # What record(at=...) counted may be older than the generation; its time says so.
        until = min(since, last_used, hour_of(window) + HOUR - 1)
        key = (meter, event_name, company, user, max([window, *(edge for edge in edges[company] if edge <= until)]))
        before, latest = moved.get(key, (0, 0))
        moved[key] = before + quantity, max(latest, last_used)
    for key, (quantity, last_used) in moved.items():
        yield key, quantity, last_used
