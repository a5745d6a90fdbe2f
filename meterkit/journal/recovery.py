"""
Recover the journal files of processes that have died.

A generation's owner holds an ``flock`` on its file. If the lock is free, the owner has ended, in whatever way, and the
process that takes the lock may fold the file into the ledger.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from meterkit.core.problems import Problems
from meterkit.core.usage_key import Counted
from meterkit.journal.file_format import (
    MAX_BYTES,
    ForeignFileError,
    begun,
    by_meter,
    clear,
    generation_id,
    mark_published,
    read,
    records,
    was_published,
)
from meterkit.journal.generation import SUFFIX, UNFINISHED

HALF_MADE_SECONDS = 3600
"""Age at which an unfinished file is abandoned, seconds: creating a generation takes only a moment."""


MOVED_SECONDS = 3600
"""Age at which what was handed over for another ledger is adopted, seconds: who has that ledger would have by then."""


class Orphan:
    """
    A generation whose owner has ended, locked by this process and read.

    Attributes:
        path: Path of the file.
        id: Id of the generation.
        begun: Unix time before which none of them was counted; 0 if that is not known.
        published: Whether it may have been published, so that a collector may fold it at any time.
        cells: Counts in the file, as far as it is intact.
        torn: Description of the damage; None if the file is intact.
    """

    def __init__(self, path: Path, fd: int, data: bytes) -> None:
        self.path = path
        self._fd = fd
        self.id = generation_id(data)
        self.begun = begun(data)
        self.published = was_published(data)
        self.cells: list[Counted] = []
        self.torn: str | None = None
        try:
            self.cells.extend(records(data))
        except ForeignFileError as error:
            self.torn = str(error)

    def mark_published(self) -> None:
        """
        Note in the file that it may have been published.

        Raises:
            OSError: The file cannot be written.
        """
        mark_published(self._fd)
        self.published = True

    def discard(self) -> None:
        """
        Remove the file, whose counts are elsewhere. It is emptied first, in case it cannot be removed.

        Raises:
            OSError: It cannot be removed.
        """
        try:
            clear(self._fd)
            self.path.unlink(missing_ok=True)
        finally:
            self.release()

    def keep(self, why: str, problems: Problems) -> None:
        """
        Keep a damaged file as evidence, under a name that is never adopted. What could be read of it is in the ledger.

        Args:
            why: Description of the damage.
            problems: Collector of problems.
        """
        self._keep("journal_torn", f"{why}; everything that could be read is in the ledger", problems)

    def keep_refused(self, why: str, problems: Problems) -> None:
        """
        Keep a file whose counts the ledger cannot store, under a name that is never adopted.

        Args:
            why: What the ledger reported.
            problems: Collector of problems.
        """
        self._keep("journal_refused", f"the ledger cannot store its counts: {why}", problems)

    def _keep(self, reason: str, what: str, problems: Problems) -> None:
        try:
            kept = f"the file is kept as {set_aside(self.path)}"
        except OSError as error:
            kept = f"the file cannot be renamed: {error}"
        self.release()
        message = f"{self.path.name}: {what}, and {kept}. The rest of its usage is lost; compare the ledger with your "
        problems.note(reason, f"{message}access log", level=logging.ERROR)

    def release(self) -> None:
        """Release the lock, so that other processes can adopt the file."""
        os.close(self._fd)


def orphans(
    directory: Path,
    *,
    own: set[Path | None],
    problems: Problems,
    ledger: str = "",
    adopts_all: Callable[[], bool] = lambda: True,
) -> Iterator[Orphan]:
    """
    Adopt and yield the generations in *directory* that were handed over, or whose owners have ended.

    Files of other kinds are set aside. What was handed over for another ledger is left alone: its kit may share the
    directory.

    Args:
        directory: Directory of the journal.
        own: Paths of this process's own generations.
        problems: Collector of problems.
        ledger: Name of this process's ledger.
        adopts_all: Function that returns whether to adopt also what was handed over for another ledger, an hour ago:
            the ledger has probably moved.
    """
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path in own or (_is_for_another(path, ledger) and not (_is_old(path) and adopts_all())):
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


def _is_for_another(path: Path, ledger: str) -> bool:
    """Return whether the file was handed over for another ledger; `Generation.leave` has named it."""
    handed_over_for = path.name.split(".")[1:-1]
    return bool(handed_over_for) and handed_over_for != [ledger]


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_ctime > MOVED_SECONDS
    except OSError:
        return False


def adopt(path: Path) -> Orphan | None:
    """
    Take over the generation at *path*; return None if its owner is alive, or another process was faster.

    Raises:
        ForeignFileError: The file is not a generation, is one of another version, or belongs to another user.
        OSError: The file cannot be read.
    """
    try:
        fd = _opened(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or path.stat().st_ino != os.fstat(fd).st_ino:
            os.close(fd)  # it was folded and removed after it was opened
            return None
        return Orphan(path, fd, _content(path, fd))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise


def _opened(path: Path, mode: int) -> int:
    """
    Open the regular file at *path* without following a link, and without waiting for the other end of a pipe.

    Raises:
        ForeignFileError: It is not a regular file.
        OSError: The file cannot be opened.
    """
    try:
        fd = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ForeignFileError("it is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ForeignFileError("it is not a regular file")
    return fd


def _content(path: Path, fd: int) -> bytes:
    """
    Return the content of the file in *fd*, opened from *path*.

    Raises:
        ForeignFileError: The file belongs to another user, or is larger than any generation.
    """
    found = os.fstat(fd)
    # The owner of the directory is one of us, too: root may flush what the application's user has counted.
    if found.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        raise ForeignFileError(f"it belongs to another user, with the id {found.st_uid}")
    if found.st_size > MAX_BYTES:
        raise ForeignFileError(f"it has {found.st_size} bytes, more than any journal")
    with os.fdopen(os.dup(fd), "rb") as file:
        return file.read()


def totals_in(directory: Path, *, skip: Collection[Path | None]) -> dict[str, dict[str, int]]:
    """Return what is in the files of live and dead processes, without those to *skip*, by generation id and meter."""
    totals = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path not in skip:
            for each in (path, *_renamed(path)):
                # Otherwise it has been folded in the meantime, or the next flush will set it aside.
                with suppress(ForeignFileError, OSError):
                    fd = _opened(each, os.O_RDONLY)
                    try:
                        data = _content(each, fd)
                    finally:
                        os.close(fd)
                    totals[generation_id(data)] = by_meter(read(data))
                    break
    return totals


def waiting(directory: Path) -> list[float]:
    """Return since when usage in *directory* waits for a flush, Unix seconds: of each file that nobody counts in."""
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with suppress(ForeignFileError, OSError):  # as above; or it is locked by its owner, or by who folds it
            fd = _opened(path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if read(_content(path, fd)):
                    found.append(os.fstat(fd).st_ctime)
            finally:
                os.close(fd)
    return found


def _renamed(path: Path) -> Iterator[Path]:
    """Yield where the file at *path* is, if it has been handed over since the directory was read."""
    yield from path.parent.glob(f"{path.name.removesuffix(SUFFIX)}.*{SUFFIX}")


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
    """Rename *path* so that it is not adopted again, and nothing is overwritten; return the new path."""
    aside, number = path.with_name(f"{path.name}.set-aside"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.set-aside-{number}")
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
