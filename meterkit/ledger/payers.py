"""Which Stripe customer pays for a company, in Python and in SQL."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from meterkit.core.validation import is_customer_id
from meterkit.ledger import schema


def customer_of(company: str, linked: str | None) -> str | None:
    """Return the Stripe customer that pays for *company*: the id itself if it is a customer id, else the linked one."""
    return company if is_customer_id(company) else linked


def is_customer(company: sa.Column[str]) -> sa.ColumnElement[bool]:
    """Return `is_customer_id` as SQL. Not by LIKE, which may ignore case."""
    return sa.func.substr(company, 1, 4) == "cus_"


def payer_of(connection: sa.Connection, company: str) -> str | None:
    """Return the Stripe customer that pays for *company* according to the ledger; None if it is not linked."""
    return customer_of(company, connection.scalar(sa.select(schema.accounts.c.customer).filter_by(company=company)))


def companies_by_customer(connection: sa.Connection, companies: Iterable[str] | None = None) -> dict[str, set[str]]:
    """
    Return the companies that each Stripe customer pays for.

    Args:
        connection: Connection to the ledger.
        companies: Company ids to look up; None looks up all linked companies. A Stripe customer id pays for itself.
    """
    accounts = schema.accounts
    query = sa.select(accounts.c.company, accounts.c.customer)
    found: dict[str, set[str]] = {}
    if companies is not None:
        requested = list(companies)
        query = query.where(accounts.c.company.in_(requested))
        found = {company: {company} for company in requested if is_customer_id(company)}
    for row in connection.execute(query):
        found.setdefault(row.customer, set()).add(row.company)
    return found
