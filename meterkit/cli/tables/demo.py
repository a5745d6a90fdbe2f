"""The progress of the demo, and its invoices and books as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from meterkit.cli.tables.usage import add, books, show, table
from meterkit.demo import Month
from meterkit.demo.expectations import differences
from meterkit.demo.stripe_account import Invoice

T = TypeVar("T")


class TerminalNarrator:
    """Prints what happens to stdout, with a progress bar if that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def say(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        self._console.print(Text(text), soft_wrap=True)

    def track(self, things: Iterable[T], total: int) -> Iterable[T]:
        """Yield *things*, and show a progress bar meanwhile."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            yield from progress.track(things, total=total, description="requests")


def show_month(month: Month) -> None:
    """Show the requests, both invoices line by line, the books, and whether every figure is as expected."""
    print()
    show(
        _requests(month),
        *(_invoice(company, invoice) for company, invoice in month.invoices.items()),
        books({month.meter: month.books}),
        _conclusion(month),
    )


def _requests(month: Month) -> Table:
    grid = table("Requests, as the clients saw them", company="left", outcome="left", number="right")
    for (company, outcome), number in month.requests.items():
        add(grid, company or "(nobody)", outcome, number)
    return grid


def _invoice(company: str, invoice: Invoice) -> Table:
    grid = table(
        f"Invoice {invoice.number} to {company}, {invoice.status}", line="left", quantity="right", amount="right"
    )
    for line in invoice.lines:
        add(grid, line.description, line.quantity, f"${line.amount:,}")
    grid.add_section()
    add(grid, "total", "", f"${invoice.total:,}")
    return grid


def _conclusion(month: Month) -> Text:
    wrong = differences(month)
    if not wrong:
        return Text("Every figure is as expected: nothing was lost, and nothing was billed twice.")
    return Text("\n".join(["These figures are wrong:", *(f"* {each}" for each in wrong)]))
