"""What every command prints with: JSON, tables, points in time."""

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
    """A moment to the minute, such as ``2026-03-01T10:00Z``."""
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def tables_for(arguments: argparse.Namespace, module: str = "meterkit.cli.tables.usage") -> ModuleType | None:
    """What renders for people; None where data is asked for."""
    if arguments.json:
        return None
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise CommandError("tables need rich: pip install 'meterkit[cli]', or ask for --json") from None


def print_json(data: Any) -> None:
    """On stdout, and nothing else there."""
    json.dump(data, sys.stdout, indent=2, default=_exact)
    print()


def _exact(value: Any) -> int | str:
    """A decimal: whole ones are numbers, others text, so that no reader makes a float of them."""
    return int(value) if value == value.to_integral_value() else f"{value:f}"
