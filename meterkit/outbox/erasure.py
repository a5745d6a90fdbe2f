"""
Remove a user's id from the ledger, without any change to what is billed.

Usage moves to the company's rows without a user. A value of ``unique()`` that is the user's id becomes a salted hash,
because it must still be recognised within its billing period: otherwise, a user who comes back would be billed twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from meterkit.core.usage_key import NOBODY
from meterkit.ledger import actions, schema
from meterkit.ledger.aggregates import hashed, lock, salt_of
from meterkit.ledger.database import Database, insert_into
from meterkit.ledger.lease import held, hold

_KEY = ("meter", "event_name", "company", "window")


def forget_user(database: Database, company: str, user: str, *, by: str, clock: Callable[[], float]) -> int:
    """
    Remove the id *user* of *company*.

    Args:
        database: Database of the ledger.
        company: Company id.
        user: User id within the company.
        by: Who asked for it; for the audit trail, which does not name the user.
        clock: Function that returns Unix seconds.

    Returns:
        Number of rows that named the user.

    Raises:
        LedgerError: The ledger failed, or another process is reporting; nothing was changed.
    """
    with (
        held(database, "reporter", uuid.uuid4().hex, clock=clock) as lease,
        database.transaction() as connection,
    ):
        lock(connection)  # before the usage rows, as a flush does
        hold(lease, connection, clock=clock)  # a report must not read the rows while they move
        found = _move_usage(connection, company, user) + _hash_values(connection, company, user)
        actions.note(connection, "forget_user", company, f"{found} rows", by=by, at=int(clock()))
    return found


def _move_usage(connection: sa.Connection, company: str, user: str) -> int:
    table = schema.usage
    # In the order in which a flush locks them, so that the two do not deadlock.
    query = sa.select(table).where(table.c.company == company, table.c.user.in_([NOBODY, user]))
    order = (table.c.meter, table.c.event_name, table.c.user, table.c.window)
    rows = connection.execute(query.order_by(*order).with_for_update()).all()
    own = [row for row in rows if row.user == user]
    for row in own:
        statement = insert_into(table, connection)
        given = statement.excluded
        moved: dict[str, Any] = {name: getattr(row, name) for name in (*_KEY, "quantity", "reported", "last_used")}
        changes = {
            "quantity": table.c.quantity + given.quantity,
            "reported": table.c.reported + given.reported,
            "last_used": sa.case((given.last_used > table.c.last_used, given.last_used), else_=table.c.last_used),
        }
        statement = statement.values(user=NOBODY, **moved)
        connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes))
    connection.execute(sa.delete(table).filter_by(company=company, user=user))
    return len(own)


def _hash_values(connection: sa.Connection, company: str, user: str) -> int:
    table = schema.peaks
    mine = sa.and_(table.c.company == company, table.c.value == user)
    if not connection.scalar(sa.select(sa.func.count()).where(mine)):
        return 0
    salt = salt_of(connection)
    if salt is None:
        salt = uuid.uuid4().hex
        connection.execute(sa.insert(schema.meta).values(key="salt", value=salt))
    return connection.execute(sa.update(table).where(mine).values(value=hashed(user, salt))).rowcount
