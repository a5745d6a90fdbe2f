"""Faces: tables of what was compared and explained, for people."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from meterkit.cli.tables import add, show, table, waiting

__all__ = ["show_reconciled", "waiting"]


def show_reconciled(rows: list[dict[str, Any]]) -> None:
    """Each customer and meter on both sides, and the hours in which they differ."""
    if not rows:
        show("Nothing was reported for that time.")
        return
    columns = dict.fromkeys(("company", "customer", "meter"), "left")
    made = table("", **columns, ledger="right", Stripe="right", waiting="right", rejected="right", agree="left")
    for row in rows:
        add(
            made,
            ", ".join(row["companies"]),
            row["customer"],
            row["meter"],
            _figure(row["ledger"]),
            "?" if row["stripe"] is None else _figure(row["stripe"]),
            _figure(row["waiting"]),
            _figure(row["rejected"]),
            "yes" if row["agree"] else "NO",
        )
    hours = table("Where they differ", customer="left", meter="left", hour="left", ledger="right", Stripe="right")
    for row in rows:
        for hour in row["hours"]:
            add(hours, row["customer"], row["meter"], hour["hour"], _figure(hour["ledger"]), _figure(hour["stripe"]))
    errors = [Text(f"{row['customer']}, {row['meter']}: {row['error']}") for row in rows if row["error"]]
    show(made, *([hours] if hours.row_count else []), *errors)


def _figure(value: Any) -> str:
    return f"{value:,f}"
