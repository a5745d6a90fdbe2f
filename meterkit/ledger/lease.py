"""Leases: one process at a time may report, or sync accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.errors import LedgerError
from meterkit.ledger import schema
from meterkit.ledger.database import Database, agreed_time

Name: TypeAlias = Literal["reporter", "follower"]

_WORK = {"reporter": "reporting", "follower": "syncing accounts"}

LEASE_SECONDS = 60
"""Seconds after which a lease expires unless a write renews it; longer than any single call to Stripe."""


class LeaseLostError(LedgerError):
    """Another process holds the lease; nothing was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """
    The exclusive right to report, or to sync accounts.

    Attributes:
        name: ``reporter`` to report, ``follower`` to sync accounts.
        holder: Id of the process that holds the lease.
        token: Number that grows with each new holder, so that writes of a former holder are refused.
    """

    name: Name
    holder: str
    token: int


@contextmanager
def held(database: Database, name: Name, holder: str, *, clock: Callable[[], float]) -> Iterator[Lease]:
    """
    Hold the lease *name* for a block of work, and release it at the end.

    Raises:
        LeaseLostError: Another process holds it.
        LedgerError: The ledger failed.
    """
    lease = acquire(database, name, holder, clock=clock)
    if lease is None:
        raise LeaseLostError(f"another process is {_WORK[name]} now")
    try:
        yield lease
    finally:
        with suppress(LedgerError):  # it expires anyway
            release(database, lease)


def acquire(database: Database, name: Name, holder: str, *, clock: Callable[[], float]) -> Lease | None:
    """Return the lease *name*, or None if another process holds it. It expires `LEASE_SECONDS` after each renewal."""
    table = schema.lease
    with database.transaction() as connection:
        now = agreed_time(connection, clock)
        is_free = sa.or_(
            table.c.holder == holder,
            table.c.expires_at <= now,
            table.c.expires_at > now + LEASE_SECONDS,  # the clock was ahead when it was written
        )
        # A single statement: a second process waits for it, evaluates the condition again, and updates no row.
        take = sa.update(table).where(table.c.name == name, is_free)
        taken = take.values(holder=holder, token=table.c.token + 1, expires_at=now + LEASE_SECONDS)
        if connection.execute(taken).rowcount == 0:
            return None
        token = connection.scalar(sa.select(table.c.token).where(table.c.name == name))
        assert token is not None
    return Lease(name, holder, token)


def hold(lease: Lease, connection: sa.Connection, *, clock: Callable[[], float]) -> None:
    """
    Renew *lease* within the transaction that relies on it; no process can take it before that transaction ends.

    Raises:
        LeaseLostError: Another process holds it now.
    """
    own = sa.update(schema.lease).filter_by(name=lease.name, token=lease.token)
    renewed = own.values(expires_at=agreed_time(connection, clock) + LEASE_SECONDS)
    if connection.execute(renewed).rowcount == 0:
        raise LeaseLostError(f"another process has taken the lease and is {_WORK[lease.name]} now")


def release(database: Database, lease: Lease) -> None:
    """Release *lease*, so that another process can acquire it at once."""
    with database.transaction() as connection:
        own = sa.update(schema.lease).filter_by(name=lease.name, token=lease.token)
        connection.execute(own.values(expires_at=0))


def wait_for_holders(connection: sa.Connection) -> None:
    """Wait until no transaction relies on a lease; until this one ends, those of the holders wait for it."""
    connection.execute(sa.select(schema.lease.c.token).order_by(schema.lease.c.name).with_for_update())
