"""
Generations that this process has handed over, to the one that flushes for all.

A generation is handed over when the lock of its file is released. Whoever adopts it folds it into the ledger, and then
removes or renames the file: so once that is gone, the ledger has the counts, and needs not be asked. Until then, and
until the ledger was read after that, they are added to what was read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from meterkit.journal.file_format import is_cleared
from meterkit.journal.generation import Generation

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """
    A generation that was handed over.

    Attributes:
        id: Id of the generation.
        path: Path of the file.
        used: Quantities by company and watched meter.
        total: Sum of all quantities.
        since: When it was handed over, ``time.monotonic()`` seconds.
    """

    id: str
    path: Path
    used: dict[Pair, int]
    total: int
    since: float

    @property
    def is_waiting(self) -> bool:
        """Whether its counts may not be in the ledger yet."""
        return is_waiting(self.path)


@dataclass(frozen=True, slots=True)
class Followed:
    """
    What is known of a company and a watched meter when `Journal.follow` begins.

    Attributes:
        before: What `Journal.counted` includes that is certainly in the ledger.
        generations: What it includes that may be in the ledger: quantity, and path of the file of what was handed over,
            by id of the generation.
    """

    before: int
    generations: Mapping[str, tuple[int, Path | None]]


def is_waiting(path: Path) -> bool:
    """Return whether the counts in the file at *path* may not be in the ledger yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not is_cleared(fd)
    except OSError:
        return True
    finally:
        os.close(fd)


class HandedOverGenerations:
    """What this process has handed over, and has not yet read in the ledger."""

    def __init__(self) -> None:
        self._all: tuple[HandedOver, ...] = ()

    def add(self, generation: Generation, path: Path, used: dict[Pair, int]) -> None:
        """Add *generation*, whose file is at *path*; *used* is the result of `Generation.used`."""
        self._all = (*self._all, HandedOver(generation.id, path, used, generation.total, time.monotonic()))

    def all(self) -> tuple[HandedOver, ...]:
        """Return all of them."""
        return self._all

    def drop(self, those: Collection[HandedOver]) -> None:
        """Forget *those*."""
        self._all = tuple(each for each in self._all if each not in those)

    def waiting(self) -> list[HandedOver]:
        """Return those whose counts may not be in the ledger yet."""
        return [each for each in self._all if each.is_waiting]

    def folded(self) -> list[HandedOver]:
        """Return those whose counts are in the ledger."""
        return [each for each in self._all if not each.is_waiting]

    def used_by(self, pair: Pair) -> int:
        """Return what was counted for *pair*, a company and a watched meter, in all of them."""
        return sum([each.used.get(pair, 0) for each in self._all])

    @property
    def total(self) -> int:
        """Sum of all quantities."""
        return sum([each.total for each in self._all])
