"""
What others had reported to Stripe in a billing period before meterkit first saw its subscription.

Whoever moves to meterkit in mid-period has used tiers and quotas already. Stripe's sum of the running period is kept
once, less what meterkit itself has reported, and counts from then on in quotas, previews, caps and late items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.core.windows import HOUR
from meterkit.ledger import schema
from meterkit.ledger.bulk import BATCH
from meterkit.ledger.database import Database, insert_into
from meterkit.ledger.payers import companies_by_customer, pays_for_itself
from meterkit.ledger.schema.quantities import sum_of

MINUTE = 60

CHANGES = "opening_balances"
"""Key in ``meta`` of the number of times that balances were changed, for processes that keep them in memory."""

OWN = ("sent", "uncertain")
"""States of reports that Stripe has, or may have."""


class Opening(NamedTuple):
    """
    A part of a billing period that meterkit has not counted.

    Attributes:
        customer: Id of the Stripe customer.
        event_name: Event name of the meter.
        since: Unix second at which the billing period begins.
        until: Unix second at which meterkit first saw it.
    """

    customer: str
    event_name: str
    since: int
    until: int


class OpeningBalances:
    """
    Store of the usage that was reported before meterkit first saw a subscription.

    Args:
        database: Database of the ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def unseen(self, periods: Iterable[tuple[str, str, int]], now: int) -> tuple[list[Opening], list[Opening]]:
        """
        Return what of *periods* is seen for the first time: with usage that others may have reported, and without.

        Args:
            periods: Customer, event name and beginning of running billing periods.
            now: Current time, Unix seconds.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        table = schema.opening_balances
        openings = [Opening(customer, event_name, since, now - now % MINUTE) for customer, event_name, since in periods]
        if not openings:
            return [], []
        with self._database.snapshot() as connection:
            customers = sorted({each.customer for each in openings})
            query = sa.select(table.c.customer, table.c.event_name).where(table.c.customer.in_(customers))
            known = {(row.customer, row.event_name) for row in connection.execute(query)}
            new = [each for each in openings if each[:2] not in known]
            counted = self._first_counted(connection, {each.customer for each in new})
            imported = self._imported(connection, {each.customer for each in new})
        begun = [
            each
            for each in new
            if each.since < now - HOUR
            and (each.since < counted.get(each.customer, now) or each.customer in imported)  # maybe not all of it
        ]
        return begun, [each for each in new if each not in begun]

    def put(self, connection: sa.Connection, opening: Opening, reported: int) -> None:
        """
        Store an opening balance, once.

        Args:
            connection: Connection in a transaction.
            opening: What it is for.
            reported: Quantity that Stripe has for that time, of whoever reported it.
        """
        reports = schema.reports
        own = sa.select(sum_of(reports.c.quantity)).where(
            reports.c.customer == opening.customer,
            reports.c.event_name == opening.event_name,
            reports.c.state.in_(OWN),
            reports.c.timestamp >= opening.since,
            reports.c.timestamp < opening.until,
        )
        quantity = max(0, reported - int(connection.scalar(own) or 0)) if reported else 0
        statement = insert_into(schema.opening_balances, connection).values(**opening._asdict(), quantity=quantity)
        connection.execute(statement.on_conflict_do_nothing())

    def _imported(self, connection: sa.Connection, customers: set[str]) -> set[str]:
        """Return which of *customers* have reports that were imported: sent, and without an attempt."""
        reports = schema.reports
        query = sa.select(reports.c.customer).distinct().where(reports.c.customer.in_(customers))
        return set(connection.scalars(query.where(is_imported())))

    def _first_counted(self, connection: sa.Connection, customers: set[str]) -> dict[str, int]:
        """Return the Unix second at which the day begins on which meterkit first counted for each customer, if any."""
        accounts, totals = schema.accounts, schema.totals
        linked = sa.select(accounts.c.customer, accounts.c.company).where(accounts.c.customer.in_(customers))
        payers = {row.company: row.customer for row in connection.execute(linked)}
        payers |= {customer: customer for customer in customers if pays_for_itself(connection, customer)}
        query = sa.select(totals.c.company, sa.func.min(totals.c.day).label("day"))
        found: dict[str, int] = {}
        for row in connection.execute(query.where(totals.c.company.in_(payers)).group_by(totals.c.company)):
            customer = payers[row.company]
            found[customer] = min(row.day, found.get(customer, row.day))
        return found


def subtract(connection: sa.Connection, reports: Iterable[Mapping[str, Any]]) -> None:
    """
    Subtract *reports* of what others had reported, which are in the ledger now, from the balances that have them.

    Args:
        connection: Connection in a transaction.
        reports: Rows of the outbox, which this transaction has written.
    """
    table = schema.opening_balances
    sums: dict[tuple[str, str, int], int] = {}
    for each in reports:
        key = (each["customer"], each["event_name"], each["timestamp"])
        sums[key] = sums.get(key, 0) + each["quantity"]
    changed = False
    for (customer, event_name, timestamp), quantity in sums.items():
        has_it = sa.and_(table.c.since <= timestamp, table.c.until > timestamp, table.c.quantity != 0)
        mine = sa.select(table).filter_by(customer=customer, event_name=event_name).where(has_it)
        for row in connection.execute(mine.with_for_update()).all():
            left = sa.update(table).filter_by(customer=customer, event_name=event_name, since=row.since)
            connection.execute(left.values(quantity=max(0, int(row.quantity) - quantity)))
            changed = True
    if changed:
        connection.execute(insert_into(schema.meta, connection).values(key=CHANGES, value="0").on_conflict_do_nothing())
        value = sa.cast(sa.cast(schema.meta.c.value, sa.BigInteger) + 1, sa.Text)
        connection.execute(sa.update(schema.meta).filter_by(key=CHANGES).values(value=value))


def is_imported() -> sa.ColumnElement[bool]:
    """Return the condition for reports of what others had sent: nobody else has tried to."""
    return sa.and_(schema.reports.c.state == "sent", schema.reports.c.attempts == 0)


def version_of(connection: sa.Connection) -> int:
    """Return what changes when an opening balance becomes smaller."""
    return int(connection.scalar(sa.select(schema.meta.c.value).filter_by(key=CHANGES)) or 0)


def opening_balance(connection: sa.Connection, customer: str, event_name: str, start: int, end: int) -> int:
    """Return what others had reported of a billing period that begins between two Unix seconds, *end* excluded."""
    table = schema.opening_balances
    query = sa.select(sum_of(table.c.quantity)).filter_by(customer=customer, event_name=event_name)
    return int(connection.scalar(query.where(table.c.since >= start, table.c.since < end)) or 0)


def by_company(connection: sa.Connection, companies: Iterable[str] | None) -> dict[str, list[tuple[str, int, int]]]:
    """
    Return the opening balances of companies: event name, beginning of the period, and quantity of each.

    That of a customer who pays for several companies is nobody's: Stripe does not know whose usage it was.

    Args:
        connection: Connection to the ledger.
        companies: At most `meterkit.ledger.bulk.BATCH` companies; None takes all.
    """
    table, accounts = schema.opening_balances, schema.accounts
    query = sa.select(table).where(table.c.quantity != 0)
    if companies is not None:
        query = query.where(table.c.customer.in_(companies_by_customer(connection, companies)))
    rows = connection.execute(query).all()
    ids = sorted({row.customer for row in rows})
    payers: dict[str, set[str]] = {}
    for start in range(0, len(ids), BATCH):
        linked = sa.select(accounts.c.customer, accounts.c.company)
        for row in connection.execute(linked.where(accounts.c.customer.in_(ids[start : start + BATCH]))):
            payers.setdefault(row.customer, set()).add(row.company)
    found: dict[str, list[tuple[str, int, int]]] = {}
    for row in rows:
        paid_for = payers.get(row.customer) or ({row.customer} if pays_for_itself(connection, row.customer) else set())
        if len(paid_for) == 1:
            (company,) = paid_for
            found.setdefault(company, []).append((row.event_name, row.since, row.quantity))
    return found
