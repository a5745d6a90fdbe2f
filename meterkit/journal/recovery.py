"""
Recover the journal files of processes that have died.

A generation's owner holds an ``flock`` on its file. When the lock is free the owner is gone, however it went, and
whoever takes the lock may fold the file into the ledger.
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
"""It takes a moment to make a generation; after that, nobody is at it any more."""


class Orphan:
    """
    A generation whose owner is gone, locked by us and read.

    Attributes:
        id: As its owner named it.
        cells: What its owner had counted.
        torn: Where the file stops making sense; None when it is sound to the end.
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
        """Remove the file: the ledger has what was in it. Emptied first, in case that it cannot be removed."""
        clear(self._fd)
        self.path.unlink(missing_ok=True)
        self.release()

    def keep_torn(self, problems: Problems) -> None:
        """The ledger has what was sound: keep the file as evidence, under a name that nobody adopts."""
        aside = set_aside(self.path)
        self.release()
        problems.note(
            "journal_torn",
            f"{self.torn}; what stood before that is in the ledger, and the file is kept as {aside}. "
            "Usage after that point is lost; compare it with your access log",
            level=logging.ERROR,
        )

    def release(self) -> None:
        """Let others adopt it."""
        os.close(self._fd)


def orphans(directory: Path, *, own: set[Path | None], problems: Problems) -> Iterator[Orphan]:
    """Adopt, one by one, the generations in *directory* whose owners are gone. What is no generation is set aside."""
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
    Take over the generation at *path*; None if its owner lives, or another process was faster.

    Raises:
        ForeignFileError: It is no generation, or one of another version.
        OSError: It cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(fd).st_ino:
            os.close(fd)  # it was folded and removed while we waited to look
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
    """What the files of living and dead processes hold, but for those to *skip*: by generation and meter."""
    totals = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path not in skip:
            # Else it is folded in the meantime, or to be set aside by the next flush.
            with suppress(ForeignFileError, OSError):
                data = path.read_bytes()
                totals[generation_id(data)] = by_meter(read(data))
    return totals


def sync(directory: Path) -> bool:
    """See that files which were removed stay so, even if the power fails; whether that is certain."""
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
    """Remove the files in *directory* whose makers were killed before they could count anything in them."""
    for path in directory.glob(f"*{UNFINISHED}"):
        with suppress(OSError):  # another was faster
            if time.time() - path.stat().st_mtime > HALF_MADE_SECONDS:
                path.unlink()


def set_aside(path: Path) -> Path:
    """Rename *path* so that nobody adopts it again; answer the new name."""
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
            "meterkit wrote it, install that version and take the ending .set-aside off again, to have it flushed",
            level=logging.ERROR,
        )
