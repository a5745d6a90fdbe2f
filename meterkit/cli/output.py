"""Output of all commands: JSON, tables, times."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import sys
from datetime import datetime, timezone
from types import ModuleType
from typing import Any

from meterkit.cli.kit_loader import CommandError


def instant(moment: int) -> str:
    """Return *moment*, in Unix seconds, as text to the minute, such as ``2026-03-01T10:00Z``."""
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


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


def printable(text: object) -> str:
    """Return *text* with control characters as escapes: a name from elsewhere must not give orders to a terminal."""
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


_ORDERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Control characters but for tabs and line breaks, what changes the direction of writing, and halves of characters."""


def say(line: str) -> None:
    """Print *line* on stdout, without its control characters."""
    print(printable(line), flush=True)


def print_json(data: Any) -> None:
    """Print *data* as JSON on stdout."""
    json.dump(data, sys.stdout, indent=2, default=_exact)
    print()


def _exact(value: Any) -> int | str:
    """Return a whole decimal as a number, any other as text, so that no reader turns it into a float."""
    return int(value) if value == value.to_integral_value() else f"{value:f}"
