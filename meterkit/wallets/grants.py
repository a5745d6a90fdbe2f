"""Grants: what is paid or given for ahead, and what is taken back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.validation import checked_id
from meterkit.errors import UsageError
from meterkit.ledger import actions, schema
from meterkit.ledger.daily_totals import lock_totals
from meterkit.ledger.database import Database, insert_once
from meterkit.wallets.amounts import amount, shown
from meterkit.wallets.balances import Balances, held_of, remaining_of
from meterkit.wallets.entries import PAID, Account, Movement, Place, apply, moved, sums_of_grant
from meterkit.wallets.reversal import end_top_up
from meterkit.wallets.wallet import Wallet

DEFAULT_PRIORITY = 50
"""Priority of a grant that names none, as in Stripe's credit grants."""

MAX_PRIORITY = 100
"""Stripe: the highest number, which is the lowest priority."""


@dataclass(frozen=True, slots=True)
class Grant:
    """
    An amount that was granted.

    Attributes:
        id: Id of the grant.
        company: Company id.
        wallet: Name of the wallet.
        unit: Unit, or currency in capitals.
        amount: Granted amount, in whole units or currency.
        remaining: Part of it that is not spent, expired or revoked; processes may hold some of that.
        priority: From 0 to 100; the lowest is spent first.
        expires_at: Unix second at which it expires, or None.
        source: Where it comes from, such as ``manual``.
        key: Key under which it was granted once.
        created_at: Unix second.
        by: Who granted it, or None if nobody said.
    """

    id: str
    company: str
    wallet: str
    unit: str
    amount: Decimal
    remaining: Decimal
    priority: int
    expires_at: int | None
    source: str
    key: str
    created_at: int
    by: str | None


