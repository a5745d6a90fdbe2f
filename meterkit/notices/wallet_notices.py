"""Notices about balances of wallets that are low, grants that are about to expire, and top-ups that have failed."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from meterkit.core.periods import DAY, instant
from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import sum_of
from meterkit.notices.notice import Notice
from meterkit.notices.rules import Notify
from meterkit.wallets.amounts import amount, millionths, shown


def low_balances(database: Database, rule: Notify, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each balance that is low, or used up; another one after the next grant."""
    assert rule.wallet is not None
    low, table = millionths(rule.low, "low="), schema.grants
    valid = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > now)
    remaining = sa.func.coalesce(sum_of(sa.case((valid, table.c.remaining), else_=0)), 0)
    query = (
        sa.select(table.c.company, table.c.unit, remaining.label("left"), sa.func.max(table.c.created_at).label("last"))
        .where(table.c.wallet == rule.wallet)
        .group_by(table.c.company, table.c.unit)
        .order_by(table.c.company)
    )
    with database.snapshot() as connection:
        found = connection.execute(query).all()
    for row in found:
        left = int(row.left)
        if left < low:
            is_empty = left == 0
            kind, word = ("balance_empty", "used up") if is_empty else ("balance_low", "low")
            yield Notice(
                key=f"{kind}:{rule.wallet}:{row.company}:{row.last}",
                kind="balance_empty" if is_empty else "balance_low",
                company=row.company,
                title=f"The balance of {row.company} in {rule.wallet} is {word}",
                text=f"{shown(left, row.unit)} are left; usage that is not flushed yet is not subtracted.",
                created_at=now,
                fields={"wallet": rule.wallet, "left": f"{amount(left):f}", "unit": row.unit},
            )


def expiring_grants(database: Database, *, now: int, days: int) -> Iterator[Notice]:
    """Yield a notice for each grant of which something expires within *days* days."""
    table = schema.grants
    query = sa.select(table).where(
        table.c.remaining > 0, table.c.expires_at > now, table.c.expires_at <= now + days * DAY
    )
    with database.snapshot() as connection:
        found = connection.execute(query.order_by(table.c.expires_at, table.c.id)).all()
    for row in found:
        left = shown(int(row.remaining), row.unit)
        yield Notice(
            key=f"grant_expiring:{row.id}",
            kind="grant_expiring",
            company=row.company,
            title=f"{left} of {row.company} will expire",
            text=f"{left} in {row.wallet} expire at {instant(row.expires_at)}.",
            created_at=now,
            fields={
                "wallet": row.wallet,
                "left": f"{amount(int(row.remaining)):f}",
                "unit": row.unit,
                "due_at": row.expires_at,
            },
        )


def failed_top_ups(database: Database, *, now: int) -> Iterator[Notice]:
    """Yield a notice for each automatic top-up that has failed within the last day."""
    attempts, agreed = schema.top_up_attempts, schema.top_ups
    same = sa.and_(agreed.c.company == attempts.c.company, agreed.c.wallet == attempts.c.wallet)
    query = (
        sa.select(attempts, agreed.c.enabled)
        .join(agreed, same)
        .where(attempts.c.state == "failed", attempts.c.ended_at > now - DAY)
        .order_by(attempts.c.ended_at, attempts.c.id)
    )
    with database.snapshot() as connection:
        found = connection.execute(query).all()
    for row in found:
        then = "It is tried again a day later." if row.enabled else "It is not tried again until it is agreed to anew."
        yield Notice(
            key=f"top_up_failed:{row.id}",
            kind="top_up_failed",
            company=row.company,
            title=f"The automatic top-up of {row.company} has failed",
            text=(
                f"{row.pack_name} for {row.wallet} could not be charged ({row.error}), and nothing is owed. {then} "
                "With another card, or a pack that is bought by hand, usage goes on."
            ),
            created_at=now,
            fields={"wallet": row.wallet, "name": row.pack_name, "reason": row.error},
        )
