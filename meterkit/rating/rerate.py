"""
Rate a month's usage again, because its price was wrong or missing.

The differences are usage of the meters of amounts, so they reach the invoice as any usage does: with the next report,
with the next invoice if theirs is final, or as a credit that is named. Each is kept, and can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import Period, instant
from meterkit.core.usage_key import decoded_values
from meterkit.errors import UsageError
from meterkit.ledger import actions, schema
from meterkit.ledger.bulk import add_to
from meterkit.ledger.database import Database
from meterkit.ledger.rating.changes import Move, Place, move
from meterkit.ledger.rating.reading import in_currency
from meterkit.ledger.rating.rows import UNPRICED, lock
from meterkit.pricing.price import EXACT
from meterkit.pricing.rates.table import RateTable

Tables = Mapping[str, RateTable]
"""Tables of rates by the name of the meter whose usage they rate."""


@dataclass(frozen=True, slots=True)
class Rerated:
    """
    What a month's usage of one company and combination of values costs before and after.

    Attributes:
        company: Company id, as the application knows it; None for unattributed usage.
        meter: Name of the meter.
        values: Values by the names of the dimensions; empty text if unknown.
        quantity: Usage in the meter's unit that gets another rate.
        old: What it was rated at, in whole currency, exact; None if it had no price.
        new: What it is rated at now, in whole currency, exact; None if it has no price.
        currency: Three-letter currency code, lower case.
    """

    company: str | None
    meter: str
    values: Mapping[str, str] = field(hash=False)
    quantity: int
    old: Decimal | None
    new: Decimal | None
    currency: str

    @property
    def change(self) -> Decimal:
        """What is billed in addition, in whole currency; negative if it is less."""
        return EXACT.subtract(self.new or Decimal(0), self.old or Decimal(0))


class Rerating:
    """
    Gives rated usage of a month other rates.

    Args:
        database: Database of the ledger.
        tables: Tables of the kit, by the name of the meter.
        month: Month, in UTC.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, tables: Tables, month: Period, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._tables = tables
        self._month = month
        self._clock = clock

    def differences(self) -> list[Rerated]:
        """
        Return what would change. Changes nothing.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        with self._database.snapshot() as connection:
            return self._summed(self._moves(connection))

    def apply(self, *, by: str) -> list[Rerated]:
        """
        Give the month's usage its new rates, once, however often it is called. One that was killed is continued.

        Args:
            by: Who does it, for the audit trail; empty if that is not said.

        Returns:
            What was changed by this call.

        Raises:
            LedgerError: The ledger failed; call again for what is left.
        """
        with self._database.snapshot() as connection:
            companies = sorted({each.place.company for each in self._moves(connection)})
        if not companies:
            self._settle("begun", "done")
            return []
        number = self._begun(by)
        done: list[Move] = []
        for company in companies:
            with self._database.transaction() as connection:
                lock(connection, [(company, table.name) for table in self._tables.values()])
                moves = list(self._moves(connection, company))
                kept = [(number, *each.place, each.old, each.new, each.quantity) for each in moves]
                add_to(schema.rerated, connection, kept, add="quantity")
                move(connection, self._tables, moves)
            done += moves
        self._settle("begun", "done")
        return self._summed(done)

    def undo(self, *, by: str) -> list[Rerated]:
        """
        Take back the latest rerating of the month, once. One that was killed is continued.

        Args:
            by: Who does it, for the audit trail; empty if that is not said.

        Returns:
            What was changed by this call.

        Raises:
            UsageError: The month was not rerated, or all of that was taken back.
            LedgerError: The ledger failed; call again for what is left.
        """
        number = self._undoing(by)
        table = schema.rerated
        with self._database.snapshot() as connection:
            companies = list(
                connection.scalars(sa.select(table.c.company).filter_by(rerate=number).distinct().order_by("company"))
            )
        done: list[Move] = []
        for company in companies:
            with self._database.transaction() as connection:
                lock(connection, [(company, each.name) for each in self._tables.values()])
                moves = [each for each in _backwards(connection, number, company) if each.quantity]
                move(connection, self._tables, moves)
                connection.execute(sa.delete(table).filter_by(rerate=number, company=company))
            done += moves
        self._settle("undoing", "undone")
        return self._summed(done)

    def _moves(self, connection: sa.Connection, company: str | None = None) -> Iterator[Move]:
        """Yield the usage that has another rate than its table says now. What the table lacks keeps its rate."""
        rated = schema.rated
        query = sa.select(rated).where(rated.c.window >= self._month.start, rated.c.window < self._month.end)
        query = query.where(rated.c.meter.in_(self._tables), rated.c.quantity > 0)
        query = query.order_by(*rated.primary_key)
        if company is not None:
            query = query.where(rated.c.company == company).with_for_update()
        for row in connection.execute(query):
            table = self._tables[row.meter]
            rate = table.rate(row.dimensions, row.window)
            if table.name == row.amounts and rate is not None and rate != row.rate:
                yield Move(
                    Place(row.company, row.meter, row.window, row.dimensions, row.amounts), row.rate, rate, row.quantity
                )

    def _summed(self, moves: Iterable[Move]) -> list[Rerated]:
        sums: dict[tuple[str, str, str], list[int | None]] = {}
        for place, old, new, quantity in moves:
            known = sums.setdefault((place.company, place.meter, place.dimensions), [0, None, None])
            known[0] = (known[0] or 0) + quantity
            for at, rate in ((1, old), (2, new)):
                if rate is not None and rate != UNPRICED:
                    known[at] = (known[at] or 0) + quantity * rate
        return [
            Rerated(
                company=company or None,
                meter=meter,
                values=decoded_values(dimensions),
                quantity=quantity or 0,
                old=None if old is None else in_currency(old),
                new=None if new is None else in_currency(new),
                currency=self._tables[meter].currency,
            )
            for (company, meter, dimensions), (quantity, old, new) in sorted(sums.items())
        ]

    def _begun(self, by: str) -> int:
        """Return the number of the rerating that has begun, or begin one."""
        table = schema.rerates
        with self._database.transaction() as connection:
            known = sa.select(table.c.id).filter_by(month=self._month.start, state="begun").with_for_update()
            number = connection.scalar(known.order_by(table.c.id.desc()).limit(1))
            if number is None:
                row: dict[str, Any] = {"month": self._month.start, "at": self._now(), "by": by, "state": "begun"}
                made = connection.execute(sa.insert(table).values(row)).inserted_primary_key
                assert made is not None
                number = made[0]
                self._note(connection, "rated again", by)
        return int(number)

    def _undoing(self, by: str) -> int:
        """Return the number of the rerating that is taken back."""
        table = schema.rerates
        with self._database.transaction() as connection:
            query = sa.select(table).filter_by(month=self._month.start).where(table.c.state != "undone")
            row = connection.execute(query.order_by(table.c.id.desc()).limit(1).with_for_update()).first()
            if row is None:
                raise UsageError(
                    "there is nothing to undo: the usage of this month was not rated again, or all of that was taken "
                    "back",
                    reason="month_wrong",
                )
            if row.state != "undoing":
                connection.execute(sa.update(table).filter_by(id=row.id).values(state="undoing"))
                self._note(connection, "taken back", by)
        return int(row.id)

    def _settle(self, state: str, becomes: str) -> None:
        table = schema.rerates
        with self._database.transaction() as connection:
            mine = sa.update(table).filter_by(month=self._month.start, state=state)
            connection.execute(mine.values(state=becomes))

    def _note(self, connection: sa.Connection, detail: str, by: str) -> None:
        actions.note(connection, "rerate", _named(self._month), detail, by=by, at=self._now())

    def _now(self) -> int:
        return int(self._clock())


def _backwards(connection: sa.Connection, number: int, company: str) -> Iterator[Move]:
    """Yield what takes back the changes of a company; of usage that was reversed since, only what is left."""
    changed, rated = schema.rerated, schema.rated
    query = sa.select(changed).filter_by(rerate=number, company=company).order_by(*changed.primary_key)
    for row in list(connection.execute(query)):
        place = Place(row.company, row.meter, row.window, row.dimensions, row.amounts)
        there = sa.select(rated.c.quantity).filter_by(**place._asdict(), rate=row.new).with_for_update()
        yield Move(place, row.new, row.old, max(0, min(row.quantity, connection.scalar(there) or 0)))


def _named(month: Period) -> str:
    return instant(month.start)[:7]
