"""
Count each ``kit.record(key=)`` once per meter and company, and each usage event once per meter.

In the journal, a keyed record has a usage key like any other usage: in place of the user it has quantity, user and key.
The ledger counts it in the transaction in which it stores the key, so a second record of the key adds nothing, from
whichever process it comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from meterkit.core.threads import yielding
from meterkit.core.usage_key import NOBODY, Counted, UsageKey, event_of, is_event_key, keyed_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import insert, select_by_key
from meterkit.ledger.daily_totals import UsageRow, usage_row

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
        if is_event_key(self.key):
            return (
                f"the event {event_of(self.key)} counted {self.counted:,} for {self.meter}, and was sent again with "
                f"{self.ignored:,} for {self.company!r:.100}, which does not count: give each event its own id"
            )
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
    # The earliest of a key counts; of one second, the first in the journal.
    ordered = [(each, *keyed_of(each[0][3])) for each in sorted(records, key=_moment)]
    if not ordered:
        return [], []
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    found = {_scope(usage_key, key): -1 for (usage_key, _, _), _, _, key in yielding(ordered)}
    table = schema.record_keys
    for row in select_by_key(table, connection, table.columns.keys()[:3], list(found)):
        found[row.meter, row.company, row.key] = row.quantity
    sums: dict[UsageKey, tuple[int, int]] = {}
    conflicts: list[Conflict] = []
    new: list[tuple[str, str, str, int, int]] = []
    for (usage_key, _, last_used), quantity, user, key in yielding(ordered):
        scope = _scope(usage_key, key)
        counted = found[scope]
        meter, event_name, company, _, window = usage_key
        if counted < 0:
            found[scope] = quantity
            new.append((*scope, quantity, now))
            row_key = (meter, event_name, company, user, window)
            before, latest = sums.get(row_key, (0, 0))
            sums[row_key] = (before + quantity, max(latest, last_used))
        elif counted != quantity:
            conflicts.append(Conflict(meter, company, key, counted, quantity))
    if new:
        insert(table, connection, table.columns.keys(), new)
    return [usage_row(key, quantity, last_used) for key, (quantity, last_used) in sums.items()], conflicts


def _moment(record: Counted) -> int:
    return record[2]


def _scope(usage_key: UsageKey, key: str) -> tuple[str, str, str]:
    """Return within what *key* counts once: one of an event in all companies, so that it cannot move to another."""
    return (usage_key[0], NOBODY if is_event_key(key) else usage_key[2], key)


def prune(connection: sa.Connection, now: int) -> None:
    """Forget the keys that are older than `KEPT_SECONDS`."""
    connection.execute(sa.delete(schema.record_keys).where(schema.record_keys.c.counted_at < now - KEPT_SECONDS))
