"""What waits and why, the notices, and the health of the kit with its books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import sqlalchemy as sa

from meterkit.core.validation import OLDEST_SECONDS
from meterkit.ledger import schema
from meterkit.ledger.books import Books
from meterkit.ledger.schema.quantities import sum_of
from meterkit.notices.notice import Kind
from meterkit.outbox.credits import Credit, credits_due
from meterkit.outbox.late_items import LostItem, lost_items
from meterkit.outbox.late_usage import Late, late_reports
from meterkit.outbox.unbilled import Unbilled, unbilled
from meterkit.pages.team.kept import Answer, Kept
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.tables import Cell, Field, Link, Moment, Money, Table, TeamPage, page_number

PAGE = 50
"""Rows on a page."""

SHOWN = 200
"""Most rows of what waits for a reason."""

LOOKED_AT = 10_000
"""Meter events of a state that are looked at."""

STATES = {
    "pending": "to be sent; the next report tries again",
    "uncertain": "it is not known whether Stripe has it; see meterkit decide",
    "rejected": "Stripe refuses it; mend the cause, then meterkit retry",
}
"""States of meter events that wait, and what they wait for."""


@dataclass
class Waiting:
    """
    What will be on no invoice unless somebody does something about it.

    Attributes:
        unlinked: Oldest unreported window, Unix seconds, of each company without a Stripe customer.
        late: Usage that arrived after its invoice was final, and is billed nowhere.
        credits: What is to be credited.
        lost: Invoice items that will be on no invoice.
        unbilled: Usage that no price bills.
    """

    unlinked: dict[str, int] = field(default_factory=dict)
    late: list[Late] = field(default_factory=list)
    credits: list[Credit] = field(default_factory=list)
    lost: list[LostItem] = field(default_factory=list)
    unbilled: list[Unbilled] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Number of all of them."""
        return sum(len(each) for each in (self.unlinked, self.late, self.credits, self.lost, self.unbilled))


def look_for_waiting(sources: Sources) -> Waiting:
    """
    Look for it. Takes seconds for a hundred thousand companies; for a background thread.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    from meterkit.accounts.accounts import Accounts

    database, now = sources.database(), sources.now
    since = now - OLDEST_SECONDS
    late = [late for late in late_reports(database, "sent", since=since) if not late.free and late.report.quantity > 0]
    return Waiting(
        unlinked=Accounts(database, clock=sources.clock).unlinked(),
        late=late,
        credits=credits_due(database, since=since),
        lost=lost_items(database, now=now),
        unbilled=unbilled(database, now=now, is_free=sources.is_free),
    )


def waiting_page(sources: Sources, waiting: Kept[Waiting], _query: Mapping[str, str]) -> TeamPage:
    """
    Return the page of what waits, and why.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    answer = waiting.get()
    found = answer.value or Waiting()
    with sources.database().snapshot() as connection:
        reports = _reports(connection)
    unlinked = sorted(found.unlinked.items(), key=lambda each: (each[1], each[0]))
    return TeamPage(
        title="Waiting",
        tables=[
            reports,
            Table(
                "unlinked",
                "Companies without a Stripe customer",
                ["company", "usage since", "Stripe takes it until"],
                [[_company(each), Moment(at), Moment(at + OLDEST_SECONDS)] for each, at in unlinked[:SHOWN]],
                note=_of(unlinked, "Use kit.link(company, customer), or meterkit link."),
                empty="Every company with usage has one.",
            ),
            Table(
                "unbilled",
                "Usage that no price bills",
                ["company", "meter", "quantity", "since", "why", "cure"],
                [
                    [_company(each.company), each.meter, each.quantity, Moment(each.since), each.reason, each.cure]
                    for each in found.unbilled[:SHOWN]
                ],
                note=_of(found.unbilled),
            ),
            Table(
                "late",
                "Usage that arrived after its invoice was final",
                ["company", "meter", "quantity", "amount", "invoice"],
                [
                    [
                        _company(each.report.company),
                        each.report.meter,
                        each.report.quantity,
                        Money(each.amount, each.currency),
                        each.number,
                    ]
                    for each in found.late[:SHOWN]
                ],
                note=_of(found.late, "Bill it by hand; late='next_invoice' would bill it with the next invoice."),
            ),
            Table(
                "lost",
                "Invoice items that will be on no invoice",
                ["company", "meter", "quantity", "why"],
                [
                    [_company(each.late.report.company), each.late.report.meter, each.late.report.quantity, each.reason]
                    for each in found.lost[:SHOWN]
                ],
                note=_of(found.lost, "Put it on an invoice in Stripe, or delete it and bill it by hand."),
            ),
            Table(
                "credits",
                "To be credited, unless it has been",
                ["company", "meter", "quantity", "amount", "invoice"],
                [
                    [
                        _company(each.company),
                        each.meter,
                        each.quantity,
                        Money(each.amount, each.currency),
                        each.number,
                    ]
                    for each in found.credits[:SHOWN]
                ],
                note=_of(found.credits, "Usage that was reversed after its invoice was final: write a credit note."),
            ),
        ],
        notes=notes_of(answer),
    )


