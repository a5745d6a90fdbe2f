"""What companies have agreed to: which pack is bought when their balance falls below what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import month_of
from meterkit.errors import UsageError
from meterkit.ledger import actions, schema
from meterkit.ledger.database import Database, put
from meterkit.ledger.payers import payer_of
from meterkit.top_ups.terms import Terms
from meterkit.wallets.amounts import amount, shown
from meterkit.wallets.pack import key_of
from meterkit.wallets.reversal import end_top_up
from meterkit.wallets.wallet import Wallet

MOST_FAILURES = 3
"""Attempts that fail one after the other; the last of them ends the agreement."""


@dataclass(frozen=True, slots=True)
class TopUp:
    """
    An agreement of a company that a pack is bought for it when its balance is low.

    Attributes:
        company: Company id.
        wallet: Name of the wallet.
        pack: Name of the pack.
        below: Balance below which the pack is bought, in the wallet's unit or in whole currency.
        most_per_month: How often it is bought in a calendar month (UTC), at most.
        bought: How often it was bought in this month.
        enabled: Whether it is in force.
        failures: Attempts that have failed since the last one that succeeded, or since it was agreed.
        error: Why the last of them failed, or why it is no longer in force; None if nothing failed.
        next_at: Unix second before which nothing is bought again, or None.
    """

    company: str
    wallet: str
    pack: str
    below: Decimal
    most_per_month: int
    bought: int
    enabled: bool
    failures: int
    error: str | None
    next_at: int | None


class TopUps:
    """
    The agreements of all companies, in the ledger.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def set(self, company: str, wallet: Wallet, terms: Terms, *, by: str) -> TopUp:
        """
        Note what *company* has agreed to, instead of what it agreed to before, and forget failures.

        Args:
            company: Company id.
            wallet: Wallet that is topped up.
            terms: What was agreed to.
            by: Who says so; "" if that is not known.

        Raises:
            UsageError: No Stripe customer pays for the company yet.
            LedgerError: The ledger failed.
        """
        now = int(self._clock())
        row = {
            "company": company,
            "wallet": wallet.name,
            "unit": wallet.of,
            "pack": key_of(wallet.name, terms.pack),
            "pack_name": terms.pack.name,
            "below": terms.micros,
            "most_per_month": terms.most_per_month,
            "enabled": True,
            "failures": 0,
            "error": "",
            "next_at": 0,
        }
        with self._database.transaction() as connection:
            if payer_of(connection, company) is None:
                raise UsageError(
                    f"no Stripe customer pays for {company!r:.100} yet, so there is no card to charge: let it buy a "
                    "pack first (kit.checkout_url(pack=)), or link it",
                    reason="customer_unknown",
                )
            put(schema.top_ups, connection, row)
            low = shown(terms.micros, wallet.of)
            detail = f"{terms.pack.name} when {wallet.name} is below {low}, at most {terms.most_per_month} a month"
            actions.note(connection, "top_up", company, detail, by=by, at=now)
            agreed = self._read(connection, company, wallet.name)
        assert agreed is not None
        return agreed

    def cancel(self, company: str, wallet: Wallet, *, by: str) -> bool:
        """
        End an agreement; return False if none was in force.

        Raises:
            LedgerError: The ledger failed.
        """
        with self._database.transaction() as connection:
            if not end_top_up(connection, company, wallet.name, why=""):
                return False
            detail = f"no longer for {wallet.name}"
            actions.note(connection, "top_up", company, detail, by=by, at=int(self._clock()))
            return True

    def of(self, company: str, wallet: Wallet) -> TopUp | None:
        """
        Return the agreement of *company*, also one that is no longer in force; None if it never had one.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        with self._database.snapshot() as connection:
            return self._read(connection, company, wallet.name)

    def _read(self, connection: sa.Connection, company: str, wallet: str) -> TopUp | None:
        row = connection.execute(sa.select(schema.top_ups).filter_by(company=company, wallet=wallet)).first()
        if row is None:
            return None
        return TopUp(
            company=row.company,
            wallet=row.wallet,
            pack=row.pack_name,
            below=amount(int(row.below)),
            most_per_month=row.most_per_month,
            bought=connection.scalar(bought_since(month_of(int(self._clock())).start, company, wallet)) or 0,
            enabled=bool(row.enabled),
            failures=row.failures,
            error=row.error or None,
            next_at=row.next_at or None,
        )


def bought_since(moment: int, company: Any, wallet: Any) -> sa.Select[Any]:
    """Return how often packs were bought for *company* and *wallet*, values or columns, since a Unix second, as SQL."""
    table = schema.top_up_attempts
    paid = sa.and_(table.c.state == "paid", table.c.ended_at >= moment)
    mine = sa.and_(table.c.company == company, table.c.wallet == wallet)
    return sa.select(sa.func.count()).select_from(table).where(paid, mine)
