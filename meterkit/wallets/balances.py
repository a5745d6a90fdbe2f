"""
What companies have left, and what their usage spends.

Grants are spent in this order: what has expired but is still held by processes, then the lowest priority number, then
the soonest expiry (what never expires comes last), then the oldest.

Processes hold parts of a balance ahead, as rows of ``schema.slices``, never more than what remains of all grants,
unless some of that is refunded afterwards. A grant that expires keeps what is held at that moment, which may still be
spent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH, add_to, select_by_key
from meterkit.ledger.daily_totals import UsageRow, lock_totals
from meterkit.ledger.schema.quantities import sum_of
from meterkit.wallets.amounts import amount
from meterkit.wallets.entries import SPENDING_ORDER, Account, Movement, Place, apply
from meterkit.wallets.wallet import Wallet, held_as

Pair: TypeAlias = "tuple[str, str]"
"""A company and the name of a wallet."""

AUDITED_SECONDS = 3600.0
"""How often a process looks which meters have ever been spent from a wallet."""

_Used: TypeAlias = "dict[tuple[str, int], int]"
"""Quantity by meter, and Unix second at which the UTC day begins."""


@dataclass(slots=True)
class Remaining:
    """
    What remains of a grant.

    Attributes:
        id: Id of the grant.
        amount: What remains, in millionths.
        expires_at: Unix second at which it expires, or None.
    """

    id: str
    amount: int
    expires_at: int | None

    def is_expired(self, now: int) -> bool:
        """Return whether it has expired by the Unix second *now*."""
        return self.expires_at is not None and self.expires_at <= now


class Balances:
    """
    Reads and spends the balances of a kit's wallets, in transactions of the ledger.

    Args:
        wallets: Wallets of the kit, by name.
        clock: Function that returns Unix seconds.
        shadow_until: Unix second until which usage is counted in shadow mode, so that it spends nothing.

    Attributes:
        wallets: Wallets of the kit, by name.
        rates: Wallet and rate, in millionths, of each meter that spends, by the meter's name.
    """

    def __init__(self, wallets: Mapping[str, Wallet], *, clock: Callable[[], float], shadow_until: float = 0.0) -> None:
        self.wallets = wallets
        self.rates: dict[str, tuple[Wallet, int]] = {
            meter: (wallet, rate) for wallet in wallets.values() for meter, rate in wallet.rates.items()
        }
        self._clock = clock
        self._shadow_until = shadow_until
        self._audited: frozenset[str] = frozenset()
        self._audited_until = 0.0

    def left(self, connection: sa.Connection, company: str, wallet: str) -> int:
        """
        Return what a company has left of a wallet, in millionths, including what processes hold of it.

        Takes the lock that all changes of balances and totals take, so that this stays so until the end of the
        transaction; and writes the expiry of what has expired.

        Args:
            connection: Connection of a transaction that may write.
            company: Company id.
            wallet: Name of the wallet.
        """
        lock_totals(connection)
        place = self._place(company, wallet)
        grants = remaining_of(connection, [place]).get(place, [])
        if any(grant.is_expired(int(self._clock())) for grant in grants):
            held = held_of(connection, [company], [wallet]).get((company, wallet), 0)
            self._expire(connection, place, grants, held)
        return sum(grant.amount for grant in grants)

    def unknown(self, held: Mapping[Pair, int]) -> list[str]:
        """
        Return a sentence about each company whose usage another process has taken of a wallet that this code lacks.

        Args:
            held: What was held for usage that is folded now, in millionths by company and wallet.
        """
        return [
            f"{company!r:.100} has used {amount(micros):,f} of the wallet {wallet!r:.100}, which the code of this "
            "process lacks, so it was counted and not spent: stop the processes with the other code, and take it back "
            "with kit.revoke()"
            for (company, wallet), micros in sorted(held.items())
            if wallet not in self.wallets
        ]

    def spend(self, connection: sa.Connection, rows: Iterable[UsageRow], held: Mapping[Pair, int]) -> None:
        """
        Spend what usage is worth, in the transaction that folds it.

        A company spends at most what was held for the usage, and what nobody holds. The rest of its usage is written as
        uncovered.

        Args:
            connection: Connection of the transaction, which has added *rows* to the daily totals already.
            rows: Usage rows that the transaction adds.
            held: What was held for this usage and, in this transaction, is no longer, in millionths by company and
                wallet.
        """
        audited = self._audited_meters(connection)
        if not audited:
            return
        used: dict[Pair, _Used] = {}
        unspent: dict[tuple[str, str], int] = {}
        for meter, _, company, _, window, quantity, _, _ in rows:
            found = self.rates.get(meter)
            if company == NOBODY or not quantity:
                continue
            if found is None or window < self._shadow_until:
                if meter in audited:
                    unspent[company, meter] = unspent.get((company, meter), 0) + quantity
                continue
            by_day = used.setdefault((company, found[0].name), {})
            day = (meter, window - window % DAY)
            by_day[day] = by_day.get(day, 0) + quantity
        if unspent:
            lock_totals(connection)
            _note_unspent(connection, unspent)
        if not used:
            return
        lock_totals(connection)
        pairs = sorted(used)
        for start in range(0, len(pairs), BATCH):
            batch = {pair: used[pair] for pair in pairs[start : start + BATCH]}
            self._spend(connection, batch, held)
            _note_usage(connection, batch)

    def _audited_meters(self, connection: sa.Connection) -> frozenset[str]:
        """Return the meters whose usage the ledger compares with what was spent, also those that spend no longer."""
        now = self._clock()
        if now >= self._audited_until:
            self._audited = frozenset(connection.scalars(sa.select(schema.wallet_usage.c.meter).distinct()))
            self._audited_until = now + AUDITED_SECONDS
        return self._audited | self.rates.keys()

    def settle(self, connection: sa.Connection, _counts: object, rows: Iterable[UsageRow]) -> None:
        """Spend what usage is worth for which no process holds anything; see `meterkit.ledger.ledger.Settle`."""
        self.spend(connection, rows, {})

    def expire_due(self, connection: sa.Connection) -> int:
        """
        Write the expiry of all that has expired, less what is held of it, in this transaction.

        Returns:
            Number of grants of which something expired.
        """
        table = schema.grants
        now = int(self._clock())
        due = (
            sa.select(table.c.company, table.c.wallet, table.c.unit)
            .distinct()
            .where(table.c.remaining > 0, table.c.expires_at <= now)
            .limit(BATCH)
        )
        lock_totals(connection)
        places = [Place(row.company, row.wallet, row.unit) for row in connection.execute(due)]
        grants = remaining_of(connection, places)
        held = held_of(connection, {each.company for each in places}, {each.wallet for each in places})
        return sum(
            self._expire(connection, place, grants.get(place, []), held.get((place.company, place.wallet), 0))
            for place in places
        )

    def _place(self, company: str, wallet: str) -> Place:
        return Place(company, wallet, self.wallets[wallet].of)

    def _expire(self, connection: sa.Connection, place: Place, grants: list[Remaining], held: int) -> int:
        """Write the expiry of those of *grants* that have expired, less what is *held*; return of how many."""
        now = int(self._clock())
        movements: list[Movement] = []
        for grant in grants:
            if grant.is_expired(now):
                kept = min(grant.amount, held)
                held -= kept
                if kept < grant.amount:
                    lost, grant.amount = grant.amount - kept, kept
                    changes: dict[tuple[Account, str], int] = {
                        ("expired", grant.id): lost,
                        ("available", grant.id): -lost,
                    }
                    movements.append(Movement(place, f"expiry/{grant.id}", "expiry", now, changes))
        grants[:] = [grant for grant in grants if grant.amount]
        apply(connection, movements)
        return len(movements)

    def _spend(self, connection: sa.Connection, used: Mapping[Pair, _Used], released: Mapping[Pair, int]) -> None:
        now = int(self._clock())
        places = {pair: self._place(*pair) for pair in used}
        grants = remaining_of(connection, places.values())
        held = held_of(connection, {company for company, _ in used}, {wallet for _, wallet in used})
        movements: list[Movement] = []
        for pair, quantities in used.items():
            place, others, own = places[pair], held.get(pair, 0), released.get(pair, 0)
            of_place = grants.get(place, [])
            self._expire(connection, place, of_place, others + own)
            of_place.sort(key=lambda grant: not grant.is_expired(now))  # what still is there of that is held
            left = sum(grant.amount for grant in of_place)
            allowed = max(left - others, min(left, own))  # a refund may have left less than is held
            for (meter, day), quantity in sorted(quantities.items()):
                worth = quantity * self.rates[meter][1]
                covered = min(worth, allowed)
                allowed -= covered
                changes: dict[tuple[Account, str], int] = {("used", ""): worth}
                if covered < worth:
                    changes["uncovered", ""] = covered - worth
                changes.update(_taken(of_place, covered))
                about: dict[str, Any] = {"meter": meter, "quantity": quantity}
                movements.append(Movement(place, f"usage/{day}/{meter}", "usage", now, changes, **about))
        apply(connection, movements)


def _taken(grants: Iterable[Remaining], amount: int) -> dict[tuple[Account, str], int]:
    """Take *amount* from *grants*, and return the changes of what is available."""
    changes: dict[tuple[Account, str], int] = {}
    for grant in grants:
        taken = min(grant.amount, amount)
        if taken:
            amount -= taken
            grant.amount -= taken
            changes["available", grant.id] = -taken
    return changes


def _note_usage(connection: sa.Connection, used: Mapping[Pair, _Used]) -> None:
    """Add what was spent to the other side of the entries, by company and meter."""
    sums: dict[tuple[str, str], int] = {}
    for (company, _), quantities in used.items():
        for (meter, _), quantity in quantities.items():
            sums[company, meter] = sums.get((company, meter), 0) + quantity
    table, totals = schema.wallet_usage, schema.totals
    known = {(row.company, row.meter) for row in select_by_key(table, connection, ("company", "meter"), sorted(sums))}
    for company, meter in sorted(set(sums) - known):  # once for ever
        counted = connection.scalar(sa.select(sum_of(totals.c.quantity)).filter_by(company=company, meter=meter))
        before = int(counted or 0) - sums[company, meter]
        connection.execute(sa.insert(table).values(company=company, meter=meter, before=before, quantity=0))
    rows = [(company, meter, 0, quantity) for (company, meter), quantity in sums.items()]
    add_to(table, connection, rows, add=("before", "quantity"))


def _note_unspent(connection: sa.Connection, unspent: Mapping[tuple[str, str], int]) -> None:
    """Note usage, by company and meter, that no wallet pays for: its meter did once, or another program bills it."""
    table = schema.wallet_usage
    known = select_by_key(table, connection, ("company", "meter"), sorted(unspent))
    rows = [(row.company, row.meter, unspent[row.company, row.meter], 0) for row in known]
    if rows:
        add_to(table, connection, rows, add=("before", "quantity"))


def remaining_of(connection: sa.Connection, places: Iterable[Place]) -> dict[Place, list[Remaining]]:
    """Return what remains of the grants of each of *places*, in the order in which it is spent but for what expired."""
    wanted = set(places)
    table = schema.grants
    found: dict[Place, list[Remaining]] = {}
    companies = sorted({place.company for place in wanted})
    for start in range(0, len(companies), BATCH):
        query = (
            sa.select(table)
            .where(
                table.c.company.in_(companies[start : start + BATCH]),
                table.c.wallet.in_({place.wallet for place in wanted}),
                table.c.remaining > 0,
            )
            .order_by(*SPENDING_ORDER)
        )
        for row in connection.execute(query):
            place = Place(row.company, row.wallet, row.unit)
            if place in wanted:
                found.setdefault(place, []).append(Remaining(row.id, row.remaining, row.expires_at))
    return found


def held_of(connection: sa.Connection, companies: Collection[str], wallets: Collection[str]) -> dict[Pair, int]:
    """
    Return what processes hold of balances, in millionths, by company and wallet.

    Args:
        connection: Connection to the ledger.
        companies: Company ids, at most `BATCH`.
        wallets: Names of wallets.
    """
    table = schema.slices
    names = {held_as(wallet): wallet for wallet in wallets}
    query = sa.select(table.c.company, table.c.name, table.c.drawn, table.c.folded).where(
        table.c.company.in_(companies), table.c.name.in_(names)
    )
    found: dict[Pair, int] = {}
    for row in connection.execute(query):
        pair = (row.company, names[row.name])
        found[pair] = found.get(pair, 0) + max(int(row.drawn) - int(row.folded), 0)
    return found
