"""
Take usage back in the ledger, or queue it again.

What is taken back from usage that was reported leaves less than that: the difference, which is negative, is the next
report of its window. Where Stripe is asked to cancel a meter event, its report and its usage go together.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.core.windows import HOUR
from meterkit.errors import UsageError
from meterkit.ledger import schema
from meterkit.ledger.daily_totals import add_totals
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, hold
from meterkit.outbox.reports import Report


@dataclass(frozen=True, slots=True)
class Correction:
    """
    Usage that was taken back.

    Attributes:
        id: Of the correction.
        meter: The meter's name.
        event_name: Stripe's name for it.
        company: Whose usage it was.
        window: The unix second in which the window begins.
        quantity: How much was taken back.
        reason: Why, as it was given.
        created_at: When, unix seconds.
        report: The identifier of the meter event that was cancelled as a whole; None where a negative one follows.
        state: ``done``, or ``canceling`` while Stripe has not answered.
        error: Why it has not.
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


class Corrections:
    """
    Changes what was counted and reported. One process at a time, with the reporter's lease.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def requeue(self, lease: Lease, report: Report, *, was: str) -> bool:
        """
        Let the usage of *report*, which Stripe has not, be reported anew: to whom pays by then.

        Args:
            lease: The reporter's.
            report: Refused by Stripe.
            was: The state that it still has to be in.

        Returns:
            False if it is in another by now.

        Raises:
            LeaseLostError: Another process reports now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if not _leave(connection, report.id, was, "returned"):
                return False
            _lower(connection, report, report.quantity, "reported")
        return True

    def mark_rejected(self, sent_as: str, error: str) -> bool:
        """
        Stripe had taken the event of that identifier, and has found it wrong since: it is rejected.

        Returns:
            False if the ledger knows no such event, or does not take it for sent.
        """
        # Or of that Idempotency-Key, which has another number after a refusal.
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

    def reverse(self, lease: Lease, correction: Correction) -> None:
        """
        Take the quantity of *correction* from the usage of its window.

        Raises:
            UsageError: So much was not used.
            LeaseLostError: Another process reports now.
        """
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            _lower(connection, correction, correction.quantity, "quantity")
            connection.execute(sa.insert(schema.corrections).values(**_row(correction)))

    def plan_cancellation(self, lease: Lease, correction: Correction) -> None:
        """Write down that Stripe is about to be asked to cancel the meter event of *correction*."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(sa.insert(schema.corrections).values(**_row(correction)))

    def canceled(self, lease: Lease, correction: Correction, report: Report) -> None:
        """Stripe has canceled *report*: it goes, and its usage with it."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            if _leave(connection, report.id, "sent", "canceled"):
                _lower(connection, report, report.quantity, "reported")
                _lower(connection, correction, correction.quantity, "quantity")
            _settle(connection, correction, report=correction.report)

    def not_canceled(self, lease: Lease, correction: Correction) -> None:
        """Stripe will not cancel it: a negative meter event follows instead."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            _lower(connection, correction, correction.quantity, "quantity")
            _settle(connection, correction, report=None)

    def note(self, lease: Lease, correction: Correction, error: str) -> None:
        """Write down why it is not known yet whether Stripe has canceled."""
        with self._database.transaction() as connection:
            hold(lease, connection, clock=self._clock)
            connection.execute(sa.update(schema.corrections).filter_by(id=correction.id).values(error=error))

    def used(self, company: str, meter: str, hour: int) -> dict[int, int]:
        """By window, what *company* used of *meter* in an hour, as it stands now."""
        table = schema.usage
        query = (
            sa.select(table.c.window, sa.func.sum(table.c.quantity).label("quantity"))
            .filter_by(company=company, meter=meter)
            .where(table.c.window >= hour, table.c.window < hour + HOUR)
            .group_by(table.c.window)
        )
        with self._database.snapshot() as connection:
            return {row.window: int(row.quantity) for row in connection.execute(query)}

    def corrections(self, *, state: str | None = None) -> list[Correction]:
        """All of them, or those in one state, oldest first."""
        query = sa.select(schema.corrections).order_by(schema.corrections.c.created_at, schema.corrections.c.id)
        if state is not None:
            query = query.filter_by(state=state)
        with self._database.snapshot() as connection:
            return [Correction(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's way


def new_id() -> str:
    """Of a correction."""
    return uuid.uuid4().hex


def _leave(connection: sa.Connection, report: int, was: str, becomes: str) -> bool:
    table = schema.reports
    moved = sa.update(table).where(table.c.id == report, table.c.state == was).values(state=becomes, unknown_since=None)
    return connection.execute(moved).rowcount == 1


def _settle(connection: sa.Connection, correction: Correction, *, report: str | None) -> None:
    mine = sa.update(schema.corrections).filter_by(id=correction.id)
    connection.execute(mine.values(state="done", error="", report=report))


def _lower(connection: sa.Connection, place: Report | Correction, by: int, column: str) -> None:
    """Take *by* from a column of the usage rows of a window, and what is taken from the quantity from all counted."""
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
            connection.execute(sa.update(table).filter_by(**keys).values({column: table.c[column] - taken}))
    if left:
        raise UsageError(f"only {by - left:,} of {by:,} are there", reason="correction_too_large")
    if column == "quantity":
        add_totals(connection, [(place.meter, place.event_name, place.company, NOBODY, place.window, -by, 0, 0)])
        counted = schema.counted
        connection.execute(sa.update(counted).filter_by(meter=place.meter).values(quantity=counted.c.quantity - by))


def _row(correction: Correction) -> dict[str, Any]:
    return {field.name: getattr(correction, field.name) for field in fields(correction)}
