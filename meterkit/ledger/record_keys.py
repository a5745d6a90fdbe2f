"""
Count each ``kit.record(key=)`` once per meter and company.

In the journal, a keyed record has a usage key like any other usage: in place of the user it has quantity, user and key.
The ledger counts it in the transaction in which it stores the key, so a second record of the key adds nothing, from
whichever process it comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from meterkit.core.usage_key import Counted, keyed_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH, insert
from meterkit.ledger.daily_totals import UsageRow

KEPT_SECONDS = 35 * 24 * 3600
"""Seconds for which a key is remembered: as long as Stripe accepts usage of that time."""

_LOCK = 0x6B657973  # "keys": key of an advisory lock that no other program takes


class Conflict(NamedTuple):
    """
    A key that was recorded again with another quantity, which was not counted.

    Attributes:
        meter: Name of the meter.
        company: Company id.
        key: Key that the application gave.
        counted: Quantity of the first record, which counts.
        ignored: Quantity of this one.
    """

    meter: str
    company: str
    key: str
    counted: int
    ignored: int

    @property
    def message(self) -> str:
        """What happened, and the cure."""
        return (
            f"record(key={self.key!r:.100}) of {self.meter} for {self.company!r:.100} counted {self.counted:,}, and "
            f"was called again with {self.ignored:,}, which does not count: give each piece of work its own key"
        )


def once(connection: sa.Connection, records: Iterable[Counted], *, now: int) -> tuple[list[UsageRow], list[Conflict]]:
    """
    Return the usage rows of *records* whose keys are new, and store these keys in this transaction.

    Args:
        connection: Connection in a transaction.
        records: Keyed records, as the journal has them.
        now: Time from which the keys are remembered, Unix seconds.
    """
    ordered = sorted(records, key=lambda each: (each[2], each[0][4]))  # the earliest of a key counts
    if not ordered:
        return [], []
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    known = _known(connection, ordered)
    rows: list[UsageRow] = []
    conflicts: list[Conflict] = []
    new: list[tuple[str, str, str, int, int]] = []
    for (meter, event_name, company, record, window), _, last_used in ordered:
        quantity, user, key = keyed_of(record)
        counted = known.setdefault((meter, company), {})
        if key not in counted:
            counted[key] = quantity
            new.append((meter, company, key, quantity, now))
            rows.append((meter, event_name, company, user, window, quantity, 0, last_used))
        elif counted[key] != quantity:
            conflicts.append(Conflict(meter, company, key, counted[key], quantity))
    if new:
        insert(schema.record_keys, connection, schema.record_keys.columns.keys(), new)
    return rows, conflicts


def prune(connection: sa.Connection, now: int) -> None:
    """Forget the keys that are older than `KEPT_SECONDS`."""
    connection.execute(sa.delete(schema.record_keys).where(schema.record_keys.c.counted_at < now - KEPT_SECONDS))


def _known(connection: sa.Connection, records: Iterable[Counted]) -> dict[tuple[str, str], dict[str, int]]:
    """Return the quantity that each key of *records* has counted, by meter and company."""
    table = schema.record_keys
    asked: dict[tuple[str, str], set[str]] = {}
    for (meter, _, company, record, _), _, _ in records:
        asked.setdefault((meter, company), set()).add(keyed_of(record)[2])
    found: dict[tuple[str, str], dict[str, int]] = {}
    for (meter, company), keys in asked.items():
        ids = sorted(keys)
        for start in range(0, len(ids), BATCH):
            query = sa.select(table.c.key, table.c.quantity).filter_by(meter=meter, company=company)
            for row in connection.execute(query.where(table.c.key.in_(ids[start : start + BATCH]))):
                found.setdefault((meter, company), {})[row.key] = row.quantity
    return found
