"""``manage.py meterkit usage``: the command line of meterkit, with the kit of the project."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from meterkit import cli
from meterkit.cli.arguments import ProjectParser
from meterkit.django.configuration import kit_of_settings
from meterkit.errors import ConfigurationError, MeterKitError
from meterkit.kit import MeterKit


class Command(BaseCommand):
    """
    Runs a command of meterkit with the kit that ``METERKIT`` names.

    No system checks come before it: on a bad day, it is what tells more.
    """

    help = "Usage-based billing: show usage and health, report to Stripe, provision prices, and more."
    requires_system_checks: Any = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the commands, each with Django's own options."""
        parser.epilog = f"Exit codes: {cli.EXIT_CODES}"
        cli.add_commands(parser.add_subparsers(metavar="command", required=True, parser_class=_CommandParser))

    def handle(self, *_: object, **options: Any) -> None:
        """
        Run a command.

        Raises:
            CommandError: It failed, or something needs attention; with the exit code that ``meterkit`` has for it.
        """
        with ExitStack() as stack:
            if options.get("no_color") and "NO_COLOR" not in os.environ:
                os.environ.update(NO_COLOR="1")  # which rich asks for
                stack.callback(os.environ.pop, "NO_COLOR")
            out: Any = getattr(self.stdout, "_out", self.stdout)  # Django's wrapper would add line breaks
            if options.get("verbosity") == 0:
                out = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(out))
            try:
                code = cli.exit_code(lambda: options["run"](argparse.Namespace(**options)))
            except MeterKitError as error:
                raise CommandError(cli.one_line(error), returncode=cli.exit_code_of(error)) from error
        if code:
            raise CommandError("something needs attention; the output says what", returncode=code)


class _CommandParser(ProjectParser, CommandParser):
    """Parser of one command; Django's options may also follow its name, as they do elsewhere in Django."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "formatter_class": DjangoHelpFormatter})
        self.find_kit = _kit
        for name in ("--settings", "--pythonpath"):  # which manage.py has taken already
            self.add_argument(name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        for name in ("--traceback", "--no-color", "--force-color"):
            self.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self.add_argument(
            "-v",
            "--verbosity",
            type=int,
            choices=range(4),
            default=argparse.SUPPRESS,
            help="0 prints nothing but errors (default: 1)",
        )


def _kit() -> MeterKit:
    try:
        return kit_of_settings()
    except ImproperlyConfigured as error:
        raise ConfigurationError(str(error)) from error
