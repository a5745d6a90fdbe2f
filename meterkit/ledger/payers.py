"""Which Stripe customer pays for a company, in Python and in SQL."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from meterkit.core.validation import is_customer_id
from meterkit.ledger import schema

CUSTOMER_IDS = "meterkit_customer_ids"
"""Execution option of a ledger's connections: whether a company id that is a customer id pays for itself."""


def pays_for_itself(connection: sa.Connection, company: str) -> bool:
    """Return whether *company* is a Stripe customer id, of a kit that takes such ids for what they are."""
    return is_customer_id(company) and _takes_customer_ids(connection)


def customer_of(connection: sa.Connection, company: str, linked: str | None) -> str | None:
    """Return the Stripe customer that pays for *company*: itself if it `pays_for_itself`, else the *linked* one."""
    return company if pays_for_itself(connection, company) else linked


def is_customer(connection: sa.Connection, company: sa.Column[str]) -> sa.ColumnElement[bool]:
    """Return `pays_for_itself` as SQL. Not by LIKE, which may ignore case."""
    return sa.func.substr(company, 1, 4) == "cus_" if _takes_customer_ids(connection) else sa.false()


def _takes_customer_ids(connection: sa.Connection) -> bool:
    return bool(connection.get_execution_options().get(CUSTOMER_IDS))


def payer_of(connection: sa.Connection, company: str) -> str | None:
    """Return the Stripe customer that pays for *company* according to the ledger; None if it is not linked."""
    linked = connection.scalar(sa.select(schema.accounts.c.customer).filter_by(company=company))
    return customer_of(connection, company, linked)


def companies_of(connection: sa.Connection, customer: str, linked: str | None) -> set[str]:
    """Return the companies that *customer* pays for: itself if it `pays_for_itself`, and the *linked* one if any."""
    found = {customer} if pays_for_itself(connection, customer) else set()
    return found if linked is None else found | {linked}


def companies_paid_by(connection: sa.Connection, customer: str) -> set[str]:
    """Return all companies that *customer* pays for."""
    linked = connection.scalars(sa.select(schema.accounts.c.company).filter_by(customer=customer))
    return set(linked) | companies_of(connection, customer, None)


def companies_by_customer(connection: sa.Connection, companies: Iterable[str] | None = None) -> dict[str, set[str]]:
    """
    Return the companies that each Stripe customer pays for.

    Args:
        connection: Connection to the ledger.
        companies: Company ids to look up; None looks up all linked companies. One that `pays_for_itself` is
            among its own.
    """
    accounts = schema.accounts
    query = sa.select(accounts.c.company, accounts.c.customer)
    found: dict[str, set[str]] = {}
    if companies is not None:
        requested = list(companies)
        query = query.where(accounts.c.company.in_(requested))
        found = {company: {company} for company in requested if pays_for_itself(connection, company)}
    for row in connection.execute(query):
        found.setdefault(row.customer, set()).add(row.company)
    return found
