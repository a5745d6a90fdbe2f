"""A ledger that belongs to the other one of Stripe's modes: refuse it, or have it forget that mode."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import sqlalchemy as sa

from meterkit.errors import ConfigurationError
from meterkit.ledger import actions, schema
from meterkit.ledger.database import Database, insert_once
from meterkit.ledger.lease import held, hold
from meterkit.ledger.schema import stripe_mode
from meterkit.wallets.reversal import revoke_paid


def check_mode(database: Database) -> None:
    """
    Have the ledger belong to the mode of the kit's key, or make certain that it does.

    Raises:
        ConfigurationError: It belongs to the other mode; the message says what can be done.
        LedgerError: The ledger failed.
    """
    with database.snapshot() as connection:
        own, known = stripe_mode.own_mode(connection), stripe_mode.mode_of(connection)
    if own is not None and known is None:
        with database.transaction() as connection:
            insert_once(schema.meta, connection, {"key": stripe_mode.KEY, "value": own})
    refuse_other_mode(database)


def refuse_other_mode(database: Database) -> None:
    """
    Make certain that the ledger does not belong to the other mode than the kit's key.

    Raises:
        ConfigurationError: It does; the message says what can be done.
        LedgerError: The ledger failed.
    """
    with database.snapshot() as connection:
        trouble = trouble_of(connection, str(database))
    if trouble:
        raise ConfigurationError(trouble)


def check_account(database: Database, account: str) -> None:
    """
    Have the ledger belong to *account*, or make certain that it does.

    Args:
        database: Database of the ledger.
        account: Id of the Stripe account that the kit's key acts in, ``acct_...``.

    Raises:
        ConfigurationError: It belongs to another one; the message says what can be done.
        LedgerError: The ledger failed.
    """
    table = schema.meta
    query = sa.select(table.c.value).filter_by(key=stripe_mode.ACCOUNT_KEY)
    with database.snapshot() as connection:
        known = connection.scalar(query)
    if known is None:
        with database.transaction() as connection:
            insert_once(table, connection, {"key": stripe_mode.ACCOUNT_KEY, "value": account})
            known = connection.scalar(query)
    if known != account:
        raise ConfigurationError(
            f"the ledger {database} was synced with the Stripe account {known}, and the kit's key is of {account}: "
            f"nothing was read. Choose another data_dir= or ledger= for {account}; or run meterkit forget-mode, after "
            f"which the ledger's usage goes to {account}; or use a key of {known}"
        )


def trouble_of(connection: sa.Connection, name: str) -> str:
    """Return what to do if the ledger *name* belongs to another mode than the kit's key; else an empty text."""
    foreign = stripe_mode.foreign_mode(connection)
    if foreign is None:
        return ""
    before, now = _said(foreign), _said(stripe_mode.own_mode(connection) or "")
    return (
        f"the ledger {name} belongs to Stripe's {before}, and the kit to its {now}: nothing is read from Stripe or "
        f"reported, and nobody is blocked by what the {before} told. Choose another data_dir= or ledger= for the "
        f"{now}; or run meterkit forget-mode, after which the ledger's usage goes to the {now}"
    )


def _said(mode: str) -> str:
    kind, _, account = mode.partition(" of ")
    return f"{kind} mode" + (f" of {account}" if account else "")


def forget_mode(database: Database, *, by: str, clock: Callable[[], float]) -> str | None:
    """
    Delete what the mode that the ledger belongs to has told: customers, subscriptions, invoices and links to them.

    Args:
        database: Database of the ledger.
        by: Who asked for it; for the audit trail.
        clock: Function that returns Unix seconds.

    Returns:
        Mode that the ledger belonged to: ``live`` or ``test``, or ``live of acct_...``; None if it belonged to none,
        and nothing was deleted.

    Raises:
        LedgerError: The ledger failed, or another process is reporting or syncing; nothing was changed.
    """
    holder = uuid.uuid4().hex
    with (
        held(database, "reporter", holder, clock=clock) as reporter,
        held(database, "follower", holder, clock=clock) as follower,
        database.transaction() as connection,
    ):
        hold(reporter, connection, clock=clock)
        hold(follower, connection, clock=clock)
        known = stripe_mode.mode_of(connection)
        if known is not None:
            stripe_mode.forget(connection)
            revoke_paid(connection, int(clock()))
            actions.note(connection, "forget_mode", known, "", by=by, at=int(clock()))
    return known
