"""Attempts to top up: each buys one pack, or ends without having charged anything."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import DAY, month_of
from meterkit.ledger import schema
from meterkit.ledger.daily_totals import lock_totals
from meterkit.ledger.database import Database, insert_once
from meterkit.ledger.payers import payer_of
from meterkit.ledger.schema.quantities import sum_of
from meterkit.top_ups.agreements import MOST_FAILURES, bought_since
from meterkit.wallets.entries import PAID

State: TypeAlias = "Literal['paid', 'failed', 'canceled']"

CLAIM_SECONDS = 300
"""How long one process has an attempt for itself: longer than all of its requests to Stripe can take."""

ERROR_CHARACTERS = 500
"""Length of an error that is kept."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One attempt, which is under way.

    Attributes:
        id: Id of the attempt, from which its Idempotency-Keys follow.
        company: Company id.
        wallet: Name of the wallet.
        pack: Lookup key of the pack's price in Stripe.
        pack_name: Name of the pack.
        customer: Stripe customer that is charged.
        invoice: Id of its invoice; "" if none is known yet.
        error: Why it has failed; "" if it has not.
        refusals: Responses of Stripe that have used up the Idempotency-Keys.
        is_tried: Whether Stripe was asked to charge it, and has not refused.
        is_wanted: Whether the agreement is still in force.
        created_at: Unix second at which it began.
    """

    id: str
    company: str
    wallet: str
    pack: str
    pack_name: str
    customer: str
    invoice: str
    error: str
    refusals: int
    is_tried: bool
    is_wanted: bool
    created_at: int


class Attempts:
    """
    The attempts in the ledger. A company has at most one under way for each wallet, whichever process began it.

    Args:
        database: Database of the ledger.
        wallets: Names of the wallets that this code has.
        clock: Function that returns Unix seconds.
    """

    def __init__(self, database: Database, wallets: Collection[str], *, clock: Callable[[], float]) -> None:
        self._database = database
        self._wallets = wallets
        self._clock = clock

    def begin_due(self) -> None:
        """
        Begin an attempt for each company whose balance has fallen below what it has agreed to.

        Raises:
            LedgerError: The ledger failed.
        """
        with self._database.snapshot() as connection:
            now = int(self._clock())
            due = [(row.company, row.wallet) for row in connection.execute(self._due(now))]
        for company, wallet in due:
            with self._database.transaction() as connection:
                lock_totals(connection)  # a grant of the attempt before may have arrived
                own = self._due(now).filter(schema.top_ups.c.company == company, schema.top_ups.c.wallet == wallet)
                row = connection.execute(own).first()
                customer = payer_of(connection, company)
                if row is not None and customer is not None:
                    insert_once(schema.top_up_attempts, connection, _begun(row, customer, now))

    def claim(self) -> Iterator[Attempt]:
        """
        Yield the attempts that are to go on now, each of which no other process then has for `CLAIM_SECONDS`.

        Raises:
            LedgerError: The ledger failed.
        """
        table, agreed = schema.top_up_attempts, schema.top_ups
        same = sa.and_(agreed.c.company == table.c.company, agreed.c.wallet == table.c.wallet)
        with self._database.snapshot() as connection:
            of_mine = sa.and_(table.c.state == "open", table.c.wallet.in_(self._wallets))
            waiting = sa.select(table.c.id).where(of_mine, table.c.look_at <= int(self._clock()))
            ids = connection.scalars(waiting.order_by(table.c.created_at)).all()
        for identity in ids:
            with self._database.transaction() as connection:
                now = int(self._clock())
                own = sa.update(table).filter_by(id=identity, state="open").where(table.c.look_at <= now)
                if not connection.execute(own.values(look_at=now + CLAIM_SECONDS)).rowcount:
                    continue  # another process has it
                query = sa.select(table, agreed.c.enabled).join(agreed, same)
                claimed = _attempt(connection.execute(query.where(table.c.id == identity)).one())
            yield claimed

    def note(self, attempt: Attempt, **values: Any) -> None:
        """
        Write what has become of an attempt that goes on: its ``invoice``, ``error`` or ``is_tried``.

        Raises:
            LedgerError: The ledger failed.
        """
        with self._database.transaction() as connection:
            connection.execute(sa.update(schema.top_up_attempts).filter_by(id=attempt.id).values(**values))

    def postpone(self, attempt: Attempt, seconds: int, *, refused: bool = False) -> None:
        """
        Let an attempt go on in so many *seconds*.

        Args:
            attempt: The attempt.
            seconds: Seconds from now on.
            refused: Whether a response of Stripe has used up an Idempotency-Key.

        Raises:
            LedgerError: The ledger failed.
        """
        with self._database.transaction() as connection:
            later = int(self._clock()) + seconds
            own = sa.update(schema.top_up_attempts).filter_by(id=attempt.id)
            connection.execute(own.values(look_at=later, refusals=attempt.refusals + refused))

    def end(self, attempt: Attempt, state: State) -> None:
        """
        End an attempt. After one that has failed, the next is a day later; after `MOST_FAILURES`, there is none.

        Raises:
            LedgerError: The ledger failed.
        """
        table = schema.top_ups
        with self._database.transaction() as connection:
            now = int(self._clock())
            own = sa.update(schema.top_up_attempts).filter_by(id=attempt.id, state="open")
            if not connection.execute(own.values(state=state, ended_at=now)).rowcount:
                return
            agreement = sa.update(table).filter_by(company=attempt.company, wallet=attempt.wallet)
            if state == "paid":
                connection.execute(agreement.values(failures=0, error="", next_at=0))
            elif state == "failed":
                failures = table.c.failures + 1
                is_last = failures >= MOST_FAILURES
                changes = {"failures": failures, "error": attempt.error, "next_at": now + DAY}
                enabled = sa.and_(table.c.enabled, ~is_last)
                connection.execute(agreement.values(**changes, enabled=enabled))

    def has_granted(self, attempt: Attempt) -> bool:
        """
        Return whether what the invoice of an attempt has paid for is granted.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        table = schema.grants
        paid = table.c.key.startswith(f"{attempt.invoice}:", autoescape=True)
        mine = sa.select(table.c.id).filter_by(company=attempt.company, wallet=attempt.wallet, source=PAID).where(paid)
        with self._database.snapshot() as connection:
            return connection.execute(mine).first() is not None

    def _due(self, now: int) -> sa.Select[Any]:
        """Return the agreements whose balance is low now, and that are not exhausted, waiting or under way."""
        agreed, grants, attempts = schema.top_ups, schema.grants, schema.top_up_attempts
        of_same = sa.and_(attempts.c.company == agreed.c.company, attempts.c.wallet == agreed.c.wallet)
        is_under_way = sa.exists().where(of_same, attempts.c.state == "open")
        since = month_of(now).start
        bought = bought_since(since, agreed.c.company, agreed.c.wallet).correlate(agreed).scalar_subquery()
        is_left = sa.and_(
            grants.c.company == agreed.c.company,
            grants.c.wallet == agreed.c.wallet,
            grants.c.unit == agreed.c.unit,
            grants.c.remaining > 0,
            sa.or_(grants.c.expires_at.is_(None), grants.c.expires_at > now),
        )
        left = sa.select(sa.func.coalesce(sum_of(grants.c.remaining), 0)).where(is_left).scalar_subquery()
        return sa.select(agreed).where(
            agreed.c.enabled,
            agreed.c.next_at <= now,
            agreed.c.wallet.in_(self._wallets),
            ~is_under_way,
            bought < agreed.c.most_per_month,
            left < agreed.c.below,
        )


def _begun(row: sa.Row[Any], customer: str, now: int) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "company": row.company,
        "wallet": row.wallet,
        "pack": row.pack,
        "pack_name": row.pack_name,
        "customer": customer,
        "invoice": "",
        "state": "open",
        "error": "",
        "refusals": 0,
        "is_tried": False,
        "created_at": now,
        "look_at": now,
        "ended_at": None,
    }


def _attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        company=row.company,
        wallet=row.wallet,
        pack=row.pack,
        pack_name=row.pack_name,
        customer=row.customer,
        invoice=row.invoice,
        error=row.error,
        refusals=row.refusals,
        is_tried=bool(row.is_tried),
        is_wanted=bool(row.enabled),
        created_at=int(row.created_at),
    )
