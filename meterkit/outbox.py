"""
Keep: the outbox, from usage in a closed window to a meter event whose fate is known.

A report is written, with its identifier, before it is sent for the first time, and is never changed after that.
Late usage becomes a further report of the same window. One process at a time works here: the one with the lease.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from meterkit import schema
from meterkit.counting import NOBODY, WINDOW_SECONDS
from meterkit.database import Database, put
from meterkit.errors import LedgerError
from meterkit.ledger import customer_of
from meterkit.limits import MAX_QUANTITY

LEASE_SECONDS = 60
"""A lease is renewed by every write to the outbox; sending one event takes less than this."""

UNKNOWN_SECONDS = 23 * 3600
"""Stripe: identifiers are unique for at least 24 h. After that, sending again what may be there could bill twice."""

State = Literal["pending", "sent", "rejected", "uncertain"]


class LeaseLostError(LedgerError):
    """Another process reports now; what this one was about to write was not written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """
    The right to report.

    Attributes:
        holder: Who has it.
        token: Grows with each new holder, so that the writes of a former one are told apart.
    """

    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class Report:
    """
    One meter event, as it was or will be sent.

    Attributes:
        id: Of the row.
        identifier: Stripe's deduplication key: a digest of the ledger's id and what the row stands for.
        meter: The meter's name.
        event_name: Stripe's name for the meter.
        company: Whose usage it is.
        customer: The Stripe customer who pays.
        window: The unix second in which the window begins.
        quantity: In the meter's unit.
        timestamp: The last usage known in the window, unix seconds.
        state: ``pending``, ``sent``, ``rejected`` or ``uncertain``.
        attempts: How often it was sent.
        refusals: How many answers a repetition with the same Idempotency-Key would merely replay.
        unknown_since: The first attempt whose outcome is not known.
        error: Why it is not sent yet; empty where nothing went wrong.
    """

    id: int
    identifier: str
    meter: str
    event_name: str
    company: str
    customer: str
    window: int
    quantity: int
    timestamp: int
    state: str
    attempts: int
    refusals: int
    unknown_since: int | None
    error: str


