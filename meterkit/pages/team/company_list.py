"""The list of companies: searched, filtered, sorted, page by page, among a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from heapq import nsmallest
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from meterkit.accounts.standing import OverdueInvoice, Standings, standings
from meterkit.core.periods import month_of
from meterkit.core.usage_key import NOBODY
from meterkit.ledger import schema
from meterkit.ledger.payers import CUSTOMER_IDS, customer_of
from meterkit.pages.team.kept import Kept
from meterkit.pages.team.operations import notes_of
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.survey import Survey
from meterkit.pages.team.tables import Cell, Field, Link, Money, Table, TeamPage, page_number

PAGE = 50
"""Companies on a page."""

MOST_METERS = 5
"""Most meters that have a column of their own."""


class Choice(NamedTuple):
    """
    Which companies are listed, and in which order.

    Attributes:
        text: Part of the company id or of the customer's name; empty for all.
        order: Name of the meter of which those come first that have used most; empty for the order of the ids.
        standing: ``overdue`` or ``unlinked``; empty for all.
        plan: Name of a plan; empty for all.
        after: Company id after which the page begins, in the order of the ids.
        skipped: Companies before the page, in any other order.
    """

    text: str
    order: str
    standing: str
    plan: str
    after: str
    skipped: int


def companies_page(
    sources: Sources, surveyed: Kept[Survey], plans: Kept[Mapping[str, str]], query: Mapping[str, str]
) -> TeamPage:
    """
    Return a page of the list of companies.

    Args:
        sources: What it reads.
        surveyed: What was found about all companies.
        plans: Plans of all companies that are on one.
        query: ``q``, ``sort`` (a meter), ``standing``, ``plan``, and ``after`` or ``page``.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    choice = _choice(sources, query)
    found = surveyed.get() if choice.standing == "overdue" else None
    named = plans.get() if choice.plan else None
    waited = [each for each in (found, named) if each is not None]
    overdue = found.value.overdue if found is not None and found.value is not None else {}
    names = named.value if named is not None and named.value is not None else {}
    is_known = all(each.value is not None for each in waited)
    with sources.database().snapshot() as connection:
        companies = _companies(connection, sources, choice, overdue, names) if is_known else []
        page, has_more = companies[:PAGE], len(companies) > PAGE
        table = _table(connection, sources, page)
    following: dict[str, str] = {}
    if has_more:
        is_by_id = not choice.order and not choice.standing and not choice.plan
        following = {"after": page[-1]} if is_by_id else {"page": str(choice.skipped // PAGE + 2)}
    kept = {"q": choice.text, "sort": choice.order, "standing": choice.standing, "plan": choice.plan}
    return TeamPage(
        title="Companies",
        tables=[table],
        fields=[
            Field("q", "Company id or name contains", choice.text),
            Field("sort", "Order", choice.order, [("", "by id"), *((each, f"most {each}") for each in sources.meters)]),
            Field(
                "standing", "Standing", choice.standing, [("", "all"), ("overdue", "overdue"), ("unlinked", "unlinked")]
            ),
            *(
                [Field("plan", "Plan", choice.plan, [("", "all"), *((each, each) for each in sources.kit_plans)])]
                if sources.kit_plans
                else []
            ),
        ],
        following=Link("Next page", "companies", {**kept, **following}) if following else None,
        notes=[note for each in waited for note in notes_of(each)],
    )


def _choice(sources: Sources, query: Mapping[str, str]) -> Choice:
    return Choice(
        text=query.get("q", "").strip(),
        order=query.get("sort", "") if query.get("sort") in sources.meters else "",
        standing=query.get("standing", "") if query.get("standing") in ("overdue", "unlinked") else "",
        plan=query.get("plan", "") if query.get("plan") in sources.kit_plans else "",
        after=query.get("after", ""),
        skipped=(page_number(query) - 1) * PAGE,
    )


def _companies(
    connection: sa.Connection,
    sources: Sources,
    choice: Choice,
    overdue: Mapping[str, list[OverdueInvoice]],
    names: Mapping[str, str],
) -> list[str]:
    """Return the companies of the page, and one more if there are more."""
    if not choice.standing and not choice.plan:
        if choice.order:
            return _most(connection, sources, choice)
        return list(connection.scalars(_known(connection, choice.text, choice.after, limit=PAGE + 1)))
    default = sources.default_plan if choice.plan else ""
    if choice.standing == "overdue":
        chosen = set(overdue)
    elif choice.standing == "unlinked":
        chosen = _unlinked(connection, sources)
    elif choice.plan == default:
        chosen = set(connection.scalars(_known(connection, choice.text, "")))
    else:
        chosen = {company for company, plan in names.items() if plan == choice.plan}
    if choice.text:
        chosen &= set(connection.scalars(_known(connection, choice.text, "")))
    if choice.plan:
        chosen = {company for company in chosen if names.get(company, default) == choice.plan}
    last = choice.skipped + PAGE + 1
    first = _by_use(connection, sources, choice.order, chosen, last) if choice.order else []
    if len(first) < last:
        first += nsmallest(last - len(first), chosen.difference(first))
    return first[choice.skipped :]


def _known(connection: sa.Connection, text: str, after: str, *, limit: int | None = None) -> sa.Select[Any]:
    """Return the query for the companies that have usage or a link, by id, after the company *after*."""
    # Each step finds the next company in the index: the rows of its days are not read.
    following = sa.select(sa.func.min(schema.totals.c.company).label("company")).where(schema.totals.c.company > after)
    used = following.cte("used", recursive=True)
    step = sa.select(sa.func.min(schema.totals.c.company)).where(schema.totals.c.company > used.c.company)
    used = used.union_all(sa.select(step.scalar_subquery()).where(used.c.company.is_not(None)))
    of_usage = sa.select(used.c.company).where(used.c.company.is_not(None))
    linked = sa.select(schema.accounts.c.company).where(schema.accounts.c.company > after)
    if text:
        named = sa.select(schema.accounts.c.company).join(
            schema.customers, schema.customers.c.id == schema.accounts.c.customer
        )
        queries = [
            of_usage.where(_contains(connection, used.c.company, text)),
            linked.where(_contains(connection, schema.accounts.c.company, text)),
            named.where(_contains(connection, schema.customers.c.name, text), schema.accounts.c.company > after),
        ]
        if connection.get_execution_options().get(CUSTOMER_IDS):
            own = sa.select(schema.customers.c.id).where(_contains(connection, schema.customers.c.name, text))
            queries.append(own.where(schema.customers.c.id > after))
    else:
        queries = [of_usage, linked]
    if limit is not None:
        # The first ones come in order already; to sort them would take all steps.
        first, *others = queries
        limited = [first.limit(limit), *(each.order_by(each.selected_columns[0]).limit(limit) for each in others)]
        queries = [sa.select(each.subquery()) for each in limited]
    found = sa.union(*queries).subquery()
    query = sa.select(found.c[0]).order_by(found.c[0])
    return query if limit is None else query.limit(limit)


def _contains(connection: sa.Connection, column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that *column* contains *text*, in upper or lower case."""
    escaped = f"%{text.replace('~', '~~').replace('%', '~%').replace('_', '~_')}%"
    if (
        connection.dialect.name == "sqlite"
    ):  # its LIKE ignores the case; lower() of each value takes three times as long
        return column.like(escaped, escape="~")
    return column.ilike(escaped, escape="~")


def _most(connection: sa.Connection, sources: Sources, choice: Choice) -> list[str]:
    table = schema.month_totals
    query = sa.select(table.c.company).where(
        table.c.month == month_of(sources.now).start, table.c.meter == choice.order, table.c.company != NOBODY
    )
    if choice.text:
        query = query.where(table.c.company.in_(_known(connection, choice.text, "")))
    query = query.order_by(table.c.quantity.desc(), table.c.company).limit(PAGE + 1).offset(choice.skipped)
    return list(connection.scalars(query))


def _unlinked(connection: sa.Connection, sources: Sources) -> set[str]:
    """Return the companies without a Stripe customer that have used something in the last two months."""
    table, accounts = schema.month_totals, schema.accounts
    this = month_of(sources.now)
    months = [month_of(this.start - 1).start, this.start]
    query = sa.select(table.c.company).join_from(table, accounts, accounts.c.company == table.c.company, isouter=True)
    query = query.where(table.c.month.in_(months), table.c.meter.in_(sources.meters), accounts.c.company.is_(None))
    return {each for each in connection.scalars(query) if customer_of(connection, each, None) is None}


def _by_use(connection: sa.Connection, sources: Sources, meter: str, chosen: set[str], number: int) -> list[str]:
    """Return a *number* of *chosen* companies, those first that have used most of *meter* this month."""
    table = schema.month_totals
    query = sa.select(table.c.company).filter_by(month=month_of(sources.now).start, meter=meter)
    companies = connection.scalars(query.order_by(table.c.quantity.desc(), table.c.company))
    return list(islice((company for company in companies if company in chosen), number))


def _table(connection: sa.Connection, sources: Sources, companies: list[str]) -> Table:
    links = {
        row.company: row.customer
        for row in connection.execute(sa.select(schema.accounts).where(schema.accounts.c.company.in_(companies)))
    }
    payers = {company: customer_of(connection, company, links.get(company)) for company in companies}
    ids = [customer for customer in payers.values() if customer is not None]
    customers = schema.customers.c
    names = {
        row.id: row.name
        for row in connection.execute(sa.select(customers.id, customers.name).where(customers.id.in_(ids)))
    }
    standing = standings(connection, now=sources.now, companies=companies)
    meters = list(sources.meters)[:MOST_METERS]
    table = schema.month_totals
    month = month_of(sources.now).start
    query = sa.select(table.c.company, table.c.meter, table.c.quantity)
    query = query.where(table.c.month == month, table.c.meter.in_(meters), table.c.company.in_(companies))
    used = {(company, meter): quantity for company, meter, quantity in connection.execute(query)}
    plans = sources.plans_of(connection, companies)
    rows: list[list[Cell]] = []
    for company in companies:
        customer = payers[company]
        rows.append(
            [
                Link(company, "company", {"id": company}),
                names.get(customer or "", ""),
                *([plans.get(company, sources.default_plan)] if sources.kit_plans else []),
                sources.in_stripe("customers", customer),
                standing.of(company),
                _overdue(standing, company),
                *(used.get((company, meter), 0) for meter in meters),
            ]
        )
    return Table(
        id="companies",
        title="Companies",
        columns=[
            "company",
            "name",
            *(["plan"] if sources.kit_plans else []),
            "customer",
            "standing",
            "overdue",
            *(f"{meter} this month" for meter in meters),
        ],
        rows=rows,
        note="Usage of the calendar month, in UTC.",
        empty="There is no such company.",
    )


def _overdue(standing: Standings, company: str) -> Cell:
    """Return the sum of the overdue invoices in the currency of the oldest."""
    invoices = standing.overdue.get(company, [])
    if not invoices:
        return None
    currency = invoices[0].currency
    return Money(sum_of(each.amount for each in invoices if each.currency == currency), currency)


def sum_of(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum of *amounts*."""
    return sum(amounts, Decimal(0))
