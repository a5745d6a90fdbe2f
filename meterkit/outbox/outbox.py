"""
Transactional outbox of meter events: pending, sent, rejected or uncertain.

`meterkit.outbox.seal` writes reports, and nobody changes what they say. One process at a time works here: the one
with the lease, which every write renews.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold
from meterkit.outbox.reports import COLUMNS, Report, State, report_of

UNKNOWN_SECONDS = 23 * 3600
"""Stripe: identifiers are unique for at least 24 h. After that, sending again what may be there could bill twice."""

STEP_SECONDS = 600
"""Stripe's clocks may differ among themselves, hardly by so much."""


@dataclass(slots=True)
class Summary:
    """
    What one pass of the reporter did.

    Attributes:
        sealed: Meter events written into the outbox.
        sent: Events that Stripe has.
        invoiced: Usage that came after its invoice was final, and is an item of the next one.
        rejected: Events that Stripe refuses for good; kept, and shown by ``kit.health()``.
        uncertain: Events of which it is not known, for 23 hours now, whether Stripe has them.
        postponed: Events to be sent in the next pass.
        error: Why events were postponed, or why nothing could be reported; empty if all went well.
    """

    sealed: int = 0
    sent: int = 0
    invoiced: int = 0
    rejected: int = 0
    uncertain: int = 0
    postponed: int = 0
    error: str = ""

    @property
    def trouble(self) -> str:
        """Why not all that could be sent was; empty if it was, or is another process's to send."""
        return self.error if self.postponed or self.rejected or self.uncertain else ""

    def enter(self, report: Report) -> None:
        """Add what became of *report*."""
        if report.state != "pending":
            setattr(self, report.state, getattr(self, report.state) + 1)
        self.error = report.error or self.error


@dataclass(frozen=True, slots=True)
class UncertainReports:
    """
    Reports that Stripe may have or not, for one customer, meter and hour.

    Attributes:
        event_name: Stripe's name for the meter.
        customer: The Stripe customer.
        hour: The unix second in which it begins.
        uncertain: Reports whose outcome is not known.
        claimed: Reports of which Stripe said that it has had the identifier, after an attempt without an answer.
        sent: The quantity of all other reports of this place, which Stripe has.
        attempted_at: The latest attempt at any of them.
        moving: One of the place was attempted lately, and its outcome is not known either.
    """

    event_name: str
    customer: str
    hour: int
    uncertain: tuple[Report, ...]
    claimed: tuple[Report, ...]
    sent: int
    attempted_at: int
    moving: bool


