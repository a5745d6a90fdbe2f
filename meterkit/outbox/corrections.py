"""
Reverse usage in the ledger, or queue it again.

Reversing reported usage leaves less usage than was reported, so the next report of the window is the negative
difference. If Stripe cancels the meter event instead, its report and its usage are reversed together.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR
from meterkit.errors import UsageError
from meterkit.ledger import actions, schema
from meterkit.ledger.daily_totals import add_totals
from meterkit.ledger.database import Database
from meterkit.ledger.dimensions import reversal
from meterkit.ledger.lease import Lease, hold
from meterkit.ledger.rating import changes as rating
from meterkit.ledger.rating.reading import was_rated
from meterkit.ledger.schema.quantities import literal, subtracted, sum_of
from meterkit.outbox.reports import Report
from meterkit.wallets.reversal import give_back


class _Noted(TypedDict):
    action: actions.Kind
    detail: str


_REQUEUED: dict[str, _Noted] = {
    "rejected": {"action": "retry", "detail": "reported again"},
    "uncertain": {"action": "decide", "detail": "lost"},
}
"""What the audit trail says about usage that is queued again, by the state of its report."""


@dataclass(frozen=True, slots=True)
class Correction:
    """
    Usage that was reversed.

    Attributes:
        id: Id of the correction.
        meter: Name of the meter.
        event_name: Event name of the meter in Stripe.
        company: Company id, as the application knows it.
        window: Unix second at which the window of the usage begins.
        quantity: Reversed quantity, in the meter's unit.
        reason: Reason given by the operator.
        created_at: Unix second at which the correction was made.
        report: Identifier of the meter event that is cancelled as a whole; None if a negative event follows.
        state: ``done``, or ``canceling`` while it is unknown whether Stripe has cancelled the event.
        error: Why that is unknown; empty if it is not.
        dimensions: Values of the usage by the names of the dimensions, as JSON; empty for usage without values, or for
            all of a window.
    """

    id: str
    meter: str
    event_name: str
    company: str
    window: int
    quantity: int
    reason: str
    created_at: int
    report: str | None
    state: str
    error: str
    dimensions: str = ""


class Corrections:
    """
    Changes what was counted and reported. Only the process that holds the reporter's lease may do so.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def requeue(self, lease: Lease, report: Report, *, was: Literal["rejected", "uncertain"], by: str) -> bool:
        """
        Queue the usage of *report*, which Stripe does not have, again: for the customer that pays by then.

        Args:
            lease: Lease of the reporter.
            report: Report that Stripe refused or never received.
            was: State that the report must still be in.
            by: Who decided it, for the audit trail.

        Returns:
            False if the report is in another state by now.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if not _change_state(connection, report.id, was, "returned"):
                return False
            _subtract(connection, report, report.quantity, "reported")
            self._note(connection, report, by, **_REQUEUED[was])
        return True

    def confirm(self, lease: Lease, report: Report, *, by: str) -> bool:
        """
        Record that Stripe has *report*, whose outcome was unknown.

        Returns:
            False if its outcome is known by now.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if not _change_state(connection, report.id, "uncertain", "sent"):
                return False
            settled = sa.update(schema.reports).filter_by(id=report.id)
            connection.execute(settled.values(settled_at=int(self._clock()), error=""))
            self._note(connection, report, by, action="decide", detail="arrived")
        return True

    def _note(self, connection: sa.Connection, report: Report, by: str, *, action: actions.Kind, detail: str) -> None:
        actions.note(connection, action, report.identifier, detail, by=by, at=int(self._clock()))

    def mark_rejected(self, sent_as: str, error: str) -> bool:
        """
        Mark a sent event as rejected, because Stripe accepted it and found an error afterwards.

        Args:
            sent_as: Identifier of the meter event, or the idempotency key it was sent with.
            error: Error as Stripe describes it.

        Returns:
            False if the ledger has no such event, or not as sent.
        """
        # An Idempotency-Key has one more number after a refusal.
        named = re.fullmatch(r"(mk_[0-9a-f]+)(?:-(\d{1,9}))?(?:\.\d+)?", sent_as, re.ASCII)
        if named is None:
            return False
        table = schema.reports
        mine = sa.and_(table.c.identifier == named[1], table.c.revision == int(named[2] or 0))
        dropped = sa.update(table).where(mine, table.c.state == "sent")
        with self._database.transaction() as connection:
            now = int(self._clock())
            done = dropped.values(state="rejected", error=error[:500], unknown_since=None, settled_at=now)
            return connection.execute(done).rowcount == 1

    def reverse(self, lease: Lease, correction: Correction, *, by: str) -> None:
        """
        Subtract the quantity of *correction* from the usage of its window.

        Raises:
            UsageError: The window has less usage than that, or the kit has no price for what it was rated at.
            LeaseLostError: Another process holds the lease now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if not correction.event_name:  # what is rated is not reported itself
                self._reverse_amounts(connection, correction)
            _subtract(connection, correction, correction.quantity, "quantity")
            _insert(connection, correction, by=by)

    def _reverse_amounts(self, connection: sa.Connection, correction: Correction) -> None:
        """Take away what the usage of *correction* has cost, at the rates that it had."""
        place: Any = {"company": correction.company, "meter": correction.meter}
        if was_rated(connection, **place, start=correction.window, end=correction.window + 1):
            place |= {"window": correction.window, "dimensions": correction.dimensions}
            rating.reverse(connection, self._database.raters, **place, quantity=correction.quantity)

    def is_rated(self, company: str, meter: str, hour: int) -> bool:
        """Return whether usage of *meter* in the hour that begins at *hour* has a price by its values."""
        with self._database.snapshot() as connection:
            return was_rated(connection, company, meter, hour, hour + HOUR)

    def plan_cancellation(self, lease: Lease, correction: Correction, *, by: str) -> None:
        """
        Record, before Stripe is called, that the meter event of *correction* is to be cancelled.

        Raises:
            UsageError: It is not clear of which values the usage is.
            LeaseLostError: Another process holds the lease now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            reversal.check(connection, _place(correction), correction.quantity, correction.dimensions)
            _insert(connection, correction, by=by)

    def canceled(self, lease: Lease, correction: Correction, report: Report) -> None:
        """Record that Stripe has cancelled *report*, and reverse its usage."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if _change_state(connection, report.id, "sent", "canceled"):
                _subtract(connection, report, report.quantity, "reported")
                _subtract(connection, correction, correction.quantity, "quantity")
            _settle(connection, correction, report=correction.report)

    def not_canceled(self, lease: Lease, correction: Correction) -> None:
        """Record that Stripe has not cancelled the event: a negative meter event follows instead."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            _subtract(connection, correction, correction.quantity, "quantity")
            _settle(connection, correction, report=None)

    def note(self, lease: Lease, correction: Correction, error: str) -> None:
        """Record why it is unknown whether Stripe has cancelled the event."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(sa.update(schema.corrections).filter_by(id=correction.id).values(error=error))

    def used(self, company: str, meter: str, hour: int, dimensions: str = "") -> dict[int, int]:
        """
        Return the quantity that *company* has used of *meter*, by window of the hour that begins at *hour*.

        With *dimensions*, values as text, only what was used of these.
        """
        if dimensions:
            with self._database.snapshot() as connection:
                return reversal.used_of(connection, company, meter, hour, dimensions)
        table = schema.usage
        query = (
            sa.select(table.c.window, sum_of(table.c.quantity).label("quantity"))
            .filter_by(company=company, meter=meter)
            .where(table.c.window >= hour, table.c.window < hour + HOUR)
            .group_by(table.c.window)
        )
        with self._database.snapshot() as connection:
            return {row.window: int(row.quantity) for row in connection.execute(query)}

    def corrections(self, *, state: str | None = None) -> list[Correction]:
        """Return all corrections, or those in one state, oldest first."""
        query = sa.select(schema.corrections).order_by(schema.corrections.c.created_at, schema.corrections.c.id)
        if state is not None:
            query = query.filter_by(state=state)
        with self._database.snapshot() as connection:
            return [Correction(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's way


def new_id() -> str:
    """Return a new id for a correction."""
    return uuid.uuid4().hex


def _change_state(connection: sa.Connection, report: int, was: str, becomes: str) -> bool:
    table = schema.reports
    moved = sa.update(table).where(table.c.id == report, table.c.state == was).values(state=becomes, unknown_since=None)
    return connection.execute(moved).rowcount == 1


def _settle(connection: sa.Connection, correction: Correction, *, report: str | None) -> None:
    mine = sa.update(schema.corrections).filter_by(id=correction.id)
    connection.execute(mine.values(state="done", error="", report=report))


def _subtract(connection: sa.Connection, place: Report | Correction, by: int, column: str) -> None:
    """Subtract *by* from *column* of a window's usage rows; for the quantity, also from the totals and the books."""
    table = schema.usage
    rows: list[Any] = list(
        connection.execute(
            sa.select(table)
            .filter_by(meter=place.meter, event_name=place.event_name, company=place.company, window=place.window)
            .order_by(table.c.user)
            .with_for_update()
        )
    )
    left = by
    for row in rows:
        taken = max(min(left, getattr(row, column)), 0) if by > 0 else left
        left -= taken
        if taken:
            keys = {key.name: getattr(row, key.name) for key in table.primary_key}
            columns = [column] if place.event_name else ["quantity", "reported"]  # what is not billable is never due
            values = {each: subtracted(table.c[each], literal(taken)) for each in columns}
            connection.execute(sa.update(table).filter_by(**keys).values(values))
    if left:
        raise UsageError(f"only {by - left:,} of {by:,} units can be reversed", reason="correction_too_large")
    if column == "quantity":
        assert isinstance(place, Correction)
        reversal.subtract(connection, _place(place), by, place.dimensions)
        add_totals(connection, [(place.meter, place.event_name, place.company, NOBODY, place.window, -by, 0, 0)])
        give_back(connection, place.company, place.meter, place.window, by)
        counted = schema.counted
        connection.execute(
            sa.update(counted).filter_by(meter=place.meter).values(quantity=subtracted(counted.c.quantity, literal(by)))
        )


def _place(correction: Correction) -> reversal.Place:
    return reversal.Place(correction.meter, correction.event_name, correction.company, correction.window)


def _insert(connection: sa.Connection, correction: Correction, *, by: str) -> None:
    row = {field.name: getattr(correction, field.name) for field in fields(correction)}
    connection.execute(sa.insert(schema.corrections).values(row))
    what = f"{correction.meter} {correction.dimensions}" if correction.dimensions else correction.meter
    detail = f"{correction.quantity} of {what} in the window {correction.window}: {correction.reason}"
    actions.note(connection, "correct", correction.company, detail, by=by, at=correction.created_at)
