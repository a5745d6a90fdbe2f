"""Output of all commands: JSON, tables, times."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from datetime import datetime, timezone
from types import ModuleType
from typing import Any

from meterkit.cli.kit_loader import CommandError


def instant(moment: int) -> str:
    """Return *moment*, in Unix seconds, as text to the minute, such as ``2026-03-01T10:00Z``."""
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def printable(text: object) -> str:
    """
    Return *text* without control characters, except line breaks.

    A customer's name in Stripe may contain a terminal's escape sequences, which would rewrite what the operator reads.
    """
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in str(text))


def tables_for(arguments: argparse.Namespace, module: str = "meterkit.cli.tables.usage") -> ModuleType | None:
    """Return the module that prints tables, or None with ``--json``."""
    if arguments.json:
        return None
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise CommandError("tables need rich: pip install 'meterkit[cli]', or use --json") from None


def print_json(data: Any) -> None:
    """Print *data* as JSON on stdout."""
    json.dump(data, sys.stdout, indent=2, default=_exact)
    print()


def _exact(value: Any) -> int | str:
    """Return a whole decimal as a number, any other as text, so that no reader turns it into a float."""
    return int(value) if value == value.to_integral_value() else f"{value:f}"
