"""`Report`, one row of the outbox, and read-only queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database

State = Literal["pending", "sent", "rejected", "uncertain", "returned", "canceled", "invoiced"]


class Report(NamedTuple):
    """
    One meter event, as it was or will be sent.

    Attributes:
        id: Of the row.
        identifier: A digest of the ledger's id and what the row stands for; Stripe gets it as `sent_as`.
        meter: The meter's name.
        event_name: Stripe's name for the meter.
        company: Whose usage it is.
        customer: The Stripe customer who pays.
        window: The unix second in which the window begins.
        quantity: In the meter's unit.
        timestamp: The last usage known in the window, unix seconds.
        state: ``pending``, ``sent``, ``rejected`` or ``uncertain``; ``returned``, where its usage is to be reported
            anew, ``canceled``, where its usage was taken back, or ``invoiced``, where it came too late and is an item
            of the customer's next invoice.
        attempts: How often it was sent.
        revision: How often Stripe refused it when it surely did not have it yet.
        refusals: How many answers a repetition with the same Idempotency-Key would merely replay.
        attempted_at: The latest attempt.
        unknown_since: The first attempt whose outcome is not known.
        compared_at: When Stripe's summaries could not tell whether it is there.
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
    revision: int
    refusals: int
    attempted_at: int | None
    unknown_since: int | None
    compared_at: int | None
    error: str

    @property
    def sent_as(self) -> str:
        """
        Stripe's deduplication key. Each refusal makes it another.

        Whether a refused event uses its identifier up is not documented; if it does, the same one would be taken for
        a duplicate ever after, and the event for delivered.
        """
        return f"{self.identifier}-{self.revision}" if self.revision else self.identifier


COLUMNS = tuple(schema.reports.c[name] for name in Report._fields)
"""With which the rows begin of which `report_of` makes reports."""


class Reports:
    """
    Finds reports.

    Args:
        database: Where the ledger is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, identifier: str) -> Report | None:
        """The report of that identifier, or of the identifier that Stripe got."""
        query = sa.select(*COLUMNS).filter_by(identifier=identifier.partition("-")[0])
        with self._database.snapshot() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else report_of(row)

    def sent(self, company: str, event_name: str, window: int) -> list[Report]:
        """What was sent of one window, latest first."""
        place = {"company": company, "event_name": event_name, "window": window, "state": "sent"}
        query = sa.select(*COLUMNS).filter_by(**place).order_by(schema.reports.c.id.desc())
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def of(self, company: str, meter: str, start: int, end: int) -> list[Report]:
        """What was reported of a company's usage of a meter from *start* to *end* (excluded), oldest first."""
        table = schema.reports
        query = sa.select(*COLUMNS).filter_by(company=company, meter=meter)
        query = query.where(table.c.timestamp >= start, table.c.timestamp < end).order_by(table.c.window, table.c.id)
        with self._database.snapshot() as connection:
            return [report_of(row) for row in connection.execute(query)]

    def by_customer(self, start: int, end: int) -> dict[tuple[str, str], list[Report]]:
        """All reports of usage from *start* to *end* (excluded), by customer and event name, oldest first."""
        table = schema.reports
        query = sa.select(*COLUMNS).where(table.c.timestamp >= start, table.c.timestamp < end)
        found: dict[tuple[str, str], list[Report]] = {}
        with self._database.snapshot() as connection:
            for row in connection.execute(query.order_by(table.c.customer, table.c.event_name, table.c.id)):
                found.setdefault((row.customer, row.event_name), []).append(report_of(row))
        return found


def report_of(row: Sequence[Any]) -> Report:
    """A row that begins with `COLUMNS`."""
    return Report(*row[: len(COLUMNS)])
