"""Tables of usage, reports and books, and the helpers of all tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from meterkit.cli.output import printable
from meterkit.pricing.price import decimals_of

T = TypeVar("T")

UNLIMITED = 10_000
"""Width in columns if stdout is a file or a pipe, so that no line is wrapped."""

UNLINKED = "unlinked: call kit.link()"
"""Shown instead of the Stripe customer of a company that is not linked to one."""


def show(*things: RenderableType) -> None:
    """Print *things*, each followed by an empty line."""
    console = Console(width=None if sys.stdout.isatty() else UNLIMITED, highlight=False)
    with console.capture() as capture:
        for thing in things:
            console.print(thing)
            console.print()
    # Printed here, not by rich, so that a broken pipe raises in `main`.
    print("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()))


def waiting(text: str) -> AbstractContextManager[Any]:
    """Return a context manager that shows *text* and a spinner on a terminal."""
    return Console(stderr=True).status(f"{text} ...")


def track(things: Iterable[T], total: int) -> Iterable[T]:
    """Yield *things*, and show a progress bar on a terminal meanwhile."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(things, total=total)


def text(content: str) -> Text:
    """Return *content* to be shown as it is: without markup and control characters, whatever a customer's name is."""
    return Text(printable(content))


def table(title: str, **columns: str) -> Table:
    """Return an empty table; *columns* maps each name to its alignment, ``left`` or ``right``."""
    grid = Table(title=printable(title) or None, title_justify="left")
    for name, justify in columns.items():
        grid.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return grid


def add(grid: Table, *cells: Any) -> None:
    """Add a row. Cells are never parsed as markup, whatever a customer's name contains."""
    grid.add_row(*(text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in cells))


def money(minor: int, currency: str) -> str:
    """Return an amount in minor units as text in whole currency."""
    return f"{Decimal(minor).scaleb(-decimals_of(currency)):,f} {currency}"


def show_usage(rows: list[dict[str, Any]], totals: dict[str, dict[str, int]]) -> None:
    """Show usage by meter, company and hour, and the total of each meter."""
    if not rows:
        show("No usage.")
        return
    columns = {"meter": "left", "company": "left", "customer": "left", "hour": "left"}
    grid = table("", **columns, quantity="right", reported="right")
    for row in rows:
        company = row["company"] or "(nobody)"
        if row["user"]:
            company += f" / {row['user']}"
        customer = row["customer"] or (UNLINKED if row["company"] else "")
        add(grid, row["meter"], company, customer, row["window"], row["quantity"], row["reported"])
    grid.add_section()
    for meter, total in totals.items():
        add(grid, meter, "total", "", "", total["quantity"], total["reported"])
    show(grid)


def show_usage_by(names: list[str], rows: list[dict[str, Any]], totals: list[tuple[tuple[str, ...], int]]) -> None:
    """Show usage by meter, company, hour and the values of dimensions, and the total of each combination."""
    if not rows:
        show("No usage.")
        return
    grid = table("", meter="left", company="left", **dict.fromkeys(names, "left"), hour="left", quantity="right")
    for row in rows:
        values = [value or "(unknown)" for value in row["values"].values()]
        add(grid, row["meter"], row["company"] or "(nobody)", *values, row["window"], row["quantity"])
    grid.add_section()
    for (meter, *told), quantity in totals:
        add(grid, meter, "total", *(value or "(unknown)" for value in told), "", quantity)
    show(grid)


def show_report(summary: dict[str, Any]) -> None:
    """Show how many meter events have which outcome."""
    grid = table("Meter events", written="right", sent="right", rejected="right", uncertain="right", postponed="right")
    add(grid, *(summary[name] for name in ("sealed", "sent", "rejected", "uncertain", "postponed")))
    show(grid, *([text(summary["error"])] if summary["error"] else []))


def show_health(found: dict[str, Any]) -> None:
    """Show what needs attention, the books, and the successes that no meter matched."""
    headline = "All is well." if found["ok"] else "Something needs attention:"
    parts: list[RenderableType] = [text("\n".join([headline, *(f"* {each}" for each in found["attention"])]))]
    if found["free"]:
        parts.append(text("\n".join(["Free:", *(f"* {each}" for each in found["free"])])))
    if found["books"]:
        parts.append(books(found["books"]))
    if found["unmatched"]:
        grid = table("", **{"success that no meter matched": "left", "count": "right"})
        for name, count in found["unmatched"].items():
            add(grid, name, count)
        parts.append(grid)
    show(*parts)


def books(of_meters: dict[str, dict[str, Any]]) -> Table:
    """Return the books as a table, with a column for each meter that adds up to what was counted."""
    grid = table("Where all usage is", place="left", **dict.fromkeys(of_meters, "right"))
    first = next(iter(of_meters.values()))
    for place in first:
        if place == "balanced":
            grid.add_section()
            add(grid, place, *("yes" if of_meter[place] else "NO" for of_meter in of_meters.values()))
        else:
            add(grid, place, *(of_meter[place] for of_meter in of_meters.values()))
        if place == "counted":
            grid.add_section()
    return grid
