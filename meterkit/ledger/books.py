"""Where every counted unit is now; the books must balance."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.core.usage_key import CAPPED, NOBODY
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import is_customer
from meterkit.ledger.schema.due import due
from meterkit.ledger.schema.quantities import subtracted, sum_of


@dataclass(frozen=True, slots=True)
class Books:
    """
    Where one meter's usage is, in the meter's unit. `counted` must equal the sum of all the others.

    Attributes:
        counted: Units ever counted, from a table of their own; without those deleted because of ``keep_days=``.
        journal: Units counted, but not flushed yet.
        unreported: Units in the ledger, to be reported once their window has closed.
        unlinked: Units in the ledger whose company is not linked to a Stripe customer.
        unattributed: Units in the ledger without a company; they cannot be billed.
        capped: Units in the ledger without a company, because the cardinality limit was reached.
        nonbillable: Units in the ledger of a meter with ``billable=False``, which are never reported.
        pending: Units in the outbox, to be sent.
        uncertain: Units in the outbox that Stripe may or may not have, so they are not sent again.
        sent: Units that Stripe has as meter events.
        invoiced: Units that Stripe has as invoice items, because their own invoice was already final.
        rejected: Units that Stripe refused; the reason is the report's `error`.
    """

    counted: int = 0
    journal: int = 0
    unreported: int = 0
    unlinked: int = 0
    unattributed: int = 0
    capped: int = 0
    nonbillable: int = 0
    pending: int = 0
    uncertain: int = 0
    sent: int = 0
    invoiced: int = 0
    rejected: int = 0

    @property
    def balanced(self) -> bool:
        """Whether no unit is missing or counted twice."""
        placed = self.journal + self.unreported + self.unlinked + self.unattributed + self.capped + self.nonbillable
        return self.counted == placed + self.pending + self.uncertain + self.sent + self.invoiced + self.rejected


def books(database: Database, journal: dict[str, dict[str, int]]) -> dict[str, Books]:
    """
    Return where each meter's usage is.

    Args:
        database: Database of the ledger.
        journal: Contents of the journal, ``{generation id: {meter: quantity}}``, read before this call.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        known = sa.select(schema.folds.c.generation).where(schema.folds.c.generation.in_(journal))
        folded = set(connection.scalars(known))
        entries = [
            *((row.meter, "counted", row.quantity) for row in connection.execute(sa.select(schema.counted))),
            *_unreported(connection),
            *_nonbillable(connection),
            *_reported(connection),
        ]
    for generation, totals in journal.items():
        if generation not in folded:
            for meter, quantity in totals.items():
                entries += [(meter, "counted", quantity), (meter, "journal", quantity)]
    sums: dict[str, dict[str, int]] = {}
    for meter, column, quantity in entries:
        of_meter = sums.setdefault(meter, {})
        of_meter[column] = of_meter.get(column, 0) + int(quantity)
    return {meter: Books(**columns) for meter, columns in sorted(sums.items())}


def _unreported(connection: sa.Connection) -> list[tuple[str, str, int]]:
    table, accounts = schema.usage, schema.accounts
    place = sa.case(
        (sa.and_(table.c.company == NOBODY, table.c.user == CAPPED), "capped"),
        (table.c.company == NOBODY, "unattributed"),
        (sa.or_(accounts.c.customer.is_not(None), is_customer(connection, table.c.company)), "unreported"),
        else_="unlinked",
    ).label("place")
    query = (
        sa.select(table.c.meter, place, sum_of(subtracted(table.c.quantity, table.c.reported)).label("open"))
        .join_from(table, accounts, table.c.company == accounts.c.company, isouter=True)
        .where(due(table))
        .group_by(table.c.meter, sa.text("place"))
    )
    return [(str(row.meter), str(row.place), int(row.open)) for row in connection.execute(query)]


def _nonbillable(connection: sa.Connection) -> list[tuple[str, str, int]]:
    table = schema.usage
    query = (
        sa.select(table.c.meter, sum_of(table.c.quantity).label("total"))
        # The names of the meters let the database use the primary key, which begins with them.
        .where(table.c.event_name == "", table.c.meter.in_(sa.select(schema.counted.c.meter)))
        .group_by(table.c.meter)
    )
    return [(str(row.meter), "nonbillable", int(row.total)) for row in connection.execute(query)]


def _reported(connection: sa.Connection) -> list[tuple[str, str, int]]:
    table = schema.reports
    query = sa.select(table.c.meter, table.c.state, sum_of(table.c.quantity).label("total"))
    current = query.where(
        table.c.state.not_in(["returned", "canceled"])
    )  # their usage is counted elsewhere, or was reversed
    rows = connection.execute(current.group_by(table.c.meter, table.c.state))
    return [(str(row.meter), str(row.state), int(row.total)) for row in rows]
