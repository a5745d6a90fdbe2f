"""`Report`, one row of the outbox, and read-only queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database

REPORT_KEY = "meterkit_report"
"""Metadata key of an invoice item for the identifier of the report that it bills."""

State = Literal["pending", "sent", "rejected", "uncertain", "returned", "canceled", "invoiced"]


class Report(NamedTuple):
    """
    One meter event, as it was or will be sent.

    Attributes:
        id: Id of the row.
        identifier: Digest of the ledger's id and what the row stands for; Stripe receives it as `sent_as`.
        meter: Name of the meter.
        event_name: Event name of the meter in Stripe.
        company: Company id, as the application knows it.
        customer: Id of the Stripe customer that pays.
        window: Unix second at which the window begins.
        quantity: Usage in the meter's unit; negative after a correction.
        timestamp: Unix second of the last usage in the window when the report was sealed.
        state: ``pending``, ``sent``, ``rejected`` or ``uncertain``; ``returned`` if its usage is to be reported again,
            ``canceled`` if its usage was reversed, ``invoiced`` if it was late and is an item of the next invoice.
        attempts: Number of times it was sent.
        revision: Number of refusals after which Stripe certainly did not have it.
        refusals: Number of responses that the same Idempotency-Key would merely replay.
        attempted_at: Unix second of the latest attempt; None before the first.
        unknown_since: Unix second of the first attempt whose outcome is unknown; None if all outcomes are known.
        compared_at: Unix second at which Stripe's summaries were last inconclusive; None if never.
        error: Why it has not been sent yet; empty if nothing went wrong.
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
    revision: int
    refusals: int
    attempted_at: int | None
    unknown_since: int | None
    compared_at: int | None
    error: str

    @property
    def sent_as(self) -> str:
        """
        Identifier that Stripe receives. It changes with each refusal.

        Whether a refused event uses up its identifier is undocumented. If it does, sending the same one again would be
        taken for a duplicate, and the event for delivered.
        """
        return f"{self.identifier}-{self.revision}" if self.revision else self.identifier


COLUMNS = tuple(schema.reports.c[name] for name in Report._fields)
"""First columns of any row that `report_of` turns into a report."""


class Reports:
    """
    Read-only queries for reports.

    Args:
        database: Database of the ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, identifier: str) -> Report | None:
        """Return the report of *identifier*, which may be the one that Stripe received; None if there is none."""
        query = sa.select(*COLUMNS).filter_by(identifier=identifier.partition("-")[0])
        with self._database.snapshot() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else report_of(row)

    def sent(self, company: str, event_name: str, window: int) -> list[Report]:
        """Return the sent reports of one window, latest first."""
        place = {"company": company, "event_name": event_name, "window": window, "state": "sent"}
        query = sa.select(*COLUMNS).filter_by(**place).order_by(schema.reports.c.id.desc())
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def of(self, company: str, meter: str, start: int, end: int) -> list[Report]:
        """Return the reports of a company's usage from *start* to *end* (excluded), Unix seconds, oldest first."""
        table = schema.reports
        query = sa.select(*COLUMNS).filter_by(company=company, meter=meter)
        query = query.where(table.c.timestamp >= start, table.c.timestamp < end).order_by(table.c.window, table.c.id)
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def by_customer(self, start: int, end: int) -> dict[tuple[str, str], list[Report]]:
        """Return all reports of usage from *start* to *end* (excluded), by customer and event name, oldest first."""
        table = schema.reports
        query = sa.select(*COLUMNS).where(table.c.timestamp >= start, table.c.timestamp < end)
        found: dict[tuple[str, str], list[Report]] = {}
        with self._database.snapshot() as connection:
            for row in connection.execute(query.order_by(table.c.customer, table.c.event_name, table.c.id)):
                found.setdefault((row.customer, row.event_name), []).append(report_of(row))
        return found


def report_of(row: Sequence[Any]) -> Report:
    """Return the report in a row that begins with `COLUMNS`."""
    return Report(*row[: len(COLUMNS)])
