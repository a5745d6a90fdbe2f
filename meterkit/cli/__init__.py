"""
The command line, ``meterkit usage billing:kit``.

Exit codes: 0 all is well · 1 something needs attention, and the output says what · 2 the command or the configuration
is wrong · 130 interrupted. An error is one line on stderr that says how to fix it.

Each ``*_commands`` module defines a group of commands and their arguments, in `add_parsers`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from meterkit.cli import (
    account_commands,
    audit_commands,
    dashboard_command,
    notice_commands,
    provisioning_commands,
    run_command,
    trial_commands,
    usage_commands,
)
from meterkit.cli.arguments import Commands
from meterkit.cli.kit_loader import CommandError
from meterkit.cli.output import printable
from meterkit.errors import ConfigurationError, MeterKitError, UsageError
from meterkit.flusher import role

OK = 0
ATTENTION = 1
WRONG = 2
INTERRUPTED = 130  # 128 + SIGINT, the convention of shells
BROKEN_PIPE = 141  # 128 + SIGPIPE

EXIT_CODES = "0 all is well, 1 something needs attention, 2 the command or the configuration is wrong, 130 interrupted."

WRONG_ARGUMENTS = (
    "meter_unknown",
    "month_wrong",
    "quantity_not_positive",
    "offer_wrong",
    "move_wrong",
    "webhook_wrong",
    "interval_wrong",
    "dimension_unknown",
    "dimension_invalid",
    "wallet_unknown",
    "amount_float",
    "amount_wrong",
    "amount_negative",
    "amount_zero",
    "amount_too_fine",
    "amount_too_large",
    "priority_wrong",
    "currency_wrong",
)
"""Reasons of a `UsageError` that are mistakes in the command itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Arguments of the command; by default those of the process.

    Returns:
        Exit code.
    """
    role.is_command = True  # what is counted meanwhile starts no flusher beside the command
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a customer's name must not abort a table

    def run() -> bool:
        arguments = parser().parse_args(argv)
        return bool(arguments.run(arguments))

    try:
        return exit_code(run)
    except MeterKitError as error:
        print(printable(f"meterkit: {one_line(error)}"), file=sys.stderr)
        return exit_code_of(error)


def exit_code(run: Callable[[], bool]) -> int:
    """
    Run a command, and return its exit code.

    Args:
        run: Function that runs the command; returns False if something needs attention.

    Raises:
        MeterKitError: The command failed; see `exit_code_of`.
    """
    try:
        try:
            well = run()
        finally:
            sys.stdout.flush()  # after --help and --version, too: a broken pipe raises here
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. What is still buffered must not raise again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return OK if well else ATTENTION


def exit_code_of(error: MeterKitError) -> int:
    """Return the exit code of a command that has failed with *error*."""
    is_wrong = isinstance(error, CommandError | ConfigurationError)
    return WRONG if is_wrong or (isinstance(error, UsageError) and error.reason in WRONG_ARGUMENTS) else ATTENTION


def one_line(error: Exception) -> str:
    """Return the message of *error* without line breaks."""
    return " ".join(str(error).split())


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="meterkit", description="Usage-based billing for Python web APIs.", epilog="Exit codes: " + EXIT_CODES
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version")
    add_commands(root.add_subparsers(metavar="command", required=True))
    return root


def add_commands(commands: Commands) -> None:
    """Add all commands to a parser, in the order of ``meterkit --help``."""
    for group in (
        trial_commands,
        provisioning_commands,
        usage_commands,
        account_commands,
        audit_commands,
        notice_commands,
        run_command,
        dashboard_command,
    ):
        group.add_parsers(commands)


class _Version(argparse.Action):
    """Looks up the version only when it is requested."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import meterkit

        print(f"meterkit {meterkit.__version__}")
        parser.exit()
