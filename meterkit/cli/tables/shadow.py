"""Tables of what was counted beside what another program has billed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from meterkit.cli.tables.usage import add, show, table, text, waiting

__all__ = ["show_compared", "waiting"]

MOST_SHOWN = 200
"""Hours, days or months that are shown; ``--json`` has all."""


def show_compared(rows: list[dict[str, Any]], amounts: Mapping[str, Decimal]) -> None:
    """
    Show both sums of each customer and meter, those first that differ by most money, and where they differ.

    Args:
        rows: Comparisons, as JSON.
        amounts: By how much all invoices together differ, in whole currency, by currency.
    """
    if not rows:
        show("Nothing was counted or billed in that month.")
        return
    names = dict.fromkeys(("company", "customer", "meter"), "left")
    grid = table("", **names, counted="right", billed="right", difference="right", amount="right", equal="left")
    for row in rows:
        billed = row["billed"]
        add(
            grid,
            _companies(row),
            row["customer"] or "",
            row["meter"],
            _figure(row["counted"]),
            "?" if billed is None else _figure(billed),
            "?" if billed is None else _signed(row["counted"] - billed),
            "?" if row["amount"] is None else f"{_signed(row['amount'])} {row['currency']}",
            "yes" if row["agree"] else "NO",
        )
    where = table("Where they differ", **names, start="left", counted="right", billed="right", difference="right")
    every = [(row, each) for row in rows for each in row["differences"]]
    for row, each in every[:MOST_SHOWN]:
        place = (_companies(row), row["customer"] or "", row["meter"], each["start"])
        add(where, *place, _figure(each["counted"]), _figure(each["billed"]), _signed(each["counted"] - each["billed"]))
    notes = [text(f"{row['customer']}, {row['meter']}: {row['error']}") for row in rows if row["error"]]
    if len(every) > MOST_SHOWN:
        notes.append(text(f"and {len(every) - MOST_SHOWN:,} more, see --json or --by day"))
    notes += [
        text(f"Billed by meterkit, all invoices together would come to {_more(amount, currency)}.")
        for currency, amount in amounts.items()
    ]
    show(grid, *([where] if every else []), *notes)


def _companies(row: dict[str, Any]) -> str:
    return ", ".join(row["companies"]) or "(linked to none)"


def _figure(value: Decimal) -> str:
    return f"{value:,f}"


def _signed(value: Decimal) -> str:
    return f"{value:+,f}" if value else "0"


def _more(amount: Decimal, currency: str) -> str:
    if not amount:
        return f"the same in {currency}"
    return f"{abs(amount):,f} {currency} {'more' if amount > 0 else 'less'}"
