"""
Which of Stripe's modes a ledger belongs to: test or live, and of which connected account.

They share nothing: customers, subscriptions and invoices of the one do not exist in the other. So a ledger remembers
the mode of the first key that it was used with, and what it knows of Stripe is not used in another.
"""

from __future__ import annotations

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.schema import (
    accounts,
    customers,
    deliveries,
    former_items,
    invoices,
    items,
    notices,
    opening_balances,
    stripe_meters,
    subscription_states,
    subscriptions,
    top_up_attempts,
    top_ups,
    webhook_events,
)

LIVE = "meterkit_live"
"""Execution option of a ledger's connections: whether the kit's key is live; None if that is unknown."""

ACCOUNT = "meterkit_stripe_account"
"""Execution option of a ledger's connections: the connected account that the kit bills for; None for the key's own."""

KEY = "stripe_mode"
"""Key under which a ledger remembers its mode."""

ACCOUNT_KEY = "stripe_account"
"""Key under which a ledger remembers the id of the account that it was first synced with."""


def own_mode(connection: sa.Connection) -> str | None:
    """
    Return the mode of the connection's kit: ``live`` or ``test``, and in a connected account ``live of acct_...``; None
    if that is unknown.
    """
    options = connection.get_execution_options()
    is_live: bool | None = options.get(LIVE)
    if is_live is None:
        return None
    account = options.get(ACCOUNT)
    return ("live" if is_live else "test") + (f" of {account}" if account else "")


def mode_of(connection: sa.Connection) -> str | None:
    """Return the mode that the ledger belongs to, as `own_mode` does; None if it belongs to none yet."""
    found: str | None = connection.scalar(sa.select(schema.meta.c.value).filter_by(key=KEY))
    return found


def foreign_mode(connection: sa.Connection) -> str | None:
    """Return the mode that the ledger belongs to if it is not that of the connection's key; else None."""
    own = own_mode(connection)
    if own is None:
        return None
    known = mode_of(connection)
    return None if known in (None, own) else known


def forget(connection: sa.Connection) -> None:
    """
    Delete what Stripe has told, and what follows from it; usage stays.

    Links stay that the application has made to customers that Stripe has not told of.
    """
    by_application = accounts.c.source == "link"
    is_read = accounts.c.customer.in_(sa.select(customers.c.id))
    connection.execute(sa.delete(accounts).where(sa.or_(~by_application, is_read)))
    of_subscriptions = (subscriptions, subscription_states, items, former_items, opening_balances)
    of_payments = (invoices, top_ups, top_up_attempts)
    for table in (customers, *of_subscriptions, stripe_meters, *of_payments, webhook_events):
        connection.execute(sa.delete(table))
    # Or companies would be told that they have recovered from what they were told of in the other mode.
    about = sa.select(notices.c.key).where(notices.c.kind.in_(("overdue", "recovered")))
    connection.execute(sa.delete(deliveries).where(deliveries.c.notice.in_(about)))
    connection.execute(sa.delete(notices).where(notices.c.kind.in_(("overdue", "recovered"))))
    connection.execute(sa.delete(schema.meta).where(schema.meta.c.key.in_((KEY, ACCOUNT_KEY))))
