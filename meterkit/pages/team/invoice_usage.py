"""From an invoice to its lines, from a line to the meter events of each hour, and from an hour to its users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from meterkit.accounts.billing_periods import Periods
from meterkit.core.periods import Period
from meterkit.core.windows import HOUR
from meterkit.ledger import schema
from meterkit.ledger.dimensions.reading import by_windows
from meterkit.ledger.payers import payer_of
from meterkit.ledger.schema.due import due
from meterkit.ledger.schema.quantities import subtracted, sum_of
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import Cell, Link, Moment, Money, Table, TeamPage, page_number
from meterkit.pricing.price import decimals_of

PAGE = 500
"""Meter events or users on a page."""

LONGEST_SECOND = 10
"""Most digits of a Unix second: until the year 2286."""


def invoice_page(sources: Sources, query: Mapping[str, str]) -> TeamPage | None:
    """
    Return the page of an invoice's lines; None if the company has no such invoice.

    Args:
        sources: What it reads.
        query: ``id``, the company id, and ``invoice``, the id of the invoice.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    company, identity = query.get("id", ""), query.get("invoice", "")
    with sources.database().snapshot() as connection:
        invoice = _invoice(connection, company, identity)
        if invoice is None:
            return None
        lines = json.loads(invoice.lines)
        event_names = _event_names(connection, lines)
    unit = Decimal(1).scaleb(-decimals_of(invoice.currency))
    names = {meter.event_name: name for name, meter in sources.meters.items()}
    rows: list[list[Cell]] = []
    for number, line in enumerate(lines):
        event_name = event_names.get(line["item"] or "")
        what: Cell = "fee" if line["report"] is None else f"late usage, {line['report']}"
        if event_name is not None and line["report"] is None:
            query_ = {"id": company, "invoice": identity, "line": str(number)}
            what = Link(names.get(event_name, event_name), "hours", query_)
        rows.append(
            [
                what,
                line["quantity"],
                Money((line["amount"] or 0) * unit, invoice.currency),
                Moment(line["start"]),
                Moment(line["end"]),
                line["price"],
            ]
        )
    return TeamPage(
        title=f"Invoice {invoice.number or invoice.id}",
        about=company,
        figures=[
            ("Invoice", sources.in_stripe("invoices", invoice.id)),
            ("Company", Link(company, "company", {"id": company})),
            ("Status", invoice.status),
            ("Total", Money(invoice.total * unit, invoice.currency)),
            ("Billing period", f"{Moment(invoice.period_start)} to {Moment(invoice.period_end)}"),
        ],
        tables=[
            Table(
                "lines",
                "Lines",
                ["for", "quantity", "amount", "from", "until", "price"],
                rows,
                note="Amounts are before discounts. A line of a meter leads to the meter events of its hours.",
                empty="The lines of this invoice are not known: run meterkit sync.",
            )
        ],
    )


