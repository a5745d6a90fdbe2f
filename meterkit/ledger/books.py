"""Where every counted unit is now; the books must balance."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from meterkit.core.usage_key import CAPPED, NOBODY
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.payers import is_customer


@dataclass(frozen=True, slots=True)
class Books:
    """
    Where one meter's usage is. It balances when `counted` is the sum of all the others.

    Attributes:
        counted: All that was ever counted, from a column of its own; without what ``keep_days=`` has let go of.
        journal: Counted, and not flushed yet.
        unreported: In the ledger, to be reported when its window has closed.
        unlinked: In the ledger, waiting for ``kit.link()``: the company has no Stripe customer.
        unattributed: In the ledger under no company; nobody can be billed for it.
        capped: The same, because companies were invented faster than they could be flushed.
        pending: In the outbox, to be sent.
        uncertain: In the outbox; whether Stripe has it is not known, so it is not sent again.
        sent: Stripe has it.
        invoiced: Stripe has it as an item of an invoice, because it came after its own was final.
        rejected: Stripe refuses it; see the report's error.
    """

    counted: int = 0
    journal: int = 0
    unreported: int = 0
    unlinked: int = 0
    unattributed: int = 0
    capped: int = 0
    pending: int = 0
    uncertain: int = 0
    sent: int = 0
    invoiced: int = 0
    rejected: int = 0

    @property
    def balanced(self) -> bool:
        """Nothing is missing, and nothing is there twice."""
        placed = self.journal + self.unreported + self.unlinked + self.unattributed + self.capped
        return self.counted == placed + self.pending + self.uncertain + self.sent + self.invoiced + self.rejected


def books(database: Database, journal: dict[str, dict[str, int]]) -> dict[str, Books]:
    """
    Return where each meter's usage is.

    Args:
        database: Database of the ledger.
        journal: What the journal holds, ``{generation id: {meter: quantity}}``, read before this call.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        known = sa.select(schema.folds.c.generation).where(schema.folds.c.generation.in_(journal))
        folded = set(connection.scalars(known))
        entries = [
            *((row.meter, "counted", row.quantity) for row in connection.execute(sa.select(schema.counted))),
            *_unreported(connection),
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
        (sa.or_(accounts.c.customer.is_not(None), is_customer(table.c.company)), "unreported"),
        else_="unlinked",
    ).label("place")
    query = (
        sa.select(table.c.meter, place, sa.func.sum(table.c.quantity - table.c.reported).label("open"))
        .join_from(table, accounts, table.c.company == accounts.c.company, isouter=True)
        .where(table.c.quantity != table.c.reported)  # as in the index
        .group_by(table.c.meter, sa.text("place"))
    )
    return [(str(row.meter), str(row.place), int(row.open)) for row in connection.execute(query)]


def _reported(connection: sa.Connection) -> list[tuple[str, str, int]]:
    table = schema.reports
    query = sa.select(table.c.meter, table.c.state, sa.func.sum(table.c.quantity).label("total"))
    standing = query.where(table.c.state.not_in(["returned", "canceled"]))  # whose usage is elsewhere, or no more
    rows = connection.execute(standing.group_by(table.c.meter, table.c.state))
    return [(str(row.meter), str(row.state), int(row.total)) for row in rows]
