"""Tables of what is left of what usage brings in."""

from __future__ import annotations

from decimal import Decimal

from meterkit.cli.tables.usage import add, show, table, text
from meterkit.margin.report import Margin, MarginReport
from meterkit.pricing.price import rounded

MOST_SHOWN = 200
"""Rows that are shown; ``--json`` and ``--csv`` have all."""


def show_margin(found: MarginReport) -> None:
    """Show the margin of each row, the worst first, the totals, and what needs attention."""
    if not found.rows:
        show("Nothing was used in that month.")
        return
    amounts = dict.fromkeys(("revenue", "cost", "margin"), "right")
    columns = {found.by: "left", "currency": "left", **amounts, "margin %": "right", "to be noted": "left"}
    grid = table(found.month, **columns)
    for row in found.rows[:MOST_SHOWN]:
        add(grid, row.name, *_cells(row), row.remark)
    if len(found.rows) > 1:
        grid.add_section()
        for row in found.totals:
            add(grid, "in all", *_cells(row), "")
    more = len(found.rows) - MOST_SHOWN
    hidden = [text(f"and {more:,} more, see --csv or --json")] if more > 0 else []
    attention = [text("\n".join(["Needs attention:", *(f"* {each}" for each in found.attention)]))]
    show(grid, *hidden, *(attention if found.attention else []), text("\n".join(found.notes)))


def _cells(row: Margin) -> list[str]:
    percent = "" if row.percent is None else f"{row.percent}%"
    return [row.currency, *(_money(each, row.currency) for each in (row.revenue, row.cost, row.margin)), percent]


def _money(amount: Decimal | None, currency: str) -> str:
    return "?" if amount is None else f"{rounded(amount, currency):,f}"
