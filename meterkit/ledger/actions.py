"""The audit trail: what operators did to the books, and who."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database

Kind: TypeAlias = (
    "Literal['link', 'correct', 'rerate', 'retry', 'decide', 'forget_user', 'forget_mode', 'grant', 'revoke', 'top_up']"
)


@dataclass(frozen=True, slots=True)
class Action:
    """
    What an operator did.

    Attributes:
        at: Unix second.
        action: ``link``, ``correct``, ``rerate``, ``retry``, ``decide``, ``forget_user``, ``forget_mode``, ``grant``,
            ``revoke`` or ``top_up``.
        subject: Company id, identifier of a meter event, month, or mode.
        detail: What was done to it.
        by: Who did it, as given by ``by=``; None if that was not given.
    """

    at: int
    action: str
    subject: str
    detail: str
    by: str | None


def note(connection: sa.Connection, action: Kind, subject: str, detail: str, *, by: str, at: int) -> None:
    """Record an action in the transaction that carries it out, at the Unix second *at*."""
    row = {"at": at, "action": action, "subject": subject, "detail": detail, "by": by}
    connection.execute(sa.insert(schema.actions).values(row))


def latest(database: Database, *, limit: int) -> list[Action]:
    """
    Return the latest *limit* actions, newest first.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.actions
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    with database.snapshot() as connection:
        return [
            Action(row.at, row.action, row.subject, row.detail, row.by or None) for row in connection.execute(query)
        ]
