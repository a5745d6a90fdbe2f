"""Whether the books of all wallets are right."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from meterkit.ledger import schema
from meterkit.ledger.database import Database
from meterkit.ledger.schema.quantities import added, literal, sum_of
from meterkit.wallets.amounts import shown
from meterkit.wallets.wallet import Wallet

SHOWN = 20
"""Number of sentences of a kind, at most."""

_REPORT = "Please report this"


def mistakes(database: Database) -> list[str]:
    """
    Return a sentence about each thing that must not be, of which there is none unless meterkit has a fault.

    Reads all entries, so it takes as long as there are many.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    with database.snapshot() as connection:
        return [*_unbalanced(connection), *_of_grants(connection), *_of_usage(connection)]


def uncovered(database: Database, *, since: int) -> list[str]:
    """
    Return a sentence about each company whose usage was worth more than its balance, largest first.

    Args:
        database: Database of the ledger.
        since: Unix second; days whose usage was last spent before are left out, as they stay uncovered for ever.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.entries
    total, last = sum_of(table.c.amount).label("total"), sa.func.max(table.c.at).label("last")
    # What was named for a dispute is given back months later, if it is won: what is of a grant is added up in full.
    of_late = sa.or_(table.c.at >= since, table.c.grant_id != "")
    query = (
        sa.select(table.c.company, table.c.wallet, table.c.unit, total, last)
        .where(schema.SETTLED, table.c.account == "uncovered", of_late)
        .group_by(table.c.company, table.c.wallet, table.c.unit, table.c.grant_id)
    )
    missing: dict[tuple[str, str, str], int] = {}
    with database.snapshot() as connection:
        for row in connection.execute(query):
            if row.last >= since and row.total:
                place = (row.company, row.wallet, row.unit)
                missing[place] = missing.get(place, 0) - int(row.total)
    found = sorted((-micros, *place) for place, micros in missing.items() if micros > 0)
    sentences = [
        f"{company!r:.100} has used {shown(-micros, unit)} more than the wallet {wallet} covered: "
        "usage that is counted without a request before it, such as kit.record(), while the ledger fails, or beyond "
        "what was held for it, is counted all the same; or what has paid for it was refunded or disputed. A later "
        "grant does not pay for it: bill it by hand. This is said for 35 days, and stays in the balance"
        for micros, company, wallet, unit in found[:SHOWN]
    ]
    if len(found) > SHOWN:
        sentences.append(f"usage of {len(found) - SHOWN:,} more companies was not covered by their wallets")
    return sentences


def out_of_reach(database: Database, wallets: Iterable[Wallet], *, now: int) -> list[str]:
    """
    Return a sentence about each wallet with balances left that none of *wallets* can spend, by name and unit.

    Args:
        database: Database of the ledger.
        wallets: Wallets of the kit.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    table = schema.grants
    left = sum_of(table.c.remaining).label("left")
    companies = sa.func.count(sa.distinct(table.c.company)).label("companies")
    query = (
        sa.select(table.c.wallet, table.c.unit, left, companies)
        .where(
            table.c.remaining > 0,
            sa.or_(table.c.expires_at.is_(None), table.c.expires_at > now),
            *(sa.or_(table.c.wallet != each.name, table.c.unit != each.of) for each in wallets),
        )
        .group_by(table.c.wallet, table.c.unit)
        .order_by(table.c.wallet, table.c.unit)
        .limit(SHOWN)
    )
    with database.snapshot() as connection:
        found = connection.execute(query).all()
    return [
        f"nothing can spend what is left in the wallet {row.wallet!r}, {shown(int(row.left), row.unit)} of "
        f"{row.companies:,} {'company' if row.companies == 1 else 'companies'}: this kit has no wallet of that name "
        "and unit. Add it to wallets= again; a wallet must keep its name and its unit"
        for row in found
    ]


def _unbalanced(connection: sa.Connection) -> list[str]:
    table = schema.entries
    keys = (table.c.company, table.c.wallet, table.c.unit, table.c.movement)
    total = sum_of(table.c.amount)
    query = sa.select(*keys, total.label("total")).group_by(*keys).having(total != literal(0)).limit(SHOWN)
    return [
        f"the movement {row.movement} of {row.company!r:.100} in the wallet {row.wallet} does not balance: its entries "
        f"add up to {shown(int(row.total), row.unit)}. {_REPORT}"
        for row in connection.execute(query)
    ]


def _of_grants(connection: sa.Connection) -> list[str]:
    grants, entries = schema.grants, schema.entries
    available = (
        sa.select(entries.c.grant_id, sum_of(entries.c.amount).label("total"))
        .where(entries.c.account == "available")
        .group_by(entries.c.grant_id)
        .subquery()
    )
    query = (
        sa.select(grants.c.id, grants.c.company, grants.c.unit, grants.c.remaining, available.c.total)
        .join_from(grants, available, grants.c.id == available.c.grant_id, isouter=True)
        .where(
            sa.or_(
                available.c.total.is_(None), available.c.total != grants.c.remaining, grants.c.remaining < literal(0)
            )
        )
        .limit(SHOWN)
    )
    return [
        f"the grant {row.id} of {row.company!r:.100} has {shown(int(row.remaining), row.unit)} left, and its entries "
        f"say {shown(int(row.total or 0), row.unit)}. {_REPORT}"
        for row in connection.execute(query)
    ]


def _of_usage(connection: sa.Connection) -> list[str]:
    """Compare what was spent with the usage that it follows from."""
    usage, totals, entries = schema.wallet_usage, schema.totals, schema.entries
    counted = (
        sa.select(totals.c.company, totals.c.meter, sum_of(totals.c.quantity).label("quantity"))
        .where(totals.c.meter.in_(sa.select(usage.c.meter)))
        .group_by(totals.c.company, totals.c.meter)
        .subquery()
    )
    spent = (
        sa.select(entries.c.company, entries.c.meter, sum_of(entries.c.quantity).label("quantity"))
        .where(entries.c.account == "used")
        .group_by(entries.c.company, entries.c.meter)
        .subquery()
    )
    query = (
        sa.select(usage, counted.c.quantity.label("counted"), spent.c.quantity.label("spent"))
        .join_from(
            usage,
            counted,
            sa.and_(usage.c.company == counted.c.company, usage.c.meter == counted.c.meter),
            isouter=True,
        )
        .join(spent, sa.and_(usage.c.company == spent.c.company, usage.c.meter == spent.c.meter), isouter=True)
        .where(
            sa.or_(
                counted.c.quantity.is_(None),
                spent.c.quantity.is_(None),
                added(usage.c.before, usage.c.quantity) != counted.c.quantity,
                usage.c.quantity != spent.c.quantity,
            )
        )
        .limit(SHOWN)
    )
    return [
        f"{row.company!r:.100} has used {int(row.counted or 0) - int(row.before):,} {row.meter} since its wallet pays "
        f"for it, and the wallet was spent for {int(row.spent or 0):,}. {_REPORT}"
        for row in connection.execute(query)
    ]
