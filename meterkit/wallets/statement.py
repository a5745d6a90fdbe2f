"""What a wallet's pages and commands show: the balance, and the movements that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import sum_of
from meterkit.wallets.amounts import amount
from meterkit.wallets.balances import held_of
from meterkit.wallets.entries import SPENDING_ORDER, Place
from meterkit.wallets.grants import Grant, grant_of
from meterkit.wallets.wallet import Wallet

SHOWN_TO_CUSTOMER = 50
"""Movements that a customer sees, at most."""


@dataclass(frozen=True, slots=True)
class Balance:
    """
    What a company has in a wallet. Amounts are in whole units or currency.

    Attributes:
        company: Company id.
        wallet: Name of the wallet.
        unit: Unit, or currency in capitals.
        granted: All that was ever granted.
        spent: What usage has spent of that.
        expired: What has expired unspent.
        revoked: What was taken back.
        held: What processes hold ahead for requests. Some of it may be used already, and not be flushed yet.
        left: What no process holds: ``granted - spent - expired - revoked - held``.
        uncovered: What usage was worth beyond the balance, because it was counted without asking for it.
        grants: Grants of which something remains, in the order in which they are spent.
    """

    company: str
    wallet: str
    unit: str
    granted: Decimal
    spent: Decimal
    expired: Decimal
    revoked: Decimal
    held: Decimal
    left: Decimal
    uncovered: Decimal
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A movement of a balance. Usage is summed up by meter and day.

    Attributes:
        at: Unix second of its latest part.
        cause: ``grant``, ``usage``, ``expiry``, ``revocation`` or ``reinstatement``.
        amount: How it has changed the balance, in whole units or currency; negative if it has lowered it.
        meter: Meter of the usage, or None.
        quantity: Usage in the meter's unit; 0 for other causes.
        uncovered: What the usage was worth beyond the balance.
        grants: Ids of the grants that it has changed.
        key: Key of a grant or a revocation, or None.
        by: Who made it, or None.
    """

    at: int
    cause: str
    amount: Decimal
    meter: str | None
    quantity: int
    uncovered: Decimal
    grants: tuple[str, ...]
    key: str | None
    by: str | None


def balance_of(database: Database, company: str, wallet: Wallet, *, now: int) -> Balance:
    """
    Return what *company* has in *wallet* at the Unix second *now*.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        return read_balance(connection, company, wallet, now=now)


def read_balance(connection: sa.Connection, company: str, wallet: Wallet, *, now: int) -> Balance:
    """Return what *company* has in *wallet* at the Unix second *now*."""
    table, place = schema.grants, Place(company, wallet.name, wallet.of)
    mine = {"company": company, "wallet": wallet.name, "unit": wallet.of}
    query = sa.select(table).filter_by(**mine).where(table.c.remaining > 0).order_by(*SPENDING_ORDER)
    rows = connection.execute(query).all()
    sums = _sums(connection, place)
    held = held_of(connection, [company], [wallet.name]).get((company, wallet.name), 0)
    lost, kept = 0, held  # what has expired since the last expiry was written
    grants: list[Grant] = []
    for row in rows:
        if row.expires_at is not None and row.expires_at <= now:
            still = min(row.remaining, kept)
            kept -= still
            lost += row.remaining - still
        else:
            grants.append(grant_of(row))
    remaining = sum(row.remaining for row in rows) - lost
    held = min(held, remaining)  # what is refunded while processes hold it is taken back at once
    granted = -sums.get("granted", 0)
    return Balance(
        company=company,
        wallet=wallet.name,
        unit=wallet.of,
        granted=amount(granted),
        spent=amount(granted - sums.get("expired", 0) - sums.get("revoked", 0) - remaining - lost),
        expired=amount(sums.get("expired", 0) + lost),
        revoked=amount(sums.get("revoked", 0)),
        held=amount(held),
        left=amount(remaining - held),
        uncovered=amount(-sums.get("uncovered", 0)),
        grants=tuple(grants),
    )


def entries_of(database: Database, company: str, wallet: Wallet, *, limit: int) -> list[Entry]:
    """
    Return the latest *limit* movements of a company's balance, newest first.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        return read_entries(connection, company, wallet, limit=limit)


def read_entries(connection: sa.Connection, company: str, wallet: Wallet, *, limit: int) -> list[Entry]:
    """Return the latest *limit* movements of a company's balance, newest first."""
    table = schema.entries
    mine = {"company": company, "wallet": wallet.name, "unit": wallet.of}
    last = sa.func.max(table.c.at).label("last")
    latest = sa.select(table.c.movement, last).filter_by(**mine).group_by(table.c.movement)
    order = latest.order_by(last.desc(), table.c.movement).limit(limit).subquery()
    query = sa.select(table).filter_by(**mine).join(order, table.c.movement == order.c.movement)
    found: dict[str, list[sa.Row[tuple[object, ...]]]] = {}
    for row in connection.execute(
        query.order_by(order.c.last.desc(), order.c.movement, table.c.account, table.c.grant_id)
    ):
        found.setdefault(row.movement, []).append(row)
    return [_entry(rows) for rows in found.values()]


def _entry(rows: list[sa.Row[tuple[object, ...]]]) -> Entry:
    by_account: dict[str, int] = {}
    for row in rows:
        by_account[row.account] = by_account.get(row.account, 0) + row.amount
    first = rows[0]
    return Entry(
        at=max(row.at for row in rows),
        cause=first.cause,
        amount=amount(by_account.get("available", 0)),
        meter=first.meter or None,
        quantity=sum(row.quantity for row in rows),
        uncovered=amount(-by_account.get("uncovered", 0)),
        grants=tuple(row.grant_id for row in rows if row.account == "available"),
        key=first.key or None,
        by=first.by or None,
    )


def shown_to_customer(database: Database, company: str, wallet: Wallet, *, now: int) -> dict[str, Any]:
    """
    Return what *company* may see of *wallet*, ready for ``json.dumps``; `docs/customer-page.md` describes it.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        balance = read_balance(connection, company, wallet, now=now)
        entries = read_entries(connection, company, wallet, limit=SHOWN_TO_CUSTOMER)
    return {
        "wallet": balance.wallet,
        "unit": balance.unit,
        "balance": f"{balance.left + balance.held:f}",
        **{name: f"{getattr(balance, name):f}" for name in ("granted", "spent", "expired", "revoked")},
        "grants": [
            {
                "amount": f"{grant.amount:f}",
                "remaining": f"{grant.remaining:f}",
                "granted_at": instant_of(grant.created_at),
                "expires_at": None if grant.expires_at is None else instant_of(grant.expires_at),
            }
            for grant in balance.grants
        ],
        "movements": [
            {
                "at": instant_of(entry.at),
                "cause": entry.cause,
                "amount": f"{entry.amount:f}",
                "meter": entry.meter,
                "quantity": entry.quantity,
            }
            for entry in entries
        ],
    }


def instant_of(moment: int) -> str:
    """Return a Unix second as text in ISO 8601, in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sums(connection: sa.Connection, place: Place) -> dict[str, int]:
    table = schema.entries
    query = (
        sa.select(table.c.account, sum_of(table.c.amount).label("amount"))
        .filter_by(company=place.company, wallet=place.wallet, unit=place.unit)
        .where(schema.SETTLED)
        .group_by(table.c.account)
    )
    return {row.account: int(row.amount) for row in connection.execute(query)}
