"""The command ``margin``: its arguments, and what it does with a kit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from meterkit.margin.report import Margin, MarginReport

if TYPE_CHECKING:  # SQLAlchemy is imported by the command alone
    from meterkit.kit import MeterKit


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, after the kit and the month."""
    command.add_argument("--company", metavar="ID", help="only this company")
    command.add_argument(
        "--by", metavar="NAME", help="company, meter, or the name of a dimension (default: company; of one, meter)"
    )
    output = command.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="print CSV instead of tables")
    output.add_argument("--json", action="store_true", help="print JSON instead of tables")


def margin(
    load: Callable[[], MeterKit],
    arguments: argparse.Namespace,
    *,
    tables: ModuleType | None,
    print_json: Callable[[Any], None],
) -> bool:
    """
    Show the margin of a month.

    Args:
        load: Function that imports the kit.
        arguments: Arguments as `add_arguments` describes them, and the month.
        tables: Module that shows tables; None for CSV and JSON.
        print_json: Prints data as JSON.

    Returns:
        False if a company, meter or value loses money, or a cost is not known.

    Raises:
        UsageError: The month or what to show by is wrong.
        ConfigurationError: The kit has no costs, or their file cannot be read.
        LedgerError: The ledger failed.
    """
    with closing(load()) as kit:
        found = kit.margin(month=arguments.month, company=arguments.company, by=arguments.by)
    if arguments.csv:
        from meterkit.margin.page import table_of
        from meterkit.pages.team.tables import as_csv

        sys.stdout.write(as_csv(table_of(found)).decode())
    elif tables is None:
        print_json(as_json(found))
    else:
        tables.show_margin(found)
    return not found.attention


def as_json(found: MarginReport) -> dict[str, Any]:
    """Return *found* as JSON has it, with the margins computed."""
    return {
        "month": found.month,
        "by": found.by,
        "rows": [_row(row) for row in found.rows],
        "totals": [_row(row) for row in found.totals],
        "unknown": [
            {"meter": each.meter, "values": each.values, "quantity": each.quantity, "companies": each.companies}
            for each in found.unknown
        ],
        "attention": found.attention,
        "notes": found.notes,
    }


def _row(row: Margin) -> dict[str, Any]:
    given = {each.name: getattr(row, each.name) for each in fields(row)}
    return {**given, "margin": row.margin, "percent": row.percent}
