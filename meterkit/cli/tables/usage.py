"""Tables for people. This module, and the others that are called so, are the only ones that need rich."""

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

from meterkit.pricing.price import decimals_of

T = TypeVar("T")

NO_END = 10_000
"""The width where no terminal sets one: a file or a pipe gets lines as long as they are."""


def show(*things: RenderableType) -> None:
    """Print *things*, each followed by an empty line."""
    console = Console(width=None if sys.stdout.isatty() else NO_END, highlight=False)
    with console.capture() as capture:
        for thing in things:
            console.print(thing)
            console.print()
    # Our own print, so that a broken pipe is ours to notice.
    print("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()))


def waiting(text: str) -> AbstractContextManager[Any]:
    """A sign of life on a terminal, while something takes its time."""
    return Console(stderr=True).status(f"{text} ...")


def track(things: Iterable[T], total: int) -> Iterable[T]:
    """A progress bar on a terminal, while *things* come."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(things, total=total)


def table(title: str, **columns: str) -> Table:
    """An empty table; *columns* says how each is justified."""
    made = Table(title=title or None, title_justify="left")
    for name, justify in columns.items():
        made.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return made


def add(made: Table, *cells: Any) -> None:
    """Add a row. Nothing in it is taken for markup, whatever a customer is called."""
    made.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in cells))


def money(minor: int, currency: str) -> str:
    """An amount of Stripe's, in whole currency."""
    return f"{Decimal(minor).scaleb(-decimals_of(currency)):,f} {currency}"


def show_usage(rows: list[dict[str, Any]], totals: dict[str, dict[str, int]]) -> None:
    """Usage by meter, company and hour, and what it sums up to."""
    if not rows:
        show("Nothing was used.")
        return
    columns = {"meter": "left", "company": "left", "customer": "left", "hour": "left"}
    made = table("", **columns, quantity="right", reported="right")
    for row in rows:
        company = row["company"] or "(nobody)"
        if row["user"]:
            company += f" / {row['user']}"
        customer = row["customer"] or ("waits for kit.link()" if row["company"] else "")
        add(made, row["meter"], company, customer, row["window"], row["quantity"], row["reported"])
    made.add_section()
    for meter, total in totals.items():
        add(made, meter, "total", "", "", total["quantity"], total["reported"])
    show(made)


def show_report(summary: dict[str, Any]) -> None:
    """What became of the meter events."""
    made = table("Meter events", written="right", sent="right", rejected="right", uncertain="right", postponed="right")
    add(made, *(summary[name] for name in ("sealed", "sent", "rejected", "uncertain", "postponed")))
    show(made, *([Text(summary["error"])] if summary["error"] else []))


def show_health(found: dict[str, Any]) -> None:
    """What needs attention, and where all usage is."""
    headline = "All is well." if found["ok"] else "Something needs attention:"
    parts: list[RenderableType] = [Text("\n".join([headline, *(f"* {each}" for each in found["attention"])]))]
    if found["books"]:
        parts.append(books(found["books"]))
    show(*parts)


def books(of_meters: dict[str, dict[str, Any]]) -> Table:
    """Where each meter's usage is: a column for each meter, which sums up to what was counted."""
    made = table("Where all usage is", place="left", **dict.fromkeys(of_meters, "right"))
    first = next(iter(of_meters.values()))
    for place in first:
        if place == "balanced":
            made.add_section()
            add(made, place, *("yes" if of_meter[place] else "NO" for of_meter in of_meters.values()))
        else:
            add(made, place, *(of_meter[place] for of_meter in of_meters.values()))
        if place == "counted":
            made.add_section()
    return made
