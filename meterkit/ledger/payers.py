"""Which Stripe customer pays for a company, in Python and in SQL."""

from __future__ import annotations

import sqlalchemy as sa


def customer_of(company: str, linked: str | None) -> str | None:
    """The Stripe customer who pays for *company*: itself, if it is one, or the linked one."""
    return company if company.startswith("cus_") else linked


def is_customer(company: sa.Column[str]) -> sa.ColumnElement[bool]:
    """The same in SQL, whose LIKE may not mind the case."""
    return sa.func.substr(company, 1, 4) == "cus_"