class Outbox:
    """
    The reports of a ledger.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def pending(self) -> Iterator[Report]:
        """What is to be sent; what failed least comes first, so that one bad event holds up no other."""
        table = schema.reports
        with self._database.snapshot() as connection:
            ids = connection.scalars(
                sa.select(table.c.id).filter_by(state="pending").order_by(table.c.attempts, table.c.id)
            ).all()
        for start in range(0, len(ids), BATCH):
            portion = ids[start : start + BATCH]
            with self._database.snapshot() as connection:
                rows = connection.execute(sa.select(*COLUMNS).where(_among(portion), table.c.state == "pending"))
                found = {row.id: report_of(row) for row in rows.all()}
            yield from (found[each] for each in portion if each in found)

    def waiting(self) -> int:
        """How many reports are to be sent."""
        with self._database.snapshot() as connection:
            query = sa.select(sa.func.count()).select_from(schema.reports).filter_by(state="pending")
            return connection.scalar(query) or 0

    def reports(self, *, state: State | None = None, limit: int | None = None) -> list[Report]:
        """All reports, or those in one state, oldest first, so many at most."""
        query = sa.select(*COLUMNS).order_by(schema.reports.c.id).limit(limit)
        if state is not None:
            query = query.filter_by(state=state)
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def idle(self) -> bool:
        """There is nothing to send, and nothing to look into."""
        table = schema.reports
        work = sa.select(table.c.id).where(sa.or_(table.c.state == "pending", table.c.unknown_since.is_not(None)))
        with self._database.snapshot() as connection:
            return connection.scalar(work.limit(1)) is None

    def doubt_old_attempts(self, lease: Lease, *, now: int) -> None:
        """
        Hold what may be at Stripe, and has been for too long to be sent again: make it ``uncertain``.

        Also what was sent in a future, by a clock that was wrong: then it cannot be told how long that is.

        Raises:
            LeaseLostError: Another process reports now.
        """
        since = schema.reports.c.unknown_since
        untold = sa.or_(since <= now - UNKNOWN_SECONDS, since > now + STEP_SECONDS)
        aged = sa.update(schema.reports).where(schema.reports.c.state == "pending", untold)
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(aged.values(state="uncertain"))

    def doubts(self, *, since: int) -> list[UncertainReports]:
        """Where reports are ``uncertain`` or to be verified, and were not compared with Stripe's sums after *since*."""
        table = schema.reports
        unsure = sa.select(*COLUMNS).where(table.c.unknown_since.is_not(None), table.c.state.in_(["uncertain", "sent"]))
        unsure = unsure.where(sa.or_(table.c.compared_at.is_(None), table.c.compared_at <= since))
        with self._database.snapshot() as connection:
            asked: dict[tuple[str, str, int], None] = {}
            for row in connection.execute(unsure.order_by(table.c.id).limit(BATCH)):
                asked[row.event_name, row.customer, hour_of(row.window)] = None
            return [self._doubt(connection, *place) for place in asked]

    def _doubt(self, connection: sa.Connection, event_name: str, customer: str, hour: int) -> UncertainReports:
        window = schema.reports.c.window
        place = sa.select(*COLUMNS).filter_by(event_name=event_name, customer=customer)
        reports = [report_of(row) for row in connection.execute(place.where(window >= hour, window < hour + HOUR))]
        return UncertainReports(
            event_name=event_name,
            customer=customer,
            hour=hour,
            uncertain=tuple(each for each in reports if each.state == "uncertain"),
            claimed=tuple(each for each in reports if each.state == "sent" and each.unknown_since is not None),
            sent=sum(each.quantity for each in reports if each.state == "sent" and each.unknown_since is None),
            attempted_at=max((each.attempted_at or each.unknown_since or 0) for each in reports),
            moving=any(each.state == "pending" and each.unknown_since is not None for each in reports),
        )

    def doubt_about(self, report: Report) -> UncertainReports:
        """The question whether Stripe has *report*, which was sent, still."""
        with self._database.snapshot() as connection:
            doubt = self._doubt(connection, report.event_name, report.customer, hour_of(report.window))
        return replace(doubt, uncertain=(*doubt.uncertain, report), sent=doubt.sent - report.quantity)

    def begin(self, lease: Lease, reports: list[Report], *, now: int) -> list[Report]:
        """
        Note that *reports* are about to be sent: from now on, their outcome is unknown until they are settled.

        Where that has become too long ago in the meantime, it is ``uncertain``, and must not be sent.

        Raises:
            LeaseLostError: Another process reports now; nothing was noted.
        """
        old = [each for each in reports if each.unknown_since and now - each.unknown_since >= UNKNOWN_SECONDS]
        held = self.note(lease, old, state="uncertain") if old else []
        too_old = {each.id for each in held}
        begun = [
            each._replace(
                attempts=each.attempts + 1,
                attempted_at=now,
                unknown_since=now if each.unknown_since is None else each.unknown_since,
            )
            for each in reports
            if each.id not in too_old
        ]
        table = schema.reports
        changes: dict[Any, Any] = {
            "attempts": table.c.attempts + 1,
            "attempted_at": now,
            "unknown_since": sa.func.coalesce(table.c.unknown_since, now),
        }
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            mine = sa.update(table).where(_among([each.id for each in begun]))
            connection.execute(mine.values(changes))
        return [*held, *begun]

    def settle(
        self, lease: Lease, reports: Iterable[Report], state: State, *, error: str = "", **changes: Any
    ) -> list[Report]:
        """The fate of *reports* is known: Stripe has them, or refuses them for good, or nobody can tell."""
        return self.note(lease, reports, state=state, error=error, settled_at=int(self._clock()), **changes)

    def note(
        self, lease: Lease, reports: Iterable[Report], *, settled_at: int | None = None, **changes: Any
    ) -> list[Report]:
        """
        Write down what is known of *reports* now, all or nothing.

        Raises:
            LeaseLostError: Another process reports now.
        """
        changed = [report._replace(**changes) for report in reports]
        row = sa.update(schema.reports).where(_among([report.id for report in changed]))
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(row.values(settled_at=settled_at, **changes))
        return changed


def _among(ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """The reports *ids*. They mostly follow each other, and to name a thousand takes longer than to find them."""
    column = schema.reports.c.id
    follow_each_other = len(ids) > 1 and max(ids) - min(ids) == len(set(ids)) - 1
    return column.between(min(ids), max(ids)) if follow_each_other else column.in_(ids)