def hours_page(sources: Sources, query: Mapping[str, str]) -> TeamPage | None:
    """
    Return the page of the hours behind an invoice line, or of those that are on no invoice yet.

    Args:
        sources: What it reads.
        query: ``id``, the company id; ``invoice`` and the number of its ``line``, from 0; ``page``.

    Returns:
        None if there is no such line.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    company = query.get("id", "")
    number = page_number(query)
    with sources.database().snapshot() as connection:
        customer = payer_of(connection, company)
        if query.get("invoice"):
            found = _line(connection, company, query)
            if found is None:
                return None
            event_name, span, billed, title = found
            names, only = [event_name], None
            unreported: list[list[Cell]] = []
        else:
            title, billed, only = "Not on an invoice yet", None, company
            names = _billed_names(connection, sources, customer)
            span = _running(connection, sources, company)
            unreported = _unreported(connection, company, span)
        events, sum_ = _events(connection, customer, names, span, only=only, skipped=(number - 1) * PAGE)
    has_more = len(events) > PAGE
    tables = [
        Table(
            "hours",
            "Meter events",
            ["hour", "company", "meter", "quantity", "state", "meter event", "error"],
            events[:PAGE],
            note="An hour leads to its users. Times are in UTC.",
            empty="There are no meter events in this time.",
        )
    ]
    if not query.get("invoice"):
        columns = ["hour", "meter", "not reported yet"]
        tables.append(Table("unreported", "In no meter event yet", columns, unreported))
    kept = {name: query[name] for name in ("id", "invoice", "line") if name in query}
    return TeamPage(
        title=title,
        about=company,
        figures=[
            ("Company", Link(company, "company", {"id": company})),
            *(
                [("Invoice", Link(query["invoice"], "invoice", {"id": company, "invoice": query["invoice"]}))]
                if query.get("invoice")
                else []
            ),
            ("Time", f"{Moment(span.start)} to {Moment(span.end)}"),
            ("Sum of the meter events", sum_),
            *([("Quantity of the line", billed)] if billed is not None else []),
        ],
        tables=tables,
        following=Link("Next page", "hours", {**kept, "page": str(number + 1)}) if has_more else None,
    )


def hour_page(sources: Sources, query: Mapping[str, str]) -> TeamPage | None:
    """
    Return the page of the users of one company and meter in one hour; None if there is no such hour.

    Args:
        sources: What it reads.
        query: ``id``, the company id; ``meter``; and ``window``, the Unix second at which the hour begins.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    company, meter, text = query.get("id", ""), query.get("meter", ""), query.get("window", "")
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_SECOND):
        return None
    table = schema.usage
    rows_of = sa.select(table.c.user, table.c.quantity, table.c.reported, table.c.last_used)
    rows_of = rows_of.where(table.c.company == company, table.c.window == int(text), table.c.meter == meter)
    with sources.database().snapshot() as connection:
        found = connection.execute(rows_of.order_by(table.c.user).limit(PAGE)).all()
        values = _values(connection, sources, company, meter, int(text))
    rows: list[list[Cell]] = [
        [row.user or "(not identified)", row.quantity, row.reported, Moment(row.last_used)] for row in found
    ]
    note = f"The first {PAGE} users." if len(rows) == PAGE else ""
    return TeamPage(
        title=f"{meter} from {Moment(int(text))}",
        about=company,
        figures=[("Company", Link(company, "company", {"id": company}))],
        tables=[
            Table(
                "users",
                "By user",
                ["user", "quantity", "in meter events", "last used"],
                rows,
                note=note,
                empty="There is no such usage, or it was deleted because of keep_days=.",
            ),
            *values,
        ],
    )


def _values(connection: sa.Connection, sources: Sources, company: str, meter: str, window: int) -> list[Table]:
    """Return the table of the usage of one window by the values of the meter's dimensions; none if it has none."""
    names = sources.meters[meter].dimensions if meter in sources.meters else ()
    if not names:
        return []
    parts = by_windows(connection, names, since=window, until=window + 1, company=company, meter=meter)
    rows: list[list[Cell]] = [
        [*(value or "unknown" for value in part.values.values()), part.quantity] for part in parts[:PAGE]
    ]
    note = f"The first {PAGE} of {len(parts):,}." if len(parts) > PAGE else ""
    return [Table("values", f"By {' and '.join(names)}", [*names, "quantity"], rows, note=note)]


def _invoice(connection: sa.Connection, company: str, identity: str) -> Any:
    """Return the row of an invoice of the company's customer; None if there is none."""
    customer = payer_of(connection, company)
    if customer is None:
        return None
    return connection.execute(sa.select(schema.invoices).filter_by(id=identity, customer=customer)).one_or_none()


