"""
Of which companies there is news that limits and spending may follow: from Stripe, or by `kit.refresh`.

Every process finds out for itself, when it rebuilds its snapshot: a webhook arrives at only one of them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database, put
from meterkit.ledger.payers import companies_by_customer, companies_of

OVERLAP_SECONDS = 120
"""Age of a change that may become visible only now: Stripe may take half a minute, and hosts' clocks may differ."""

REFRESH = "refresh:"
"""Prefix of the keys under which `ask_again` writes."""

REFRESH_SECONDS = 24 * 3600
"""How long such a request is kept: every process that runs has read the ledger since."""

_Row: TypeAlias = "tuple[str, str]"
"""Kind of row, and its id."""


class News(NamedTuple):
    """
    What has changed since it was last settled.

    Attributes:
        companies: Companies that it is about.
        since: Unix second from which on rows were read.
        rows: Their contents, to tell a change from a row that was seen before.
    """

    companies: set[str]
    since: int
    rows: Mapping[_Row, Any]


class NewsReader:
    """Reads what has changed in customers, subscriptions and links. For one thread; the first time finds nothing."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._rows: Mapping[_Row, Any] = {}

    def read(self, connection: sa.Connection, now: int) -> News:
        """
        Return what has changed since the last `settle`.

        Args:
            connection: Connection to the ledger.
            now: Current time, Unix seconds.
        """
        since = now - OVERLAP_SECONDS
        rows: dict[_Row, Any] = {}
        customers: dict[_Row, str] = {}
        companies: dict[_Row, str] = {}
        begin = since if self._since is None else min(since, self._since)
        for row in connection.execute(_subscriptions(begin)):
            key = ("subscription", row.subscription_id)
            rows[key] = (*rows.get(key, ()), tuple(row))
            customers[key] = row.customer
        for row in connection.execute(sa.select(schema.customers).where(schema.customers.c.checked_at >= begin)):
            key = ("customer", row.id)
            rows[key] = tuple(row)
            customers[key] = row.id
        for row in connection.execute(sa.select(schema.accounts).where(schema.accounts.c.linked_at >= begin)):
            key = ("link", row.company)
            rows[key] = tuple(row)
            companies[key] = row.company
        for row in connection.execute(_requests()):
            key = ("request", row.key)
            rows[key] = row.value
            companies[key] = row.value.split(" ", 2)[2]
        if self._since is None:
            return News(set(), since, rows)
        changed = {key for key, content in rows.items() if self._rows.get(key) != content}
        found = {companies[key] for key in changed & companies.keys()}
        payers = {customers[key] for key in changed & customers.keys()}
        if payers:
            linked = companies_by_customer(connection)
            for payer in payers:
                found |= linked.get(payer, set()) | companies_of(connection, payer, None)
        return News(found, since, rows)

    def settle(self, news: News) -> None:
        """Forget *news*: what follows from it has been done."""
        self._since, self._rows = news.since, news.rows


def ask_again(database: Database, company: str, now: int) -> None:
    """
    Have every process find *company* among its news.

    Args:
        database: Database of the ledger.
        company: Company id.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger failed.
    """
    table = schema.meta
    key = REFRESH + hashlib.sha256(company.encode()).hexdigest()[:24]
    with database.transaction() as connection:
        for row in connection.execute(_requests()).all():
            if int(row.value.split(" ", 1)[0]) < now - REFRESH_SECONDS:
                connection.execute(sa.delete(table).filter_by(key=row.key))
        # Twice within a second is two requests, so each is unlike the one before.
        put(table, connection, {"key": key, "value": f"{now} {uuid.uuid4().hex} {company}"})


def _subscriptions(begin: int) -> sa.Select[Any]:
    subscriptions, items = schema.subscriptions, schema.items
    return (
        sa.select(
            subscriptions.c.id.label("subscription_id"),
            subscriptions.c.customer,
            subscriptions.c.status,
            subscriptions.c.ended_at,
            subscriptions.c.cancel_at,
            subscriptions.c.trial_end,
            subscriptions.c.pause,
            subscriptions.c.discounts,
            subscriptions.c.checked_at,
            *(column.label(f"item_{column.name}") for column in items.c),
        )
        .join_from(subscriptions, items, items.c.subscription == subscriptions.c.id, isouter=True)
        .where(subscriptions.c.checked_at >= begin)
        .order_by(subscriptions.c.id, items.c.id)
    )


def _requests() -> sa.Select[Any]:
    key = schema.meta.c.key
    return sa.select(schema.meta).where(sa.func.substr(key, 1, len(REFRESH)) == REFRESH)
