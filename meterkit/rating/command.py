"""The command ``rerate``: its arguments, and what it does with a kit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.errors import ConfigurationError
from meterkit.pricing.price import EXACT

if TYPE_CHECKING:
    from meterkit.kit import MeterKit
    from meterkit.rating.rerate import Rerated

SHOWN = 40
"""Lines that are shown without ``--json``."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, after kit and month."""
    what = command.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="only show what would change (default)")
    what.add_argument("--apply", action="store_true", help="bill the difference; once, however often it is called")
    what.add_argument("--undo", action="store_true", help="take back the latest --apply of the month")
    command.add_argument(
        "--table",
        action="append",
        default=[],
        type=_table,
        metavar="METER=FILE",
        help="price table to use for a meter, instead of the kit's; can be repeated",
    )


def rerate(load: Callable[[], MeterKit], arguments: argparse.Namespace, says: Callable[[str], object]) -> bool:
    """
    Show what a month costs at the prices that hold now, and bill the difference.

    Args:
        load: Function that imports the kit.
        arguments: Arguments as `add_arguments` describes them.
        says: Prints a line.

    Returns:
        True.

    Raises:
        ConfigurationError: The arguments are wrong.
        UsageError: The month is wrong, or there is nothing to undo.
        LedgerError: The ledger failed; repeat the command.
    """
    if arguments.undo and arguments.table:
        raise ConfigurationError("--undo takes back what was done, at whatever prices: leave out --table")
    about: dict[str, Any] = {"month": arguments.month, "tables": dict(arguments.table)}
    with closing(load()) as kit:
        if arguments.undo:
            found = kit.undo_rerate(month=arguments.month, by=arguments.by)
        else:
            found = kit.rerate(**about, apply=arguments.apply, by=arguments.by)
    if arguments.json:
        rows = [{**asdict(each), "change": each.change} for each in found]
        says(json.dumps({"rerated": rows, "applied": arguments.apply or arguments.undo}, indent=2, default=_text))
        return True
    for each in found[:SHOWN]:
        says(_line(each))
    if len(found) > SHOWN:
        says(f"... and {len(found) - SHOWN:,} more; --json shows all")
    for currency, change in sorted(_sums(found).items()):
        says(f"Difference: {change:+f} {currency}")
    if not found:
        says("Nothing has another price now.")
    elif arguments.undo:
        says("Taken back. The next report tells Stripe.")
    elif arguments.apply:
        says("Applied. The next report tells Stripe; meterkit rerate --undo takes it back.")
    else:
        says("Nothing was changed. To bill the difference: --apply")
    return True


def _line(each: Rerated) -> str:
    values = " ".join(f"{name}={value or 'unknown'}" for name, value in each.values.items())
    old = "no price" if each.old is None else f"{_plain(each.old):f}"
    new = "no price" if each.new is None else f"{_plain(each.new):f}"
    company = each.company or "(no company)"
    return (
        f"{company}  {each.meter} {values}  {each.quantity:,} units  {old} -> {new} {each.currency}  "
        f"({_plain(each.change):+f})"
    )


def _sums(found: Iterable[Rerated]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for each in found:
        sums[each.currency] = EXACT.add(sums.get(each.currency, Decimal(0)), each.change)
    return {currency: _plain(change) for currency, change in sums.items()}


def _plain(amount: Decimal) -> Decimal:
    """Return *amount* without zeros after the cents."""
    shortest = amount.quantize(Decimal("0.01"), context=EXACT)
    return shortest if shortest == amount else amount.normalize(EXACT)


def _text(value: Any) -> str:
    return f"{value:f}"


def _table(text: str) -> tuple[str, str]:
    meter, sign, path = text.partition("=")
    if not (meter and sign and path):
        raise argparse.ArgumentTypeError(f"must be a meter and a file, such as tokens=prices.csv, not {text!r:.60}")
    return meter, path