def _event_names(connection: sa.Connection, lines: list[dict[str, Any]]) -> dict[str, str]:
    """Return the event name of each subscription item that the lines bill, if it has one."""
    ids = {line["item"] for line in lines if line["item"]}
    found: dict[str, str] = {}
    for table in (schema.former_items, schema.items):
        query = sa.select(table.c.id, table.c.event_name).where(table.c.id.in_(ids), table.c.event_name.is_not(None))
        found |= {row.id: row.event_name for row in connection.execute(query)}
    return found


def _line(
    connection: sa.Connection, company: str, query: Mapping[str, str]
) -> tuple[str, Period, int | None, str] | None:
    """Return event name, time, quantity and title of an invoice line."""
    invoice = _invoice(connection, company, query.get("invoice", ""))
    number = query.get("line", "")
    lines = [] if invoice is None else json.loads(invoice.lines)
    if not (number.isascii() and number.isdigit() and len(number) < 6) or int(number) >= len(lines):
        return None
    line = lines[int(number)]
    event_name = _event_names(connection, [line]).get(line["item"] or "")
    if event_name is None:
        return None
    start, end = max(line["start"], invoice.period_start), min(line["end"], invoice.period_end)
    span = Period(start, end) if start < end else Period(invoice.period_start, invoice.period_end)
    return event_name, span, line["quantity"], f"Invoice {invoice.number or invoice.id}, {event_name}"


def _running(connection: sa.Connection, sources: Sources, company: str) -> Period:
    periods = Periods({name: meter.event_name for name, meter in sources.meters.items()})
    periods.refresh(connection, sources.now, only=company)
    return periods.of(company, sources.now)


def _events(
    connection: sa.Connection, customer: str | None, names: list[str], span: Period, *, only: str | None, skipped: int
) -> tuple[list[list[Cell]], int]:
    """Return the meter events of a time, and the sum of all of them that Stripe has or will get."""
    table = schema.reports
    place = sa.and_(
        table.c.customer == customer,
        table.c.event_name.in_(names),
        table.c.window > span.start - HOUR,
        table.c.window < span.end,
        table.c.timestamp >= span.start,
        table.c.timestamp < span.end,
    )
    if only is not None:
        place = sa.and_(place, table.c.company == only)
    query = sa.select(table).where(place).order_by(table.c.window, table.c.id).offset(skipped).limit(PAGE + 1)
    counted = sa.select(sum_of(table.c.quantity)).where(place, table.c.state.not_in(["returned", "canceled"]))
    rows: list[list[Cell]] = [
        [
            Link(str(Moment(row.window)), "hour", {"id": row.company, "meter": row.meter, "window": str(row.window)}),
            row.company,
            row.meter,
            row.quantity,
            row.state,
            row.identifier,
            row.error,
        ]
        for row in connection.execute(query)
    ]
    return rows, int(connection.scalar(counted) or 0)


def _billed_names(connection: sa.Connection, sources: Sources, customer: str | None) -> list[str]:
    """Return the event names of the kit's meters, and of those that the customer's prices are or were of."""
    found = {meter.event_name for meter in sources.meters.values()}
    for table in (schema.former_items, schema.items):
        found |= {
            each for each in connection.scalars(sa.select(table.c.event_name).filter_by(customer=customer)) if each
        }
    return sorted(found)


def _unreported(connection: sa.Connection, company: str, span: Period) -> list[list[Cell]]:
    table = schema.usage
    query = (
        sa.select(table.c.window, table.c.meter, sum_of(subtracted(table.c.quantity, table.c.reported)).label("open"))
        .where(table.c.company == company, table.c.window > span.start - HOUR, table.c.window < span.end)
        .where(due(table))
        .group_by(table.c.window, table.c.meter)
        .order_by(table.c.window, table.c.meter)
        .limit(PAGE)
    )
    return [
        [
            Link(str(Moment(row.window)), "hour", {"id": company, "meter": row.meter, "window": str(row.window)}),
            row.meter,
            int(row.open),
        ]
        for row in connection.execute(query)
    ]
