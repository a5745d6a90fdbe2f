"""Which plan each company is on, as the ledger says: by the lookup keys of its running subscriptions' prices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from meterkit.accounts.standing import ACTIVE
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.payers import companies_by_customer, companies_of
from meterkit.pricing.plan import PREFIX, plan_in


def plan_names(connection: sa.Connection, companies: Iterable[str] | None) -> dict[str, str]:
    """Return the name of the plan of each of *companies* that is on one; None reads all. The newest counts."""
    if companies is None:
        return _of_customers(connection, companies_by_customer(connection), None)
    ids, found = sorted(companies), dict[str, str]()
    for start in range(0, len(ids), BATCH):
        payers = companies_by_customer(connection, ids[start : start + BATCH])
        found |= _of_customers(connection, payers, list(payers))
    return found


def _of_customers(
    connection: sa.Connection, payers: Mapping[str, set[str]], customers: list[str] | None
) -> dict[str, str]:
    items, subscriptions = schema.items, schema.subscriptions
    query = (
        sa.select(items.c.customer, items.c.price)
        .join_from(items, subscriptions, subscriptions.c.id == items.c.subscription)
        .where(subscriptions.c.ended_at.is_(None), subscriptions.c.status.in_(ACTIVE))
        .where(items.c.price.contains(f'"{PREFIX}', autoescape=True))
        .order_by(subscriptions.c.created, subscriptions.c.id)
    )
    found: dict[str, str] = {}
    for row in connection.execute(query if customers is None else query.where(items.c.customer.in_(customers))):
        name = plan_in(json.loads(row.price).get("lookup_key"))
        if name is not None:
            for company in payers.get(row.customer, set()) | companies_of(connection, row.customer, None):
                found[company] = name
    return found
