"""Tables of notices and simulations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from meterkit.cli.tables.usage import add, show, table


def show_notices(found: list[dict[str, Any]]) -> None:
    """Show notices, newest first, with one line for each channel."""
    if not found:
        show("No notices yet.")
        return
    grid = table("", **dict.fromkeys(("created", "kind", "company", "notice", "channel", "state", "error"), "left"))
    for each in found:
        notice = each["notice"]
        add(
            grid,
            notice["created_at"],
            notice["kind"],
            notice["company"] or "",
            notice["title"],
            each["channel"],
            each["state"],
            each["error"],
        )
    show(grid)


def show_simulated(rows: list[dict[str, Any]]) -> None:
    """Show both amounts of each company, and the totals by currency."""
    if not rows:
        show("No usage in that month.")
        return
    grid = table("", company="left", used="left", currency="left", old="right", new="right", change="right")
    for row in rows:
        used = ", ".join(f"{quantity:,} {meter}" for meter, quantity in sorted(row["used"].items()))
        add(grid, row["company"], used, row["currency"], *map(_amount, (row["old"], row["new"], row["change"])))
    for currency in sorted({row["currency"] for row in rows}):
        known = [row for row in rows if row["currency"] == currency and row["old"] is not None]
        sums = [sum((row[name] for row in known), Decimal(0)) for name in ("old", "new", "change")]
        add(grid, "total, if both are known", "", currency, *map(_amount, sums))
    show(grid)


def _amount(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:,f}"
