"""
Transactional outbox of meter events: pending, sent, rejected or uncertain.

`meterkit.outbox.seal` writes reports, whose contents never change. Only the process that holds the reporter's lease
writes here, and every write renews that lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.windows import HOUR, hour_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold
from meterkit.outbox.reports import COLUMNS, Report, State, report_of

UNKNOWN_SECONDS = 23 * 3600
"""Seconds for which resending is safe. Stripe: identifiers are unique for at least 24 h; later, it could bill twice."""

STEP_SECONDS = 600
"""Seconds by which Stripe's own clocks may differ at most."""


@dataclass(slots=True)
class Summary:
    """
    The result of one reporting pass.

    Attributes:
        sealed: Number of meter events written into the outbox.
        sent: Number of events that Stripe has confirmed.
        invoiced: Number of events that were too late for their invoice, and are items of the next one.
        lines: Number of invoice items for usage that has a price by its values, with ``bill="lines"``.
        rejected: Number of events that Stripe refuses for good; kept, and shown by ``kit.health()``.
        uncertain: Number of events that became or stayed uncertain: it is unknown whether Stripe has them.
        postponed: Number of events left for the next pass.
        error: Why events were postponed, why nothing could be reported, or why a company's customer could not be looked
            up; empty if all went well.
    """

    sealed: int = 0
    sent: int = 0
    invoiced: int = 0
    lines: int = 0
    rejected: int = 0
    uncertain: int = 0
    postponed: int = 0
    error: str = ""

    @property
    def trouble(self) -> str:
        """Why not every event could be sent; empty if all were, or if another process is sending them."""
        return self.error if self.postponed or self.rejected or self.uncertain else ""

    def add(self, report: Report) -> None:
        """Add the outcome of *report*."""
        if report.state != "pending":
            setattr(self, report.state, getattr(self, report.state) + 1)
        self.error = report.error or self.error


@dataclass(frozen=True, slots=True)
class UncertainReports:
    """
    Reports of one customer, meter and hour, some of which Stripe may or may not have.

    Attributes:
        event_name: Event name of the meter in Stripe.
        customer: Id of the Stripe customer.
        hour: Unix second at which the hour begins.
        uncertain: Reports whose outcome is unknown.
        claimed: Reports that Stripe called duplicates after an attempt without a response.
        sent: Total quantity of all other reports of this group, which Stripe has.
        attempted_at: Unix second of the latest attempt at any report of the group.
        in_flight: Whether a pending report of the group was attempted, with an outcome that is unknown too.
    """

    event_name: str
    customer: str
    hour: int
    uncertain: tuple[Report, ...]
    claimed: tuple[Report, ...]
    sent: int
    attempted_at: int
    in_flight: bool


class Stuck(NamedTuple):
    """
    Reports that have been pending for long.

    Attributes:
        number: Number of reports.
        since: Unix second at which the oldest was written.
        error: Why the latest attempt failed; empty if there was none.
    """

    number: int
    since: int
    error: str


