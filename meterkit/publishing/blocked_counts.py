"""Counts of blocked requests on their way from a process without a ledger to the one that flushes, as small files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from meterkit.core.filesystem import PRIVATE_DIRECTORY, PRIVATE_FILE

DIRECTORY = "blocked"
"""Name of the directory, in that of the kit."""

MOST_FILES = 10_000
"""Files that may wait, in case nobody collects them."""

Counts = Mapping["tuple[str, str]", int]
"""Number of requests, by company and reason."""


def leave(directory: Path, counts: Counts) -> None:
    """
    Leave *counts* for the process that flushes.

    Raises:
        OSError: They could not be written.
    """
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    name = os.urandom(16).hex()
    unfinished = directory / f"{name}.tmp"
    text = json.dumps([[company, reason, count] for (company, reason), count in counts.items()]).encode()
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        unfinished.rename(directory / f"{name}.json")
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def collect(directory: Path) -> dict[tuple[str, str], int]:
    """Return what other processes have left, and remove it: a kill after that loses some, and adds none twice."""
    found: dict[tuple[str, str], int] = {}
    if not directory.is_dir():
        return found
    for path in list(directory.iterdir())[:MOST_FILES]:
        with suppress(OSError, ValueError, TypeError):
            counts = [(str(company), str(reason), int(count)) for company, reason, count in json.loads(_taken(path))]
            for company, reason, count in counts:
                found[company, reason] = found.get((company, reason), 0) + count
    return found


def _taken(path: Path) -> str:
    if path.suffix != ".json":
        return "[]"  # not finished yet
    text = path.read_text()
    path.unlink()  # whoever removes it has it
    return text