@dataclass(slots=True)
class Summary:
    """
    What one pass of the reporter did.

    Attributes:
        sealed: Meter events written into the outbox.
        sent: Events that Stripe has.
        rejected: Events that Stripe refuses for good; kept, and shown by ``kit.health()``.
        uncertain: Events of which it is not known, for 23 hours now, whether Stripe has them.
        postponed: Events to be sent in the next pass.
        error: Why events were postponed, or why nothing could be reported; empty if all went well.
    """

    sealed: int = 0
    sent: int = 0
    rejected: int = 0
    uncertain: int = 0
    postponed: int = 0
    error: str = ""

    def enter(self, report: Report) -> None:
        """Add what became of *report*."""
        if report.state == "pending":
            self.postponed += 1
        else:
            setattr(self, report.state, getattr(self, report.state) + 1)
        self.error = report.error or self.error


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

    def acquire(self, holder: str) -> Lease | None:
        """The lease, if nobody else has it; it expires `LEASE_SECONDS` after the holder's last write."""
        now = int(self._clock())
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(schema.lease).filter_by(name="reporter").with_for_update()).first()
            if row is not None and row.holder != holder and row.expires_at > now:
                return None
            token = 1 if row is None else row.token + 1
            fields = {"name": "reporter", "holder": holder, "token": token, "expires_at": now + LEASE_SECONDS}
            put(schema.lease, connection, fields)
        return Lease(holder, token)

    def release(self, lease: Lease) -> None:
        """Let another process report at once."""
        with self._database.transaction() as connection:
            connection.execute(sa.update(schema.lease).filter_by(token=lease.token).values(expires_at=0))

    def seal(self, lease: Lease, *, include_open: bool = False) -> int:
        """
        Write reports for the usage of closed windows whose company has a Stripe customer.

        Args:
            lease: The right to do so.
            include_open: Take the window that is still open too; its later usage becomes a further report.

        Returns:
            How many reports were written.

        Raises:
            LeaseLostError: Another process reports now.
        """
        now = int(self._clock())
        newest = now if include_open else now - WINDOW_SECONDS
        open_windows = sa.select(schema.usage.c.window).where(
            schema.usage.c.quantity != schema.usage.c.reported,
            schema.usage.c.company != NOBODY,
            schema.usage.c.window <= newest,
        )
        with self._database.transaction() as connection:
            windows = connection.scalars(open_windows.distinct().order_by(schema.usage.c.window)).all()
        return sum(self._seal_window(lease, window, now) for window in windows)

    def pending(self) -> list[Report]:
        """What is to be sent; what failed least comes first, so that one bad event holds up no other."""
        table = schema.reports
        query = sa.select(table).filter_by(state="pending").order_by(table.c.attempts, table.c.id)
        with self._database.transaction() as connection:
            return [_report(row) for row in connection.execute(query)]

    def reports(self, *, state: State | None = None) -> list[Report]:
        """All reports, or those in one state, oldest first."""
        query = sa.select(schema.reports).order_by(schema.reports.c.id)
        if state is not None:
            query = query.filter_by(state=state)
        with self._database.transaction() as connection:
            return [_report(row) for row in connection.execute(query)]

    def begin(self, lease: Lease, report: Report) -> Report:
        """
        Note that *report* is about to be sent: from now on, its outcome is unknown until it is settled.

        Where that has been so for too long to send it again, it is ``uncertain``, and must not be sent.

        Raises:
            LeaseLostError: Another process reports now.
        """
        now = int(self._clock())
        if report.unknown_since is not None and now - report.unknown_since >= UNKNOWN_SECONDS:
            return self._update(lease, report, state="uncertain")
        unknown_since = now if report.unknown_since is None else report.unknown_since
        return self._update(lease, report, attempts=report.attempts + 1, unknown_since=unknown_since)

    def settle(self, lease: Lease, report: Report, state: State, *, error: str = "") -> Report:
        """The fate of *report* is known: Stripe has it, or refuses it for good."""
        return self._update(lease, report, state=state, error=error, settled_at=int(self._clock()))

    def postpone(self, lease: Lease, report: Report, *, error: str, unknown_since: int | None, refused: bool) -> Report:
        """
        *report* is to be sent again.

        Args:
            lease: The right to write that.
            report: What was sent.
            error: Why it has to be sent again.
            unknown_since: The first attempt after which Stripe may have it all the same.
            refused: Stripe answered, and would replay its answer under the same Idempotency-Key.
        """
        refusals = report.refusals + refused
        return self._update(lease, report, error=error, unknown_since=unknown_since, refusals=refusals)

    def _update(self, lease: Lease, report: Report, *, settled_at: int | None = None, **changes: Any) -> Report:
        with self._database.transaction() as connection:
            self._hold(lease, connection)
            row = sa.update(schema.reports).filter_by(id=report.id)
            connection.execute(row.values(settled_at=settled_at, **changes))
        return replace(report, **changes)

    def _hold(self, lease: Lease, connection: sa.Connection) -> None:
        """Renew *lease* within the transaction that relies on it."""
        renewed = connection.execute(
            sa.update(schema.lease)
            .filter_by(name="reporter", token=lease.token)
            .values(expires_at=int(self._clock()) + LEASE_SECONDS)
        )
        if renewed.rowcount != 1:
            raise LeaseLostError("another process has taken the lease and reports now")

    def _seal_window(self, lease: Lease, window: int, now: int) -> int:
        table = schema.usage
        query = (
            sa.select(table, schema.accounts.c.customer)
            .join_from(table, schema.accounts, table.c.company == schema.accounts.c.company, isouter=True)
            .where(table.c.window == window, table.c.quantity != table.c.reported, table.c.company != NOBODY)
            .order_by(table.c.meter, table.c.event_name, table.c.company, table.c.user)
        )
        written = 0
        with self._database.transaction() as connection:
            self._hold(lease, connection)
            deltas: dict[tuple[str, str, str, str], list[sa.Row[Any]]] = {}
            for row in connection.execute(query):
                customer = customer_of(row.company, row.customer)
                if customer is not None:
                    deltas.setdefault((row.meter, row.event_name, row.company, customer), []).append(row)
            for whose, rows in deltas.items():
                written += self._seal_delta(connection, whose, window, rows, now)
        return written

    def _seal_delta(
        self,
        connection: sa.Connection,
        whose: tuple[str, str, str, str],
        window: int,
        rows: list[sa.Row[Any]],
        now: int,
    ) -> int:
        meter, event_name, company, customer = whose
        key = {"meter": meter, "event_name": event_name, "company": company, "window": window}
        sequence = connection.scalar(sa.select(sa.func.count()).select_from(schema.reports).filter_by(**key)) or 0
        # Inside the window, so that it is billed in the right period; and not in the future, which Stripe refuses.
        last_used = max(row.last_used for row in rows)
        timestamp = max(window, min(last_used, window + WINDOW_SECONDS - 1, now))
        left, first = sum(row.quantity - row.reported for row in rows), sequence
        while left:
            quantity = min(left, MAX_QUANTITY)
            identifier = _identifier([self._database.ledger_id, meter, event_name, company, customer, window, sequence])
            connection.execute(
                sa.insert(schema.reports).values(
                    **key,
                    identifier=identifier,
                    customer=customer,
                    sequence=sequence,
                    quantity=quantity,
                    timestamp=timestamp,
                    created_at=now,
                    state="pending",
                    attempts=0,
                    refusals=0,
                    error="",
                )
            )
            left, sequence = left - quantity, sequence + 1
        for row in rows:  # what was read, not what is there: more may have been folded in since
            reported = sa.update(schema.usage).filter_by(**key, user=row.user).values(reported=row.quantity)
            connection.execute(reported)
        return sequence - first


def _identifier(parts: list[str | int]) -> str:
    """Derived from what the row is, never random, and never by joining: ``("a/b", "c")`` is not ``("a", "b/c")``."""
    canonical = json.dumps(parts, separators=(",", ":")).encode()
    return "mk_" + hashlib.sha256(canonical).hexdigest()[:48]


def _report(row: sa.Row[Any]) -> Report:
    return Report(**{name: getattr(row, name) for name in Report.__slots__})
