"""One company: what it has used and owes, what Stripe has of it, what waits, and what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.core.periods import DAY
from meterkit.core.usage_key import NOBODY
from meterkit.forecast.forecast import ExpectedCost, Forecast
from meterkit.ledger import schema
from meterkit.ledger.payers import payer_of
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import Cell, External, Link, Moment, Money, Share, Table, TeamPage
from meterkit.pages.team.usage import daily, link_to_usage
from meterkit.pricing.price import decimals_of, rounded

DAYS = 30
"""Days of usage that are shown."""

INVOICES = 24
"""Latest invoices that are shown."""

SHOWN = 20
"""Rows of anything else that are shown."""


NOTE = (
    "What the usage costs is without fees, discounts and tax. What is expected goes on from it at the pace of the last "
    "weeks; in four of five cases, the range holds it."
)


def company_page(sources: Sources, query: Mapping[str, str]) -> TeamPage | None:
    """
    Return the page of a company; None if the ledger has none of that id.

    Args:
        sources: What it reads.
        query: ``id``, the company id.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    company = query.get("id", "")
    with sources.database().snapshot() as connection:
        if not _is_known(connection, company):
            return None
        plans = sources.plans_of(connection, [company])  # first, because the quotas follow from them
        customer = payer_of(connection, company)
        name = connection.scalar(sa.select(schema.customers.c.name).filter_by(id=customer or "")) or ""
        subscriptions = _subscriptions(connection, sources, customer)
        invoices = _invoices(connection, sources, company, customer)
        blocked = _blocked(connection, company, sources.now)
        notices = _notices(connection, company)
    forecast = sources.statements.forecast(company)
    statement = sources.statements.of(company)
    wallets = statement.get("wallets", [])
    period = statement["period"]
    figures: list[tuple[str, Cell]] = [
        ("Customer", sources.in_stripe("customers", customer)),
        *([("Plan", plans.get(company, sources.default_plan) or "none")] if sources.kit_plans else []),
        ("Standing", statement["standing"]),
        ("Billing period", f"{period['start'][:10]} to {period['end'][:10]}"),
        *_owed(forecast.cost),
        *((f"Balance of {each['wallet']}", f"{each['balance']} {each['unit']}") for each in wallets),
        ("Usage", link_to_usage(company)),
        ("Hours", Link("not on an invoice yet", "hours", {"id": company})),
    ]
    return TeamPage(
        title=name or company,
        about=company,
        figures=figures,
        tables=[
            _meters(statement),
            *(values_table(meter["meter"], meter["by"]) for meter in statement["meters"] if "by" in meter),
            _expected(forecast),
            *([_quotas(statement, forecast)] if any(meter["quotas"] for meter in statement["meters"]) else []),
            *(_preview(number, invoice) for number, invoice in enumerate(statement["invoices"], 1)),
            *(
                table
                for number, each in enumerate(wallets, 1)
                for table in (_grants(number, each), _movements(number, each))
            ),
            daily(sources, company, DAYS),
            _months(statement),
            subscriptions,
            invoices,
            blocked,
            notices,
        ],
        notes=[NOTE],
    )


def _is_known(connection: sa.Connection, company: str) -> bool:
    if company == NOBODY:
        return False
    queries = [
        sa.select(table.c.company).where(table.c.company == company).limit(1)
        for table in (schema.accounts, schema.totals, schema.blocked, schema.notices, schema.grants)
    ]
    return any(connection.execute(query).first() is not None for query in queries) or (
        payer_of(connection, company) == company
        and connection.scalar(sa.select(schema.customers.c.id).filter_by(id=company)) is not None
    )


def _owed(cost: ExpectedCost | None) -> list[tuple[str, Cell]]:
    if cost is None:
        return []
    figures: list[tuple[str, Cell]] = [("Cost so far", Money(cost.so_far, cost.currency))]
    if cost.expected is None or cost.low is None or cost.high is None:
        return [*figures, ("Expected for the period", "unknown")]
    for name, amount in (("Expected for the period", cost.expected), ("at least", cost.low), ("at most", cost.high)):
        figures.append((name, Money(rounded(amount, cost.currency), cost.currency)))
    return figures