class Outbox:
    """
    The outbox of a ledger.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def pending(self) -> Iterator[Report]:
        """Yield the reports to be sent, those with the fewest attempts first, so that a bad event delays no other."""
        table = schema.reports
        with self._database.snapshot() as connection:
            ids = connection.scalars(
                sa.select(table.c.id).filter_by(state="pending").order_by(table.c.attempts, table.c.id)
            ).all()
        for start in range(0, len(ids), BATCH):
            portion = ids[start : start + BATCH]
            with self._database.snapshot() as connection:
                rows = connection.execute(sa.select(*COLUMNS).where(_has_id(portion), table.c.state == "pending"))
                found = {row.id: report_of(row) for row in rows.all()}
            yield from (found[each] for each in portion if each in found)

    def waiting(self) -> int:
        """Return the number of reports that are pending."""
        with self._database.snapshot() as connection:
            query = sa.select(sa.func.count()).select_from(schema.reports).filter_by(state="pending")
            return connection.scalar(query) or 0

    def stuck(self, *, before: int) -> Stuck | None:
        """Return the reports that were written before the Unix second *before* and are still pending, if any."""
        table = schema.reports
        old = sa.and_(table.c.state == "pending", table.c.created_at < before)
        query = sa.select(sa.func.count(), sa.func.min(table.c.created_at)).where(old)
        reason = sa.select(table.c.error).where(old, table.c.error != "")
        with self._database.snapshot() as connection:
            number, since = connection.execute(query).one()
            error = connection.scalar(reason.order_by(table.c.attempted_at.desc(), table.c.id).limit(1))
        return Stuck(number, since, error or "") if number else None

    def reports(self, *, state: State | None = None, limit: int | None = None) -> list[Report]:
        """Return all reports, or those in one state, oldest first, *limit* at most."""
        query = sa.select(*COLUMNS).order_by(schema.reports.c.id).limit(limit)
        if state is not None:
            query = query.filter_by(state=state)
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def idle(self) -> bool:
        """Return whether there is nothing to send, and nothing of unknown outcome."""
        table = schema.reports
        work = sa.select(table.c.id).where(sa.or_(table.c.state == "pending", table.c.unknown_since.is_not(None)))
        with self._database.snapshot() as connection:
            return connection.scalar(work.limit(1)) is None

    def mark_old_uncertain(self, lease: Lease, *, now: int) -> None:
        """
        Mark reports as ``uncertain`` whose first attempt of unknown outcome is too old for sending them again.

        Also attempts with a timestamp in the future: the clock was wrong, so their age is unknown.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        since = schema.reports.c.unknown_since
        is_old = sa.or_(since <= now - UNKNOWN_SECONDS, since > now + STEP_SECONDS)
        aged = sa.update(schema.reports).where(schema.reports.c.state == "pending", is_old)
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(aged.values(state="uncertain"))

    def uncertain_groups(self, *, since: int) -> list[UncertainReports]:
        """Return the groups with reports to verify that were not compared with Stripe's sums after *since*."""
        table = schema.reports
        unverified = sa.select(*COLUMNS).where(
            table.c.unknown_since.is_not(None), table.c.state.in_(["uncertain", "sent"])
        )
        unverified = unverified.where(sa.or_(table.c.compared_at.is_(None), table.c.compared_at <= since))
        with self._database.snapshot() as connection:
            places: dict[tuple[str, str, int], None] = {}
            for row in connection.execute(unverified.order_by(table.c.id).limit(BATCH)):
                places[row.event_name, row.customer, hour_of(row.window)] = None
            return [self._group(connection, *place) for place in places]

    def _group(self, connection: sa.Connection, event_name: str, customer: str, hour: int) -> UncertainReports:
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
            in_flight=any(each.state == "pending" and each.unknown_since is not None for each in reports),
        )

    def uncertain_group_of(self, report: Report) -> UncertainReports:
        """Return the group of *report*, with this sent report as uncertain."""
        with self._database.snapshot() as connection:
            group = self._group(connection, report.event_name, report.customer, hour_of(report.window))
        return replace(group, uncertain=(*group.uncertain, report), sent=group.sent - report.quantity)

    def begin(self, lease: Lease, reports: list[Report], *, now: int) -> list[Report]:
        """
        Record that *reports* are about to be sent: from now on, their outcome is unknown until they are settled.

        Returns:
            The reports as they are now. Those that became ``uncertain``, because an earlier attempt of unknown outcome
            is too old, must not be sent.

        Raises:
            LeaseLostError: Another process holds the lease now; nothing was recorded.
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
            mine = sa.update(table).where(_has_id([each.id for each in begun]))
            connection.execute(mine.values(changes))
        return [*held, *begun]

    def note_failure(self, lease: Lease, error: str) -> None:
        """
        Record with the oldest pending report why nothing could be sent at all.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        table = schema.reports
        oldest = sa.select(sa.func.min(table.c.id)).where(table.c.state == "pending").scalar_subquery()
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(sa.update(table).where(table.c.id == oldest).values(error=error))

    def settle(
        self, lease: Lease, reports: Iterable[Report], state: State, *, error: str = "", **changes: Any
    ) -> list[Report]:
        """Record the final outcome of *reports*: sent, invoiced, rejected or uncertain. Raises what `note` raises."""
        return self.note(lease, reports, state=state, error=error, settled_at=int(self._clock()), **changes)

    def note(
        self, lease: Lease, reports: Iterable[Report], *, settled_at: int | None = None, **changes: Any
    ) -> list[Report]:
        """
        Record *changes* to *reports*, all or nothing, and return the changed reports.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        changed = [report._replace(**changes) for report in reports]
        row = sa.update(schema.reports).where(_has_id([report.id for report in changed]))
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(row.values(settled_at=settled_at, **changes))
        return changed


def _has_id(ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Return the condition for the reports *ids*: a range if they are consecutive, which is faster than a list."""
    column = schema.reports.c.id
    are_consecutive = len(ids) > 1 and max(ids) - min(ids) == len(set(ids)) - 1
    return column.between(min(ids), max(ids)) if are_consecutive else column.in_(ids)