class Grants:
    """
    Writes grants, and takes them back.

    Args:
        database: Database of the ledger.
        balances: Balances of the kit's wallets.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, balances: Balances, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._balances = balances
        self._clock = clock

    def grant(
        self,
        company: str,
        wallet: Wallet,
        micros: int,
        *,
        key: str | None,
        priority: int = DEFAULT_PRIORITY,
        expires_at: int | None = None,
        source: str = "manual",
        by: str = "",
        payment: tuple[int, str] | None = None,
    ) -> Grant:
        """
        Grant *micros*, in millionths of the wallet's unit, once per key.

        Args:
            company: Company id.
            wallet: Wallet.
            micros: Amount, in millionths.
            key: Key under which it is granted once; None for a new one.
            priority: From 0 to 100; the lowest is spent first.
            expires_at: Unix second at which the rest expires, or None.
            source: Where it comes from.
            by: Who grants it; "" if nobody said.
            payment: What was paid for it, in the minor unit of the currency, and that currency's code; None if that is
                not known.

        Raises:
            UsageError: The key has granted another amount; or nothing was to be granted.
            LedgerError: The ledger failed; with a key, try again.
        """
        now = int(self._clock())
        if not micros:
            raise UsageError("a grant must be more than 0", reason="amount_zero")
        paid, currency = (None, None) if payment is None else payment
        about: dict[str, Any] = {"priority": priority, "expires_at": expires_at, "source": source, "by": by}
        about |= {"paid": paid, "currency": currency}
        row = self._row(company, wallet, micros, key=key, **about)
        with self._database.transaction() as connection:
            found = granted_as(connection, company, wallet.name, row["key"])
            if found is None and expires_at is not None and expires_at <= now:
                raise UsageError("expires= is in the past, so nothing could be spent", reason="expires_past")
            if found is None and self._insert(connection, row):
                detail = f"{shown(micros, wallet.of)} to {wallet.name}"
                actions.note(connection, "grant", company, detail, by=by, at=now)
            found = granted_as(connection, company, wallet.name, row["key"])
        assert found is not None
        if (found.amount, found.unit) != (amount(micros), wallet.of):
            raise UsageError(
                f"the key {row['key']!r:.80} has already granted {found.amount:,f} {found.unit} to {company!r:.80}; "
                f"nothing was granted now. Use another key for another grant",
                reason="grant_conflict",
            )
        return found

    def grant_paid(
        self,
        connection: sa.Connection,
        company: str,
        wallet: Wallet,
        micros: int,
        *,
        identity: str,
        key: str,
        expires_at: int | None,
        paid: int,
        currency: str,
    ) -> bool:
        """
        Grant what was paid in Stripe, in this transaction; return False if it was granted before, to whomever.

        Args:
            connection: Connection of the transaction.
            company: Company id.
            wallet: Wallet.
            micros: Amount, in millionths.
            identity: Id of the grant, which follows from what was paid.
            key: Key of the grant.
            expires_at: Unix second at which it expires, or None.
            paid: What was paid for it, before tax, in the minor unit of the currency.
            currency: Three-letter code of that currency, in small letters.
        """
        about: dict[str, Any] = {"expires_at": expires_at, "source": PAID, "by": "", "paid": paid, "currency": currency}
        row = self._row(company, wallet, micros, key=key, **about)
        return self._insert(connection, {**row, "id": identity})

    def take_back_paid(self, connection: sa.Connection, identity: str, micros: int, *, key: str) -> bool:
        """
        Take back what was granted for a payment that is refunded, in this transaction, once for each *key*.

        Also what processes hold: what they use of it is uncovered then, and what they give back is gone.

        Args:
            connection: Connection of the transaction.
            identity: Id of the grant.
            micros: How much, in millionths, but no more than was not taken back before. What is neither left of it nor
                has expired was spent, and becomes uncovered.
            key: Id of the refund.

        Returns:
            False if there is no such grant.
        """
        lock_totals(connection)
        row = connection.execute(sa.select(schema.grants).filter_by(id=identity)).first()
        if row is None:
            return False
        place, movement = Place(row.company, row.wallet, row.unit), f"revocation/{key}:{identity}"
        if _done(connection, place, movement) is not None:
            return True
        changes = _taken_back(connection, place, row, micros)
        if changes:
            apply(connection, [Movement(place, movement, "revocation", int(self._clock()), changes, key=key)])
            end_top_up(connection, row.company, row.wallet, why=f"{key} has taken back what was paid")
        return True

    def withhold_paid(
        self, connection: sa.Connection, identity: str, micros: int, *, key: str, is_withheld: bool
    ) -> bool:
        """
        Take back what was granted for a payment while it is disputed, or give it back, in this transaction.

        Leaves the same, however often and in whichever order it is called; what counts is the last call.

        Args:
            connection: Connection of the transaction.
            identity: Id of the grant.
            micros: How much is disputed, in millionths; it is taken back as `take_back_paid` does.
            key: Id of the dispute.
            is_withheld: Whether the money is withheld now; False gives back what this dispute has taken.

        Returns:
            False if there is no such grant, and something is to be taken from it.
        """
        lock_totals(connection)
        row = connection.execute(sa.select(schema.grants).filter_by(id=identity)).first()
        if row is None:
            return not is_withheld
        place, now = Place(row.company, row.wallet, row.unit), int(self._clock())
        taken, returned = f"revocation/{key}:{identity}", f"reinstatement/{key}:{identity}"
        micros_taken = moved(connection, place, identity, {taken, returned}).get("revoked", 0)
        if is_withheld and not micros_taken:
            changes = _taken_back(connection, place, row, micros)
            if changes:
                apply(connection, [Movement(place, taken, "revocation", now, changes, key=key)])
                end_top_up(connection, row.company, row.wallet, why=f"{key} has withheld what was paid")
        elif not is_withheld and micros_taken:
            changes = _given_back(connection, place, identity, micros_taken, by={taken, returned})
            apply(connection, [Movement(place, returned, "reinstatement", now, changes, key=key)])
        return True

    def _row(self, company: str, wallet: Wallet, micros: int, *, key: str | None, **about: Any) -> dict[str, Any]:
        return {
            "id": f"{time.time_ns():016x}{uuid.uuid4().hex[:16]}",  # in order, for those of one second
            "company": company,
            "wallet": wallet.name,
            "key": key or f"grant-{uuid.uuid4().hex}",
            "unit": wallet.of,
            "amount": micros,
            "remaining": 0,
            "priority": DEFAULT_PRIORITY,
            "created_at": int(self._clock()),
            **about,
        }

    def _insert(self, connection: sa.Connection, row: dict[str, Any]) -> bool:
        if not insert_once(schema.grants, connection, row):
            return False
        place = Place(row["company"], row["wallet"], row["unit"])
        changes: dict[tuple[Account, str], int] = {
            ("available", row["id"]): row["amount"],
            ("granted", row["id"]): -row["amount"],
        }
        about: dict[str, Any] = {"key": row["key"], "by": row["by"]}
        apply(connection, [Movement(place, f"grant/{row['id']}", "grant", row["created_at"], changes, **about)])
        return True

    def revoke(
        self,
        company: str,
        wallet: Wallet,
        grant: str,
        *,
        micros: int | None = None,
        key: str | None = None,
        at_most: bool = False,
        by: str = "",
        source: str = "manual",
    ) -> int:
        """
        Take back what is left of a grant, and return how much, in millionths.

        Args:
            company: Company id.
            wallet: Wallet of the grant.
            grant: Id of the grant, or the key under which it was granted.
            micros: How much to take back, in millionths; None for all that is left.
            key: Key under which this is done once, or None.
            at_most: Whether to take back what is left if that is less than *micros*, instead of failing.
            by: Who takes it back.
            source: Where the decision comes from.

        Raises:
            UsageError: There is no such grant; or less is left of it than *micros*; or the key has taken back another
                amount. Nothing was taken back.
            LedgerError: The ledger failed; with a key, try again.
        """
        now = int(self._clock())
        place = Place(company, wallet.name, wallet.of)
        movement = f"revocation/{key or uuid.uuid4().hex}"
        with self._database.transaction() as connection:
            lock_totals(connection)
            found = granted_as(connection, company, wallet.name, grant) or _with_id(connection, place, grant)
            if found is None or found.unit != wallet.of:
                raise UsageError(
                    f"{company!r:.80} has no grant {grant!r:.80} in {wallet}; meterkit wallet balance lists them",
                    reason="grant_unknown",
                )
            done = _done(connection, place, movement)
            if done is not None:
                if micros not in (None, done) and not at_most:
                    raise UsageError(
                        f"the key {key!r:.80} has already taken back {shown(done, wallet.of)}; nothing was taken back "
                        "now. Use another key",
                        reason="revocation_conflict",
                    )
                return done
            held = held_of(connection, [company], [wallet.name]).get((company, wallet.name), 0)
            free = max(self._balances.left(connection, company, wallet.name) - held, 0)
            remaining = {each.id: each.amount for each in remaining_of(connection, [place]).get(place, [])}
            most = min(remaining.get(found.id, 0), free)
            wanted = most if micros is None else min(micros, most) if at_most else micros
            if wanted > most:
                raise UsageError(
                    f"only {shown(most, wallet.of)} can be taken back: the rest is spent, expired or held by processes "
                    "that serve the company; what they do not need comes back within a few flushes",
                    reason="revocation_too_large",
                )
            if wanted:
                changes: dict[tuple[Account, str], int] = {
                    ("revoked", found.id): wanted,
                    ("available", found.id): -wanted,
                }
                about: dict[str, Any] = {"key": key or "", "by": by}
                apply(connection, [Movement(place, movement, "revocation", now, changes, **about)])
                if source == "manual":
                    detail = f"{shown(wanted, wallet.of)} of {wallet.name}, granted as {found.key}"
                    actions.note(connection, "revoke", company, detail, by=by, at=now)
        return wanted


def _taken_back(
    connection: sa.Connection, place: Place, row: sa.Row[Any], micros: int
) -> dict[tuple[Account, str], int]:
    """Return the changes that take back *micros* of the grant *row*, less what was taken back before."""
    sums = sums_of_grant(connection, place, row.id)
    micros = min(micros, int(row.amount) - sums.get("revoked", 0))
    left = min(micros, int(row.remaining))
    expired = min(micros - left, sums.get("expired", 0))
    changes: dict[tuple[Account, str], int] = {
        ("revoked", row.id): micros,
        ("available", row.id): -left,
        ("expired", row.id): -expired,
        ("uncovered", row.id): left + expired - micros,
    }
    return {account: change for account, change in changes.items() if change} if micros > 0 else {}


def _given_back(
    connection: sa.Connection, place: Place, grant: str, micros: int, *, by: set[str]
) -> dict[tuple[Account, str], int]:
    """
    Return the changes that give back *micros*, which the movements *by* have taken of a grant.

    What they have named as uncovered no longer is, unless the usage that it was spent for was reversed meanwhile.
    """
    named = -moved(connection, place, grant, by).get("uncovered", 0)
    owed = -sums_of_grant(connection, place, grant).get("uncovered", 0)
    covered = max(min(named, owed), 0)
    changes: dict[tuple[Account, str], int] = {
        ("revoked", grant): -micros,
        ("uncovered", grant): covered,
        ("available", grant): micros - covered,  # also what had expired, which then expires again
    }
    return {account: change for account, change in changes.items() if change}


def checked_priority(priority: Any) -> int:
    """
    Return *priority*, an int from 0 to `MAX_PRIORITY`.

    Raises:
        UsageError: It is not.
    """
    if type(priority) is not int or not 0 <= priority <= MAX_PRIORITY:
        raise UsageError(
            f"priority= must be an int from 0, spent first, to {MAX_PRIORITY}, not {priority!r:.100}",
            reason="priority_wrong",
        )
    return priority


def checked_expiry(expires: Any) -> int | None:
    """
    Return *expires*, a datetime with a time zone or None, in Unix seconds.

    Raises:
        UsageError: It is neither.
    """
    if expires is None:
        return None
    if not isinstance(expires, datetime) or expires.utcoffset() is None:
        raise UsageError(
            "expires= must be a datetime with a time zone, such as datetime(2027, 1, 1, tzinfo=timezone.utc), not "
            f"{expires!r:.100}",
            reason="expires_not_aware",
        )
    return int(expires.timestamp())


def checked_key(key: Any) -> str | None:
    """
    Return *key*, a text like an id, or None.

    Raises:
        UsageError: It is neither.
    """
    return None if key is None else checked_id(key, "key")


def granted_as(connection: sa.Connection, company: str, wallet: str, key: str) -> Grant | None:
    """Return the grant that was made under *key*, or None."""
    table = schema.grants
    row = connection.execute(sa.select(table).filter_by(company=company, wallet=wallet, key=key)).first()
    return None if row is None else grant_of(row)


def grant_of(row: sa.Row[Any]) -> Grant:
    """Return a row of ``schema.grants`` as a `Grant`."""
    known = row._mapping.items()  # noqa: SLF001 - SQLAlchemy's way
    about: dict[str, Any] = {name: value for name, value in known if name not in ("paid", "currency")}
    about.update(amount=amount(row.amount), remaining=amount(row.remaining), by=row.by or None)
    return Grant(**about)


def _with_id(connection: sa.Connection, place: Place, grant: str) -> Grant | None:
    query = sa.select(schema.grants).filter_by(id=grant, company=place.company, wallet=place.wallet)
    row = connection.execute(query).first()
    return None if row is None else grant_of(row)


def _done(connection: sa.Connection, place: Place, movement: str) -> int | None:
    """Return what the revocation *movement* has taken back; None if it was not made."""
    table = schema.entries
    mine = {"company": place.company, "wallet": place.wallet, "unit": place.unit, "movement": movement}
    found = connection.scalar(sa.select(table.c.amount).filter_by(**mine, account="revoked"))
    return None if found is None else int(found)
