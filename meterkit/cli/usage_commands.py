"""What each command does. Each answers whether all is well."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from typing import Any, TypeAlias

from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import instant, print_json, tables_for
from meterkit.errors import LedgerError

Command: TypeAlias = Callable[[argparse.Namespace], bool]


def usage(arguments: argparse.Namespace) -> bool:
    """Show what was used."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()  # so that it does not matter which process came to an end, and how
        found = kit.usage(company=arguments.company, meter=arguments.meter)
    if not found and arguments.meter is not None and arguments.meter not in kit.meters:
        raise CommandError(f"this kit has no meter {arguments.meter!r}, only {', '.join(kit.meters)}")
    rows = [{**asdict(each), "window": instant(each.window)} for each in found]
    totals: dict[str, dict[str, int]] = {}
    for each in found:
        total = totals.setdefault(each.meter, {"quantity": 0, "reported": 0})
        total["quantity"] += each.quantity
        total["reported"] += each.reported
    if tables is None:
        print_json({"usage": rows, "totals": totals})
    else:
        tables.show_usage(rows, totals)
    return True


def flush(arguments: argparse.Namespace) -> bool:
    """Move into the ledger what dead processes have counted."""
    kit = load_kit(arguments.kit)
    with closing(kit):
        kit.flush()
        found = kit.health()
    books = found["books"]
    if books is None:
        raise LedgerError(found["attention"][0])
    counted = sum(of_meter["counted"] for of_meter in books.values())
    journal = sum(of_meter["journal"] for of_meter in books.values())
    if arguments.json:
        print_json({"counted": counted, "ledger": counted - journal, "journal": journal})
    else:
        print(f"{counted - journal:,} of {counted:,} counted are in the ledger.")
        if journal:
            print(f"{journal:,} are in the journals of running processes, which flush every few seconds.")
    return True


def report(arguments: argparse.Namespace) -> bool:
    """Send usage to Stripe."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    waiting: AbstractContextManager[Any] = nullcontext() if tables is None else tables.waiting("Reporting to Stripe")
    with closing(kit), waiting:
        summary = asdict(kit.report(include_open=arguments.open))
    if tables is None:
        print_json(summary)
    else:
        tables.show_report(summary)
    return not any(summary[name] for name in ("rejected", "uncertain", "postponed", "error"))


def health(arguments: argparse.Namespace) -> bool:
    """Show whether all is well."""
    tables = tables_for(arguments)
    kit = load_kit(arguments.kit)
    with closing(kit):
        found = kit.health()
    if tables is None:
        print_json(found)
    else:
        tables.show_health(found)
    return bool(found["ok"])
