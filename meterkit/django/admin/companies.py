"""The admin's list of companies: customer, plan and standing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.standing import standings
from meterkit.core.usage_key import NOBODY
from meterkit.django.admin.keyset import PAGE, Key, ordered, read, written
from meterkit.django.admin.lists import Asked, Filter, LedgerList, Listed
from meterkit.kit import MeterKit
from meterkit.ledger import schema
from meterkit.ledger.payers import customer_of


class CompanyList(LedgerList):
    """Companies that have usage or a link, by id."""

    columns = ("company", "name", "customer", "linked by", "plan", "standing", "subscriptions")
    search_help = "Part of a company id or of the customer's name, or a customer id."

    def filters(self, kit: MeterKit) -> Iterable[Filter]:  # noqa: ARG002 - of the protocol
        """Return the filters: none."""
        return []

    def page(self, kit: MeterKit, asked: Asked) -> Listed:
        """Return a page; see `LedgerList`."""
        after = (read(asked.after, [str]) or [NOBODY])[0]
        with kit.process().database().snapshot() as connection:
            query = _matching(asked.search, after) if asked.search else _all(after)
            companies = list(connection.scalars(query))
            shown = companies[:PAGE]
            rows = _rows(connection, shown, now=int(kit.clock()))
        for row in rows:
            plan = kit.plan_of(row[0])
            row[4] = None if plan is None else plan.name
        return Listed(rows, written([shown[-1]]) if len(companies) > PAGE else "")


def _all(after: str) -> sa.Select[Any]:
    """
    Return a query for the companies that follow *after*.

    Those with usage are looked up one by one, each as the next in the index: there may be millions of rows of usage.
    """
    first, following, accounts = schema.totals.alias(), schema.totals.alias(), schema.accounts
    start = sa.select(sa.func.min(first.c.company).label("company"), sa.literal(1).label("number"))
    walk = start.where(first.c.company > after).cte("walk", recursive=True)
    step = sa.select(sa.func.min(following.c.company)).where(following.c.company > walk.c.company).scalar_subquery()
    walk = walk.union_all(sa.select(step, walk.c.number + 1).where(walk.c.company.is_not(None), walk.c.number <= PAGE))
    used = sa.select(walk.c.company).where(walk.c.company.is_not(None))
    linked = ordered(sa.select(accounts.c.company), [Key(accounts.c.company)], None if after == NOBODY else [after])
    both = sa.union(used, sa.select(linked.subquery().c.company)).subquery()
    return ordered(sa.select(both.c.company), [Key(both.c.company)], None)


def _matching(search: str, after: str) -> sa.Select[Any]:
    """Return a query for the companies that follow *after*, and whose link or usage matches *search*."""
    accounts, customers, totals = schema.accounts, schema.customers, schema.totals
    linked = sa.select(accounts.c.company).join_from(
        accounts, customers, customers.c.id == accounts.c.customer, isouter=True
    )
    linked = linked.where(
        sa.or_(
            accounts.c.company.icontains(search, autoescape=True),
            customers.c.name.icontains(search, autoescape=True),
            accounts.c.customer == search,
        )
    )
    used = sa.select(totals.c.company).where(totals.c.company == search)
    both = sa.union(linked, used).subquery()
    return ordered(sa.select(both.c.company), [Key(both.c.company)], None if after == NOBODY else [after])


def _rows(connection: sa.Connection, companies: list[str], *, now: int) -> list[list[Any]]:
    accounts, customers, subscriptions = schema.accounts, schema.customers, schema.subscriptions
    links = {
        row.company: row for row in connection.execute(sa.select(accounts).where(accounts.c.company.in_(companies)))
    }
    payers = {
        company: customer_of(connection, company, links[company].customer if company in links else None)
        for company in companies
    }
    ids = [customer for customer in payers.values() if customer is not None]
    names = {row.id: row.name for row in connection.execute(sa.select(customers).where(customers.c.id.in_(ids)))}
    statuses: dict[str, list[str]] = {}
    running = sa.select(subscriptions).where(subscriptions.c.customer.in_(ids), subscriptions.c.ended_at.is_(None))
    for row in connection.execute(running.order_by(subscriptions.c.id)):
        statuses.setdefault(row.customer, []).append(row.status)
    standing = standings(connection, now=now, companies=companies)
    return [
        [
            company,
            names.get(payers[company] or "") or None,
            payers[company],
            links[company].source if company in links else None,
            None,
            standing.of(company),
            ", ".join(statuses.get(payers[company] or "", ())) or None,
        ]
        for company in companies
    ]