def notices_page(sources: Sources, query: Mapping[str, str]) -> TeamPage:
    """
    Return a page of the notices, newest first, with a row for each channel.

    Args:
        sources: What it reads.
        query: ``kind``, ``company`` and ``state``; ``page``.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    kinds, states = get_args(Kind), ("waiting", "delivered", "given_up")
    kind = query.get("kind", "") if query.get("kind") in kinds else ""
    state = query.get("state", "") if query.get("state") in states else ""
    company, number = query.get("company", "").strip(), page_number(query)
    notices, deliveries = schema.notices, schema.deliveries
    # The page is cut out of the notices by their index, before the deliveries are looked up.
    chosen = sa.select(notices).order_by(notices.c.created_at.desc(), notices.c.key)
    chosen = chosen.limit(PAGE + 1).offset((number - 1) * PAGE)
    if kind:
        chosen = chosen.where(notices.c.kind == kind)
    if company:
        chosen = chosen.where(notices.c.company == company)
    if state == "delivered":
        chosen = chosen.where(sa.exists().where(deliveries.c.notice == notices.c.key, deliveries.c.state == state))
    elif state:  # few, which their index finds
        chosen = chosen.where(notices.c.key.in_(sa.select(deliveries.c.notice).where(sa.text(f"state = '{state}'"))))
    with sources.database().snapshot() as connection:
        found = connection.execute(chosen).all()
        by_notice: dict[str, list[Any]] = {}
        of_page = sa.select(deliveries).where(deliveries.c.notice.in_([row.key for row in found[:PAGE]]))
        for row in connection.execute(of_page.order_by(deliveries.c.channel)):
            by_notice.setdefault(row.notice, []).append(row)
    rows = [_notice(notice, each) for notice in found[:PAGE] for each in by_notice.get(notice.key, [None])]
    kept = {"kind": kind, "company": company, "state": state, "page": str(number + 1)}
    return TeamPage(
        title="Notices",
        tables=[
            Table(
                "notices",
                "Notices",
                ["at", "kind", "company", "title", "text", "channel", "state", "error"],
                rows,
                empty="There are no such notices.",
            )
        ],
        fields=[
            Field("kind", "Kind", kind, [("", "all"), *((each, each) for each in kinds)]),
            Field("state", "State", state, [("", "all"), *((each, each) for each in states)]),
            Field("company", "Company id", company),
        ],
        following=Link("Next page", "notices", kept) if len(found) > PAGE else None,
    )


def _notice(notice: Any, delivery: Any) -> list[Cell]:
    """Return the row of a notice and its delivery through one channel; None for a notice that nobody is sent."""
    return [
        Moment(notice.created_at),
        notice.kind,
        None if notice.company is None else _company(notice.company),
        notice.title,
        notice.text,
        None if delivery is None else delivery.channel,
        "not sent" if delivery is None else delivery.state,
        "" if delivery is None else delivery.error,
    ]


def health_page(health: Kept[dict[str, Any]], _query: Mapping[str, str]) -> TeamPage:
    """Return the page of the health of the kit, and its books."""
    answer = health.get()
    found = answer.value
    if found is None:
        return TeamPage(title="Health", tables=[], notes=notes_of(answer))
    books = found["books"]
    columns = list(Books.__dataclass_fields__)
    last = found["last_report"]
    figures: list[tuple[str, Cell]] = [
        ("Health", "all is well" if found["ok"] else "needs attention"),
        ("Webhook events received by this process", found["webhook"]["received"]),
        ("Webhook requests refused by this process", found["webhook"]["refused"]),
        ("Last report of this process", "none yet" if last is None else last["error"] or f"{last['sent']} sent"),
        ("Journal", "in memory" if found["journal"]["in_memory"] else found["journal"]["directory"]),
    ]
    return TeamPage(
        title="Health",
        figures=figures,
        attention=found["attention"],
        tables=[
            Table(
                "books",
                "Books",
                ["meter", *columns, "balanced"],
                [
                    [meter, *(of[column] for column in columns), "yes" if of["balanced"] else "NO"]
                    for meter, of in (books or {}).items()
                ],
                note="Where every counted unit is. Counted must be the sum of the others.",
                empty="Nothing was counted yet." if books is not None else "The ledger cannot be read.",
            ),
            Table(
                "problems",
                "Problems of this process",
                ["reason", "count", "latest"],
                [[reason, each["count"], each["message"]] for reason, each in found["problems"].items()],
                empty="None.",
            ),
            Table(
                "unmatched",
                "Successes of this process that no meter matched",
                ["request", "count"],
                [[request, count] for request, count in found["unmatched"].items()],
                empty="None.",
            ),
            Table(
                "stopped",
                "Requests that this process blocked",
                ["reason", "count"],
                [[reason, count] for reason, count in found["stopped"].items()],
                empty="None.",
            ),
        ],
        notes=notes_of(answer),
    )


def notes_of(answer: Answer[Any]) -> list[str]:
    """Return what is to be said about figures that are not new."""
    if answer.value is None:
        return ["This is being added up, which takes a while; reload the page in a moment."]
    return [f"As of {Moment(answer.at)} UTC; newer figures are being added up."] if answer.is_old else []


def _reports(connection: sa.Connection) -> Table:
    """Return the meter events that wait, by state, meter and error."""
    table = schema.reports
    rows: list[list[Cell]] = []
    note = ""
    for state, meaning in STATES.items():
        first = sa.select(table.c.meter, table.c.error, table.c.quantity, table.c.window).where(table.c.state == state)
        some = first.limit(LOOKED_AT).subquery()
        number = sa.func.count().label("number")
        query = (
            sa.select(
                some.c.meter,
                some.c.error,
                number,
                sum_of(some.c.quantity).label("quantity"),
                sa.func.min(some.c.window).label("oldest"),
            )
            .group_by(some.c.meter, some.c.error)
            .order_by(number.desc(), some.c.meter)
            .limit(SHOWN)
        )
        of_state = connection.execute(query).all()
        if sum(row.number for row in of_state) >= LOOKED_AT:
            note = f"Of each state, {LOOKED_AT:,} were looked at; there are more."
        rows += [
            [
                state,
                row.meter,
                row.number,
                int(row.quantity),
                Moment(row.oldest),
                row.error or "no attempt yet",
                meaning,
            ]
            for row in of_state
        ]
    columns = ["state", "meter", "meter events", "quantity", "oldest hour", "error", "what follows"]
    return Table("reports", "Meter events that Stripe does not have", columns, rows, note=note, empty="It has all.")


def _company(company: str) -> Link:
    return Link(company, "company", {"id": company})


def _of(rows: Any, text: str = "") -> str:
    more = f"The first {SHOWN} of {len(rows):,}. " if len(rows) > SHOWN else ""
    return f"{more}{text}".strip()
