"""Tables of notices, and of amounts by other prices, for people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from meterkit.cli.tables.usage import add, show, table


def show_notices(found: list[dict[str, Any]]) -> None:
    """The newest first, one line for each channel."""
    if not found:
        show("Nothing was told yet.")
        return
    made = table("", **dict.fromkeys(("created", "kind", "company", "notice", "channel", "state", "error"), "left"))
    for each in found:
        notice = each["notice"]
        add(
            made,
            notice["created_at"],
            notice["kind"],
            notice["company"] or "",
            notice["title"],
            each["channel"],
            each["state"],
            each["error"],
        )
    show(made)


def show_simulated(rows: list[dict[str, Any]]) -> None:
    """Both amounts side by side, and the sums by currency."""
    if not rows:
        show("Nothing was used in that month.")
        return
    made = table("", company="left", used="left", currency="left", old="right", new="right", change="right")
    for row in rows:
        used = ", ".join(f"{quantity:,} {meter}" for meter, quantity in sorted(row["used"].items()))
        add(made, row["company"], used, row["currency"], *map(_amount, (row["old"], row["new"], row["change"])))
    for currency in sorted({row["currency"] for row in rows}):
        known = [row for row in rows if row["currency"] == currency and row["old"] is not None]
        sums = [sum((row[name] for row in known), Decimal(0)) for name in ("old", "new", "change")]
        add(made, "all that have both", "", currency, *map(_amount, sums))
    show(made)


def _amount(amount: Decimal | None) -> str:
    return "?" if amount is None else f"{amount:,f}"
