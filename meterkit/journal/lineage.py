"""
What all generations of one process have in common: the beginning of their ids, and a file that says that it lives.

What a process may use of a quota or a wallet without asking the ledger, its slices, belongs to its lineage. Its file is
locked for as long as the process lives, and the kernel releases the lock at its end, in whatever way it ends. Once all
its generations are folded, too, nothing of the lineage can be counted any more, and its slices are given back.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from meterkit.core.filesystem import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private_directory
from meterkit.journal.generation import SUFFIX, UNFINISHED

LIVES = ".lineage"
"""Suffix of the file that a process keeps locked while it lives."""

LINEAGE_BYTES = 8
"""Bytes with which the ids of all generations of a lineage begin."""


def lineage_of(generation: str) -> str:
    """Return the lineage of the *generation* with this id."""
    return generation[: 2 * LINEAGE_BYTES]


class Lineage:
    """
    The lineage of a process.

    Args:
        directory: Directory of the journal.
        ledger: Name of the ledger that its slices are drawn from, a short word.

    Attributes:
        id: What the ids of its generations begin with, hexadecimal.
    """

    def __init__(self, directory: Path, *, ledger: str = "") -> None:
        self.id = os.urandom(LINEAGE_BYTES).hex()
        self._path = directory / f"{self.id}.{ledger}{LIVES}"
        self._fd: int | None = None

    @property
    def lives(self) -> bool:
        """Whether `live` has shown it; if not, another process may give back, or have given back, its slices."""
        return self._fd is not None

    def live(self) -> None:
        """
        Show other processes that this one lives, until it ends.

        Raises:
            OSError: The file cannot be created.
        """
        if self._fd is not None and os.fstat(self._fd).st_nlink:
            return
        directory = self._path.parent
        make_private_directory(directory.parent)
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        unfinished = self._path.with_name(f"{self._path.name}{UNFINISHED}")
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unfinished.rename(self._path)  # only now, so that nobody takes it for that of a dead process
        except BaseException:
            os.close(fd)
            raise
        self.abandon()
        self._fd = fd

    def remove(self) -> None:
        """Remove the file: there are no slices to be given back."""
        if self._fd is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self.abandon()

    def abandon(self) -> None:
        """Close the file. In its owner, this releases the lock; not in a forked child, whose parent holds it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class EndedLineage:
    """
    The lineage of a process that has ended, locked by this one.

    Attributes:
        id: What the ids of its generations begin with, hexadecimal.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd
        self.id = path.name.split(".")[0]

    @property
    def is_folded(self) -> bool:
        """Whether none of its generations is left to be folded."""
        return next(self._path.parent.glob(f"{self.id}*{SUFFIX}"), None) is None

    def remove(self) -> None:
        """Remove its file: its slices are given back."""
        with suppress(OSError):  # next time
            self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._fd)


def ended(directory: Path, *, ledger: str) -> Iterator[EndedLineage]:
    """
    Yield the lineages in *directory* whose processes have ended, each locked until the next.

    Args:
        directory: Directory of the journal.
        ledger: Name of the ledger that their slices were drawn from, a short word.
    """
    for path in sorted(directory.glob(f"*.{ledger}{LIVES}")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # another process was faster
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino != os.fstat(fd).st_ino:
                raise FileNotFoundError
        except OSError:  # its process lives
            os.close(fd)
            continue
        found = EndedLineage(path, fd)
        try:
            yield found
        finally:
            found.release()
