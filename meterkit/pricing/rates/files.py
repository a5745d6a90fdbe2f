"""Price tables in files: CSV, TOML or JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from meterkit.errors import ConfigurationError

Entry: TypeAlias = "tuple[tuple[str, ...], Any, int]"
"""Patterns, price, and the Unix second from which it holds."""

MOST_BYTES = 20_000_000
"""Bytes of a file at most."""

PRICE, SINCE = "price", "from"


def entries_in(path: str | os.PathLike[str], names: tuple[str, ...], what: str) -> list[Entry]:
    """
    Return the entries of the table in a file.

    Args:
        path: File whose name ends in ``.csv``, ``.toml`` or ``.json``; relative to the working directory.
        names: Names of the dimensions.
        what: What it is for, for error messages.

    Raises:
        ConfigurationError: The file cannot be read, or a row of it is wrong.
    """
    file = Path(path)
    reads = _FORMATS.get(file.suffix.lower())
    if reads is None:
        raise ConfigurationError(f"{what}: table= must be a file in .csv, .toml or .json, not {str(path)!r:.200}")
    try:
        data = file.read_bytes()
        if len(data) > MOST_BYTES:
            raise ConfigurationError(f"{what}: {file} is larger than {MOST_BYTES:,} bytes")
        rows = reads(data.decode("utf-8-sig"))
    except (OSError, ValueError, csv.Error) as error:  # all of these formats raise a ValueError
        raise ConfigurationError(f"{what}: table={str(path)!r:.200} cannot be read: {error}") from error
    if not isinstance(rows, list):
        raise ConfigurationError(f"{what}: {file} must be a list of entries, or have one named 'prices'")
    return list(_entries(rows, names, f"{what}: {file}"))


def _entries(rows: Iterable[Any], names: tuple[str, ...], what: str) -> Iterator[Entry]:
    known = {*names, PRICE, SINCE}
    for number, row in enumerate(rows, 1):
        here = f"{what}, entry {number}"
        if not isinstance(row, Mapping):
            raise ConfigurationError(f"{here} must have the fields {', '.join(names)} and {PRICE}, not {row!r:.100}")
        unknown = [str(name) for name in row if name not in known]
        if unknown:
            raise ConfigurationError(
                f"{here} has a field {unknown[0]!r:.60}; the fields are {', '.join(names)}, {PRICE} and {SINCE}"
            )
        patterns = tuple([row.get(name, "*") for name in names])
        if not all(isinstance(each, str) for each in patterns):
            raise ConfigurationError(f"{here}: {', '.join(names)} must be texts, not {patterns!r:.100}")
        if row.get(PRICE) in (None, ""):
            raise ConfigurationError(f"{here} has no {PRICE}")
        yield patterns, row[PRICE], _since(row.get(SINCE), here)


def _since(told: Any, here: str) -> int:
    """Return the Unix second at which the UTC day *told* begins; 0 for none."""
    if told in (None, ""):
        return 0
    try:
        day = told if isinstance(told, date) and not isinstance(told, datetime) else date.fromisoformat(told)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{here}: {SINCE} must be a day in UTC such as 2026-12-01, because usage is kept by the hour; "
            f"not {told!r:.40}"
        ) from None
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())


def _csv(text: str) -> Any:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = []
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {rows.line_num} has other fields than the first line")
        found.append(row)
    return found


def _json(text: str) -> Any:
    return _list(json.loads(text))


def _toml(text: str) -> Any:
    if sys.version_info < (3, 11):
        raise ValueError("TOML needs Python 3.11; use CSV or JSON")
    import tomllib

    return _list(tomllib.loads(text))


def _list(found: Any) -> Any:
    return found.get("prices") if isinstance(found, dict) else found


_FORMATS = {".csv": _csv, ".toml": _toml, ".json": _json}
