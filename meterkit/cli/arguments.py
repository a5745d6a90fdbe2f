"""What the commands' parsers have in common."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from typing import TypeAlias

from meterkit.kit import MeterKit

Command: TypeAlias = Callable[[argparse.Namespace], bool]
"""Runs a command; returns False if something needs attention."""

FindKit: TypeAlias = Callable[[], MeterKit]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name


def add_command(commands: Commands, name: str, run: Command, summary: str) -> argparse.ArgumentParser:
    """
    Add a command.

    Args:
        commands: The subparsers of the root parser.
        name: Name of the command, such as ``usage``.
        run: Function that runs the command.
        summary: Help text, in lower case and without a full stop.

    Returns:
        The parser of the command, without arguments.
    """
    command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.set_defaults(run=run)
    return command


class ProjectParser(argparse.ArgumentParser):
    """
    Parser of a command that is run inside of a project, which has one kit.

    Attributes:
        find_kit: Function that returns the kit.
    """

    find_kit: FindKit


def add_kit(command: argparse.ArgumentParser) -> None:
    """Add the import path of the kit, unless the project has one."""
    if isinstance(command, ProjectParser):
        command.set_defaults(kit=command.find_kit)
        return
    command.add_argument("kit", metavar="module:attribute", help="import path of the kit, such as billing:kit")


def add_company_and_meter(command: argparse.ArgumentParser) -> None:
    """Add a company and a meter, both required."""
    command.add_argument("company", metavar="COMPANY", help="company id, as the application knows it")
    command.add_argument("meter", metavar="METER", help="name of the meter")


def add_month(command: argparse.ArgumentParser) -> None:
    """Add ``--month``."""
    command.add_argument("--month", metavar="YYYY-MM", help="calendar month in UTC (default: this month)")


def add_limit(command: argparse.ArgumentParser) -> None:
    """Add ``--limit``."""
    command.add_argument(
        "--limit", type=_count, default=100, metavar="N", help="show at most N, newest first (default: 100)"
    )


def add_by(command: argparse.ArgumentParser) -> None:
    """Add ``--by``."""
    command.add_argument(
        "--by",
        default=_login_name(),
        metavar="NAME",
        help="who does this; kept in the ledger (default: the login name)",
    )


def _login_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, a user id may have no name
        return None


def _count(text: str) -> int:
    """Parse a number of rows."""
    if not text.isascii() or not text.isdigit() or not 0 < len(text) <= _DIGITS:
        raise argparse.ArgumentTypeError(f"must be a whole number of at most {_DIGITS} digits, not {text!r:.40}")
    return int(text)


_DIGITS = 9  # a database takes no numbers of any length


def add_json(command: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
