"""
Recover the journal files of processes that have died.

A generation's owner holds an ``flock`` on its file. If the lock is free, the owner has ended, in whatever way, and the
process that takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted
from meterkit.journal.file_format import ForeignFileError, by_meter, clear, generation_id, read, records
from meterkit.journal.generation import SUFFIX, UNFINISHED

HALF_MADE_SECONDS = 3600
"""Age at which an unfinished file is abandoned, seconds: creating a generation takes only a moment."""


class Orphan:
    """
    A generation whose owner has ended, locked by this process and read.

    Attributes:
        path: Path of the file.
        id: Id of the generation.
        cells: Counts in the file, as far as it is intact.
        torn: Description of the damage; None if the file is intact.
    """

    def __init__(self, path: Path, fd: int, data: bytes) -> None:
        self.path = path
        self._fd = fd
        self.id = generation_id(data)
        self.cells: list[Counted] = []
        self.torn: str | None = None
        try:
            self.cells.extend(records(data))
        except ForeignFileError as error:
            self.torn = str(error)

    def discard(self) -> None:
        """Remove the file, whose counts are in the ledger. It is emptied first, in case it cannot be removed."""
        clear(self._fd)
        self.path.unlink(missing_ok=True)
        self.release()

    def keep_torn(self, problems: Problems) -> None:
        """Keep a torn file as evidence, under a name that is never adopted. Its intact part is in the ledger."""
        aside = set_aside(self.path)
        self.release()
        problems.note(
            "journal_torn",
            f"{self.torn}; everything before the damage is in the ledger, and the file is kept as {aside}. "
            "Usage after that point is lost; compare the ledger with your access log",
            level=logging.ERROR,
        )

    def release(self) -> None:
        """Release the lock, so that other processes can adopt the file."""
        os.close(self._fd)


def orphans(directory: Path, *, own: set[Path | None], problems: Problems) -> Iterator[Orphan]:
    """Adopt and yield the generations in *directory* whose owners have ended. Files of other kinds are set aside."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path in own:
            continue
        try:
            orphan = adopt(path)
        except ForeignFileError as error:
            _set_foreign_aside(path, str(error), problems)
        except OSError as error:
            problems.note("journal_unreadable", f"{path} cannot be read: {error}", level=logging.ERROR)
        else:
            if orphan is not None:
                yield orphan


def adopt(path: Path) -> Orphan | None:
    """
    Take over the generation at *path*; return None if its owner is alive, or another process was faster.

    Raises:
        ForeignFileError: The file is not a generation, or is one of another version.
        OSError: The file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(fd).st_ino:
            os.close(fd)  # it was folded and removed after it was opened
            return None
        with os.fdopen(os.dup(fd), "rb") as file:
            return Orphan(path, fd, file.read())
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise


def totals_in(directory: Path, *, skip: Collection[Path | None]) -> dict[str, dict[str, int]]:
    """Return what is in the files of live and dead processes, without those to *skip*, by generation id and meter."""
    totals = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path not in skip:
            # Otherwise it has been folded in the meantime, or the next flush will set it aside.
            with suppress(ForeignFileError, OSError):
                data = path.read_bytes()
                totals[generation_id(data)] = by_meter(read(data))
    return totals


def sync(directory: Path) -> bool:
    """Make the removal of files survive a power failure; return whether that succeeded."""
    try:
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def sweep(directory: Path) -> None:
    """Remove unfinished files from *directory*: their processes were killed before they could count anything."""
    for path in directory.glob(f"*{UNFINISHED}"):
        with suppress(OSError):  # another process was faster
            if time.time() - path.stat().st_mtime > HALF_MADE_SECONDS:
                path.unlink()


def set_aside(path: Path) -> Path:
    """Rename *path* so that it is not adopted again; return the new path."""
    aside = path.with_name(f"{path.name}.set-aside")
    path.rename(aside)
    return aside


def _set_foreign_aside(path: Path, why: str, problems: Problems) -> None:
    try:
        aside = set_aside(path)
    except OSError as error:
        problems.note("journal_unreadable", f"{path}: {why}; and {error}", level=logging.ERROR)
    else:
        problems.note(
            "journal_foreign",
            f"{path.name} is not a journal that this meterkit can read: {why}. It is kept as {aside}; if another "
            "meterkit wrote it, install that version and remove the suffix .set-aside to flush it",
            level=logging.ERROR,
        )
