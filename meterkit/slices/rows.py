"""
Slices in the ledger.

Each process has a row for each company and name. It alone writes what it has drawn, all in all; whoever folds its
generations adds up what is in the ledger of that. So neither a commit of unknown outcome, nor a process that dies,
nor who folds, leaves a unit that belongs to nobody, or to two.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from meterkit.core.usage_key import WALLET
from meterkit.journal.lineage import lineage_of
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH, select_by_key
from meterkit.ledger.daily_totals import UsageRow, lock_totals
from meterkit.ledger.database import insert_into
from meterkit.ledger.schema.quantities import loaded

Key: TypeAlias = "tuple[str, str]"
"""A company, and the name of what is drawn: that of a quota's meter, or that of a wallet behind `WALLET`."""

Rates: TypeAlias = "Mapping[str, int]"
"""What one unit of each meter takes from a slice."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    What one process has drawn for one company.

    Attributes:
        drawn: All that it was allowed to use since the row exists.
        folded: What is in the ledger of that.
    """

    drawn: int
    folded: int

    @property
    def held(self) -> int:
        """What may still be used, or is used and not in the ledger."""
        return max(0, self.drawn - self.folded)


def rows_of(connection: sa.Connection, keys: Collection[Key]) -> dict[Key, dict[str, Row]]:
    """Return the rows of all processes for each of *keys*, by lineage."""
    found: dict[Key, dict[str, Row]] = {key: {} for key in keys}
    for row in select_by_key(schema.slices, connection, ("company", "name"), list(found)):
        of_key = found[row.company, row.name]
        of_key[row.lineage] = Row(_whole(row.drawn), _whole(row.folded))
    return found


def held(connection: sa.Connection, company: str, name: str) -> int:
    """Return what all processes hold for *company* of *name*, together."""
    return sum(row.held for row in rows_of(connection, [(company, name)])[company, name].values())


def write(connection: sa.Connection, lineage: str, key: Key, row: Row, *, rates: Rates, now: int) -> None:
    """
    Write what the process of *lineage* has drawn; a *row* without anything held is deleted.

    Args:
        connection: Connection of a transaction that has locked the totals.
        lineage: Lineage of the process.
        key: Company and name.
        row: What it has drawn.
        rates: What one unit of each meter takes from it.
        now: Current time, Unix seconds.
    """
    table, (company, name) = schema.slices, key
    mine = {"lineage": lineage, "company": company, "name": name}
    if not row.held:
        connection.execute(sa.delete(table).filter_by(**mine))
        return
    values = {"drawn": row.drawn, "folded": row.folded, "rates": _text_of(name, rates), "drawn_at": now}
    statement = insert_into(table, connection).values(**mine, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[*mine], set_=values))


def settle(connection: sa.Connection, counts: Mapping[str, Iterable[UsageRow]]) -> dict[Key, int]:
    """
    Settle the slices whose units have been counted: what is now in the ledger is held no more.

    To be called in the transaction that folds, once it has written the totals, which are locked from then on.

    Args:
        connection: Connection of the transaction.
        counts: Rows of usage that it has added, by the generation that counted them.

    Returns:
        What was held for this usage until now, by company and name.
    """
    by_lineage: dict[str, list[Iterable[UsageRow]]] = {}
    for generation, rows in counts.items():
        by_lineage.setdefault(lineage_of(generation), []).append(rows)
    table, covered, ids = schema.slices, dict[Key, int](), sorted(by_lineage)
    for start in range(0, len(ids), BATCH):
        drawn = connection.execute(sa.select(table).where(table.c.lineage.in_(ids[start : start + BATCH]))).all()
        used = {lineage: _used(by_lineage[lineage]) for lineage in {row.lineage for row in drawn}}
        for row in drawn:
            rates = _rates_of(row.name, row.rates)
            of_company = used[row.lineage].get(row.company, {})
            amount = sum(rate * of_company.get(meter, 0) for meter, rate in rates.items())
            if not amount:
                continue
            before = Row(_whole(row.drawn), _whole(row.folded))
            after = Row(before.drawn, before.folded + amount)
            key = (row.company, row.name)
            covered[key] = covered.get(key, 0) + before.held - after.held
            mine = sa.and_(table.c.lineage == row.lineage, table.c.company == row.company, table.c.name == row.name)
            if after.held:
                connection.execute(sa.update(table).where(mine).values(folded=after.folded))
            else:  # its process begins a new one
                connection.execute(sa.delete(table).where(mine))
    return covered


def give_back(connection: sa.Connection, lineage: str) -> None:
    """Give back all that the process of *lineage* has drawn, which has ended, and whose counts are in the ledger."""
    lock_totals(connection)
    connection.execute(sa.delete(schema.slices).filter_by(lineage=lineage))


def wallets_in(amounts: Mapping[Key, int]) -> dict[tuple[str, str], int]:
    """Return those of *amounts* that are of wallets, by company and the wallet's name."""
    return {(company, name[1:]): amount for (company, name), amount in amounts.items() if name[:1] == WALLET}


def folded(connection: sa.Connection, generations: Collection[str]) -> set[str]:
    """Return those of *generations* that are in the ledger by its records, which are deleted after their files."""
    known = schema.folds.c.generation
    return set(connection.scalars(sa.select(known).where(known.in_(generations)))) if generations else set()


def _used(counts: Iterable[Iterable[UsageRow]]) -> dict[str, dict[str, int]]:
    """Return the quantities by company and meter."""
    sums: dict[str, dict[str, int]] = {}
    for rows in counts:
        for meter, _, company, _, _, quantity, _, _ in rows:
            of_company = sums.setdefault(company, {})
            of_company[meter] = of_company.get(meter, 0) + quantity
    return sums


def _whole(quantity: Any) -> int:
    return loaded(quantity) or 0


def _text_of(name: str, rates: Rates) -> str:
    return "" if rates == {name: 1} else json.dumps(dict(rates), sort_keys=True)


def _rates_of(name: str, text: str) -> Rates:
    return json.loads(text) if text else {name: 1}
