"""Undo what wallets have spent or were granted: usage that is reversed, and payments of another mode of Stripe."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.ledger import schema
from meterkit.ledger.daily_totals import lock_totals
from meterkit.ledger.schema.quantities import literal, subtracted
from meterkit.wallets.entries import PAID, SPENDING_ORDER, Account, Movement, Place, apply, sums_of_grant


def give_back(connection: sa.Connection, company: str, meter: str, window: int, quantity: int) -> None:
    """
    Give back what *quantity* of a company's usage has spent, in the transaction that reverses it.

    First, less of that day's usage is not covered: what was beyond the balance, or was refunded although it was spent.
    The rest goes to the grants that the usage was taken from, the last spent first, also if they have expired
    meanwhile. Usage that no wallet has paid for gives back nothing.

    Args:
        connection: Connection of the transaction, which has changed the daily totals already.
        company: Company id.
        meter: Name of the meter.
        window: Unix second at which the window of the usage begins.
        quantity: Reversed quantity, in the meter's unit.
    """
    table = schema.entries
    movement = f"usage/{window - window % DAY}/{meter}"
    query = sa.select(table).filter_by(company=company, meter=meter, movement=movement)
    left = quantity
    for used in connection.execute(query.where(table.c.account == "used")).all():
        part = min(left, int(used.quantity))
        if part:
            left -= part
            _reverse(connection, Place(company, used.wallet, used.unit), used, part)
    usage = schema.wallet_usage
    mine = {"company": company, "meter": meter}
    if connection.scalar(sa.select(usage.c.company).filter_by(**mine)) is not None:
        changes = {"before": subtracted(usage.c.before, literal(left))}
        changes["quantity"] = subtracted(usage.c.quantity, literal(quantity - left))
        connection.execute(sa.update(usage).filter_by(**mine).values(changes))


def _reverse(connection: sa.Connection, place: Place, used: sa.Row[tuple[object, ...]], quantity: int) -> None:
    table = schema.entries
    worth = int(used.amount) * quantity // int(used.quantity)  # by the average rate, if it has changed that day
    changes: dict[tuple[Account, str], int] = {("used", ""): -worth}
    mine = {"company": place.company, "wallet": place.wallet, "unit": place.unit, "movement": used.movement}
    taken: dict[str, int] = {}  # by grant; what was uncovered is of none
    for row in connection.execute(sa.select(table).filter_by(**mine).where(table.c.account != "used")):
        taken[row.grant_id] = taken.get(row.grant_id, 0) - int(row.amount)
    grants = schema.grants.c.id
    spent = connection.scalars(sa.select(grants).where(grants.in_(sorted(taken))).order_by(*SPENDING_ORDER)).all()
    owed = {grant: -sums_of_grant(connection, place, grant).get("uncovered", 0) for grant in spent}
    owed[""] = taken.get("", 0)
    last_first = ["", *reversed(spent)]
    for grant in sorted(last_first, key=lambda grant: owed[grant] <= 0):  # first what is not covered
        back = min(worth, max(taken.get(grant, 0), 0))
        worth -= back
        covered = min(back, max(owed[grant], 0))
        if covered:
            changes["uncovered", grant] = covered
        if covered < back:
            changes["available", grant] = back - covered
    about: dict[str, Any] = {"meter": used.meter, "quantity": -quantity}
    apply(connection, [Movement(place, used.movement, "usage", int(used.at), changes, **about)])


def revoke_paid(connection: sa.Connection, now: int) -> None:
    """
    Take back all that is left of what was paid in Stripe, in this transaction: test payments must not buy live usage.

    Args:
        connection: Connection of the transaction.
        now: Current time, Unix seconds.
    """
    lock_totals(connection)
    table = schema.grants
    movements = []
    for row in connection.execute(sa.select(table).where(table.c.remaining > 0, table.c.source == PAID)).all():
        place = Place(row.company, row.wallet, row.unit)
        left = int(row.remaining)
        changes: dict[tuple[Account, str], int] = {("revoked", row.id): left, ("available", row.id): -left}
        movements.append(
            Movement(place, f"revocation/forget_mode:{row.id}", "revocation", now, changes, key="forget_mode")
        )
    apply(connection, movements)


def end_top_up(connection: sa.Connection, company: str, wallet: str, *, why: str) -> bool:
    """
    Set the agreement on automatic top-up out of force, in this transaction; return whether it was in force.

    Args:
        connection: Connection of the transaction.
        company: Company id.
        wallet: Name of the wallet.
        why: Why, for people; "" if the company wants it.
    """
    own = sa.update(schema.top_ups).filter_by(company=company, wallet=wallet, enabled=True)
    return connection.execute(own.values(enabled=False, error=why)).rowcount > 0
