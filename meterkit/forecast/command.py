"""The command ``forecast``: its arguments, and what it does with a kit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from meterkit.forecast.forecast import Forecast, as_json

if TYPE_CHECKING:
    from meterkit.kit import MeterKit


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, after the kit."""
    command.add_argument("--company", metavar="ID", help="only this company (default: all with usage in their period)")
    command.add_argument(
        "--reached", action="store_true", help="only companies that reach a limit before its period ends"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")


def forecast(load: Callable[[], MeterKit], arguments: argparse.Namespace, show: Callable[[list[Any]], object]) -> bool:
    """
    Show what companies will have used and owe, and when they reach a limit.

    Args:
        load: Function that imports the kit.
        arguments: Arguments as `add_arguments` describes them.
        show: Prints forecasts, as `as_json` describes them.

    Returns:
        True: what is expected needs no attention yet.

    Raises:
        LedgerError: The ledger failed.
    """
    with closing(load()) as kit:
        kit.flush()  # so that usage of processes that were killed is included
        found: Iterable[Forecast] = kit.forecasts() if arguments.company is None else [kit.forecast(arguments.company)]
        show([as_json(each) for each in found if not arguments.reached or _reaches_any(each)])
    return True


def _reaches_any(found: Forecast) -> bool:
    return any(limit.reached_at is not None for limit in found.limits)