def _expected(forecast: Forecast) -> Table:
    rows: list[list[Cell]] = [
        [each.meter, each.used, each.expected, each.low, each.high, each.unknown] for each in forecast.usage
    ]
    return Table(
        "forecast",
        "When the billing period ends",
        ["meter", "used so far", "expected", "at least", "at most", "note"],
        rows,
        empty="Nothing was used in the period.",
    )


def _meters(statement: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for meter in statement["meters"]:
        price = meter["price"]
        if price is None:
            rows.append([meter["meter"], meter["used"], None, None, None])
            continue
        tier = price["tiers"][price["tier"] - 1]
        unit = Money(Decimal(tier["unit_price"]), price["currency"])
        place = f"{price['tier']} of {len(price['tiers'])}"
        rows.append([meter["meter"], meter["used"], unit, place, price["left_in_tier"]])
    return Table("meters", "This billing period", ["meter", "used", "price", "tier", "left in the tier"], rows)


def values_table(meter: str, by: Mapping[str, Any]) -> Table:
    """Return the usage of *meter* by values, as a statement has it."""
    names = by["dimensions"]
    rows: list[list[Cell]] = [[*(value or "unknown" for value in each["values"]), each["used"]] for each in by["used"]]
    more = by["more"]
    if more["combinations"]:
        rows.append([f"{more['combinations']:,} more", *[None] * (len(names) - 1), more["used"]])
    return Table(f"values-{meter}", f"{meter} by {' and '.join(names)}", [*names, "used"], rows)


def _quotas(statement: Mapping[str, Any], forecast: Forecast) -> Table:
    reached = {(each.meter, each.per, each.limit): each.reached_at for each in forecast.limits}
    rows: list[list[Cell]] = []
    for meter in statement["meters"]:
        for quota in meter["quotas"]:
            limit = quota["limit"]
            share = None if limit is None else Share(Decimal(quota["used"]), Decimal(limit))
            shown = "no limit" if limit is None else limit
            at = reached.get((meter["meter"], quota["per"], limit))
            until, pace = quota["until"][:16].replace("T", " "), None if at is None else Moment(at)
            rows.append([meter["meter"], quota["per"], quota["used"], shown, share, until, pace])
    columns = ["meter", "per", "used", "limit", "share", "until", "reached at this pace"]
    return Table("quotas", "Quotas", columns, rows)


def _preview(number: int, invoice: Mapping[str, Any]) -> Table:
    currency = invoice["currency"]
    rows: list[list[Cell]] = [
        [
            line["meter"] or "fee",
            None if line["quantity"] is None else str(line["quantity"]),
            Money(Decimal(line["unit_price"]), currency),
            Money(Decimal(line["amount"]), currency),
            line["tier"],
            line["note"],
        ]
        for line in invoice["lines"]
    ]
    if Decimal(invoice["discount"]):
        rows.append(["discount", None, None, Money(-Decimal(invoice["discount"]), currency), None, ""])
    if invoice["total"] is not None:
        rows.append(["total", None, None, Money(Decimal(invoice["total"]), currency), None, ""])
    why = "; ".join(invoice["unknown"])
    return Table(
        f"next-{number}",
        f"Next invoice of {invoice['subscription']}",
        ["for", "quantity", "unit price", "amount", "tier", "note"],
        rows,
        note=f"{invoice['period']['start'][:10]} to {invoice['period']['end'][:10]}. It is assumed that "
        f"{'; that '.join(invoice['assumed'])}.",
        empty=f"The total cannot be told: {why}." if why else "Nothing.",
    )


def _grants(number: int, wallet: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [each["granted_at"][:10], each["amount"], each["remaining"], (each["expires_at"] or "never")[:16]]
        for each in wallet["grants"]
    ]
    columns = ["granted", "amount", "left", "expires"]
    name = wallet["wallet"]
    return Table(f"grants-{number}", f"Grants of {name}, in {wallet['unit']}", columns, rows, empty="Nothing is left.")


def _movements(number: int, wallet: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [each["at"][:16].replace("T", " "), each["cause"], each["meter"], each["quantity"] or None, each["amount"]]
        for each in wallet["movements"]
    ]
    columns = ["at", "cause", "meter", "quantity", "amount"]
    name = wallet["wallet"]
    return Table(f"movements-{number}", f"Movements of {name}, in {wallet['unit']}", columns, rows, empty="None.")


def _months(statement: Mapping[str, Any]) -> Table:
    names = [meter["meter"] for meter in statement["meters"]]
    rows: list[list[Cell]] = [
        [month["month"], *(month["used"].get(name, 0) for name in names)] for month in statement["months"]
    ]
    return Table("months", "Twelve months", ["month", *names], rows)


def _subscriptions(connection: sa.Connection, sources: Sources, customer: str | None) -> Table:
    table, items = schema.subscriptions, schema.items
    query = (
        sa.select(
            table.c.id, table.c.status, table.c.created, table.c.cancel_at, sa.func.max(items.c.period_end).label("end")
        )
        .join_from(table, items, items.c.subscription == table.c.id, isouter=True)
        .where(table.c.customer == customer)
        .group_by(table.c.id, table.c.status, table.c.created, table.c.cancel_at)
        .order_by(table.c.created.desc())
        .limit(SHOWN)
    )
    rows: list[list[Cell]] = [
        [
            sources.in_stripe("subscriptions", row.id),
            row.status,
            Moment(row.created),
            None if row.end is None else Moment(row.end),
            None if row.cancel_at is None else Moment(row.cancel_at),
        ]
        for row in connection.execute(query)
    ]
    columns = ["subscription", "status", "created", "period ends", "will be canceled"]
    return Table("subscriptions", "Subscriptions", columns, rows, empty="No subscription is known.")


def _invoices(connection: sa.Connection, sources: Sources, company: str, customer: str | None) -> Table:
    table = schema.invoices
    query = sa.select(table).where(table.c.customer == customer).order_by(table.c.created.desc()).limit(INVOICES)
    rows: list[list[Cell]] = []
    for row in connection.execute(query):
        unit = Decimal(1).scaleb(-decimals_of(row.currency))
        rows.append(
            [
                External(row.number or row.id, sources.in_stripe("invoices", row.id).url),
                row.status,
                Moment(row.created),
                Money(row.total * unit, row.currency),
                Money(row.amount_remaining * unit, row.currency),
                None if row.due_at is None else Moment(row.due_at),
                Link("lines", "invoice", {"id": company, "invoice": row.id}),
                External("page of the customer", row.url),
            ]
        )
    columns = ["invoice", "status", "created", "total", "unpaid", "due", "what it bills", "to pay"]
    return Table("invoices", "Invoices", columns, rows, empty="No invoice is known.")


def _blocked(connection: sa.Connection, company: str, now: int) -> Table:
    table = schema.blocked
    number = table.c["count"]
    query = sa.select(table.c.reason, sa.func.sum(number).label("number"), sa.func.max(table.c.day).label("last"))
    query = query.where(table.c.company == company, table.c.day >= now - DAYS * DAY).group_by(table.c.reason)
    rows: list[list[Cell]] = [
        [row.reason, int(row.number), str(Moment(row.last))[:10]] for row in connection.execute(query)
    ]
    return Table("blocked", f"Blocked requests of {DAYS} days", ["reason", "requests", "last"], rows)


def _notices(connection: sa.Connection, company: str) -> Table:
    table = schema.notices
    query = sa.select(table.c.created_at, table.c.kind, table.c.title).where(table.c.company == company)
    query = query.order_by(table.c.created_at.desc()).limit(SHOWN)
    rows: list[list[Cell]] = [[Moment(row.created_at), row.kind, row.title] for row in connection.execute(query)]
    return Table("notices", "Notices", ["at", "kind", "title"], rows, empty="None.")
