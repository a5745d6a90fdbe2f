"""A ledger that belongs to the other one of Stripe's modes: refuse it, or have it forget that mode."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from meterkit.errors import ConfigurationError
from meterkit.ledger import actions, schema
from meterkit.ledger.database import Database, insert_once
from meterkit.ledger.lease import held, hold
from meterkit.ledger.schema import stripe_mode


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
        foreign = stripe_mode.foreign_mode(connection)
    if foreign is not None:
        raise ConfigurationError(message(database, foreign))


def message(database: Database, foreign: str) -> str:
    """Return what to do about a ledger that belongs to the mode *foreign*, while the kit's key is of the other."""
    own = "live" if foreign == "test" else "test"
    return (
        f"the ledger {database} belongs to Stripe's {foreign} mode, and the key is of {own} mode: nothing is read from "
        f"Stripe or reported, and nobody is blocked by what the {foreign} mode told. Choose another data_dir= or "
        f"ledger= for {own} mode; or run meterkit forget-mode, after which the ledger's usage goes to {own} mode"
    )


def forget_mode(database: Database, *, by: str, clock: Callable[[], float]) -> str | None:
    """
    Delete what the mode that the ledger belongs to has told: customers, subscriptions, invoices and links to them.

    Args:
        database: Database of the ledger.
        by: Who asked for it; for the audit trail.
        clock: Function that returns Unix seconds.

    Returns:
        Mode that the ledger belonged to, ``live`` or ``test``; None if it belonged to none, and nothing was deleted.

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
            actions.note(connection, "forget_mode", known, "", by=by, at=int(clock()))
    return known
