"""
Double entry: each movement of a wallet has rows, on several accounts, that add up to 0.

Accounts, and when their sum grows:

* ``granted``    the source of all grants; its sum is the negative of what was granted
* ``available``  what can be spent; by grant, its sum is the grant's ``remaining``
* ``used``       what the usage is worth at the wallet's rates
* ``uncovered``  the negative of what usage was worth beyond the balance, or of refunds and disputes of what was spent
* ``expired``    what expired before it was spent
* ``revoked``    what was taken back
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.bulk import add_to
from meterkit.ledger.schema.quantities import Quantity, added, sum_of

Account: TypeAlias = "Literal['granted', 'available', 'used', 'uncovered', 'expired', 'revoked']"

Cause: TypeAlias = "Literal['grant', 'usage', 'expiry', 'revocation', 'reinstatement']"


PAID = "stripe"
"""Source of the grants that were paid in Stripe."""

_GRANT = schema.grants.c

SPENDING_ORDER = (_GRANT.priority, _GRANT.expires_at.is_(None), _GRANT.expires_at, _GRANT.created_at, _GRANT.id)
"""The order in which grants are spent: the lowest priority number, the earliest expiry, the oldest."""


@dataclass(frozen=True, slots=True)
class Place:
    """
    Whose balance it is.

    Attributes:
        company: Company id.
        wallet: Name of the wallet.
        unit: Unit of the wallet, or its currency in capitals.
    """

    company: str
    wallet: str
    unit: str


@dataclass(frozen=True, slots=True)
class Movement:
    """
    One movement: entries that add up to 0.

    Attributes:
        place: Whose balance it changes.
        id: Id of the movement; another with the same id is added to it.
        cause: Why it was made.
        at: Unix second.
        changes: Amount in millionths by account and id of the grant, which is empty for what is of no single grant.
        meter: Meter whose usage it is; empty for other causes.
        quantity: That usage, in the meter's unit.
        key: Key under which it was made; empty if there is none.
        by: Who made it; empty if nobody said.
    """

    place: Place
    id: str
    cause: Cause
    at: int
    changes: dict[tuple[Account, str], int]
    meter: str = ""
    quantity: int = 0
    key: str = ""
    by: str = ""


def apply(connection: sa.Connection, movements: list[Movement]) -> None:
    """Write the entries of *movements*, and what they leave of grants, in this transaction."""
    rows = []
    changed: dict[str, int] = {}
    for each in movements:
        assert not sum(each.changes.values()), f"the entries of {each.id} do not balance"
        place = (each.place.company, each.place.wallet, each.place.unit, each.id)
        for (account, grant), change in each.changes.items():
            quantity = each.quantity if account == "used" else 0
            rows.append((*place, account, grant, change, quantity, each.cause, each.meter, each.key, each.by, each.at))
            if account == "available":
                changed[grant] = changed.get(grant, 0) + change
    if rows:
        add_to(schema.entries, connection, rows, add=("amount", "quantity"), latest="at")
    if changed:
        table = schema.grants
        raised = (
            sa.update(table)
            .where(table.c.id == sa.bindparam("grant"))
            .values(remaining=added(table.c.remaining, sa.bindparam("change", type_=Quantity())))
        )
        connection.execute(raised, [{"grant": grant, "change": change} for grant, change in sorted(changed.items())])


def sums_of_grant(connection: sa.Connection, place: Place, grant: str) -> dict[str, int]:
    """Return what the accounts whose entries are `meterkit.ledger.schema.SETTLED` have of one grant, in millionths."""
    table = schema.entries
    query = (
        sa.select(table.c.account, sum_of(table.c.amount).label("amount"))
        .filter_by(company=place.company, wallet=place.wallet, unit=place.unit, grant_id=grant)
        .where(schema.SETTLED)
        .group_by(table.c.account)
    )
    return {row.account: int(row.amount) for row in connection.execute(query)}


def moved(connection: sa.Connection, place: Place, grant: str, movements: Collection[str]) -> dict[str, int]:
    """Return what *movements*, given by their ids, have moved of a grant by account, in millionths."""
    table = schema.entries
    mine = {"company": place.company, "wallet": place.wallet, "unit": place.unit, "grant_id": grant}
    total = sum_of(table.c.amount).label("amount")
    query = sa.select(table.c.account, total).filter_by(**mine).where(table.c.movement.in_(sorted(movements)))
    return {row.account: int(row.amount) for row in connection.execute(query.group_by(table.c.account))}
