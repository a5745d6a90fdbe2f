"""The first page of the team: what is owed, what was used, who needs attention."""

from __future__ import annotations

from typing import Any

from meterkit.pages.team.kept import Kept, all_within_patience
from meterkit.pages.team.operations import Waiting, notes_of
from meterkit.pages.team.sources import Sources
from meterkit.pages.team.survey import BLOCKED_DAYS, NEAR, SHOWN, Survey
from meterkit.pages.team.tables import Cell, External, Link, Moment, Money, Table, TeamPage
from meterkit.pages.team.usage import by_meter
from meterkit.pricing.price import rounded

DAYS = 30
"""Days of usage that are shown."""

ROWS = 20
"""Rows of each table."""


def overview_page(
    sources: Sources, surveyed: Kept[Survey], waiting: Kept[Waiting], health: Kept[dict[str, Any]]
) -> TeamPage:
    """
    Return the overview.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    usage = by_meter(sources, DAYS)
    answer, waits, well = all_within_patience(surveyed, waiting, health)
    found: Survey | None = answer.value
    figures: list[tuple[str, Cell]] = []
    if well.value is not None:
        text = "all is well" if well.value["ok"] else f"{len(well.value['attention'])} need attention"
        figures.append(("Health", Link(text, "health")))
    if waits.value is not None:
        figures.append(("Waiting for somebody", Link(f"{waits.value.number:,}", "waiting")))
    tables = [usage]
    notes = notes_of(answer)
    if found is not None:
        figures = [*_money(found), *figures]
        tables += _tables(found, with_plans=bool(sources.kit_plans))
        if found.unknown:
            notes.append(f"Without {found.unknown:,} companies whose amount cannot be told.")
        if found.unforeseen:
            notes.append(
                f"For {found.unforeseen:,} companies with less than a week of usage, and others that there is no "
                "forecast for, what is expected is what their usage costs so far."
            )
        notes.append(
            "What usage costs is added up over the billing periods that are running now, without fees, discounts and "
            "tax. What is expected goes on from it at the pace of the last weeks."
        )
    return TeamPage(title="Overview", tables=tables, figures=figures, notes=notes)


def _money(found: Survey) -> list[tuple[str, Cell]]:
    figures: list[tuple[str, Cell]] = []
    for currency, amount in sorted(found.so_far.items()):
        figures.append(("Cost of usage so far", Money(rounded(amount, currency), currency)))
        figures.append(("Expected when the periods end", Money(rounded(found.expected[currency], currency), currency)))
    figures.append(("Companies with usage", Link(f"{found.companies:,}", "companies")))
    overdue = len(found.overdue)
    figures.append(("Overdue companies", Link(f"{overdue:,}", "companies", {"standing": "overdue"})))
    return figures


def _tables(found: Survey, *, with_plans: bool) -> list[Table]:
    overdue = sorted(
        ((company, invoice) for company, invoices in found.overdue.items() for invoice in invoices),
        key=lambda each: (each[1].since, each[0]),
    )
    tables = [
        Table(
            "near",
            "Near a tier, a quota or a cap",
            ["company", "limit", "used"],
            [[_company(each.company), each.limit, each.share] for each in found.near[:ROWS]],
            note=_of(found.near_in_all, f"From {NEAR * 100:.0f}% on."),
        ),
        Table(
            "overdue",
            "Overdue invoices",
            ["company", "invoice", "amount", "overdue since"],
            [
                [
                    _company(company),
                    External(each.number, each.url),
                    Money(each.amount, each.currency),
                    Moment(each.since),
                ]
                for company, each in overdue[:ROWS]
            ],
            note=_of(len(overdue)),
        ),
        Table(
            "blocked",
            f"Blocked requests of {BLOCKED_DAYS} days",
            ["company", "reason", "requests"],
            [
                ["(not identified)" if company is None else _company(company), reason, count]
                for company, reason, count in found.blocked[:ROWS]
            ],
            note=f"The {ROWS} with most of them." if len(found.blocked) > ROWS else "",
        ),
        Table(
            "most",
            "Companies whose usage costs most",
            ["company", "cost so far"],
            [[_company(each.company), Money(each.amount, each.currency)] for each in found.most[:ROWS]],
            note=f"The first {ROWS} of at least {min(len(found.most), SHOWN)}." if len(found.most) > ROWS else "",
        ),
    ]
    if with_plans:
        rows: list[list[Cell]] = [
            [plan or "(no plan)", number, Money(amount, currency)]
            for (plan, currency), (number, amount) in sorted(found.by_plan.items())
        ]
        tables.insert(0, Table("plans", "By plan", ["plan", "companies with usage", "cost so far"], rows))
    return tables


def _company(company: str) -> Link:
    return Link(company, "company", {"id": company})


def _of(number: int, text: str = "") -> str:
    more = f"The first {ROWS} of {number:,}. " if number > ROWS else ""
    return f"{more}{text}".strip()
