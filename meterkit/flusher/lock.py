"""
The lock of a `data_dir`: of the processes that share it, the holder flushes for all of them.

It saves work, and nothing depends on it for being right: a generation is folded by whoever holds the lock of its file,
and the ledger takes it once. So where no lock works, each process flushes what it has counted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from meterkit.core import threads
from meterkit.core.filesystem import PRIVATE_FILE, make_private_directory, network_type

NAME = "flusher.lock"

_BYTES = 256
"""Bytes of the file, padded with spaces."""

_LAST_STANDARD = 2
"""Number of the standard error stream."""

_TAKEN = frozenset([errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES])
"""What flock(2) and its emulations say when another process has the lock."""


class FlusherLock:
    """
    An ``flock`` on ``flusher.lock`` in a `data_dir`, which the kernel releases when the process ends, in whatever way.

    A forked child does not hold it, whatever its parent does.

    Args:
        data_dir: Directory on this host; created when the lock is first tried.
        ledger: What tells the holder's ledger from others, for `is_ours`: who flushes into another one is no flusher
            of this kit.
    """

    def __init__(self, data_dir: Path, *, ledger: str = "") -> None:
        self._path = data_dir / NAME
        self._ledger = ledger
        self._fd: int | None = None
        self._fork_marker = threads.fork_marker()
        self._works = True
        self._asked: int | None = None
        # Re-entrant, because a signal handler may flush or close.
        self._lock = threads.rlock()

    @property
    def held(self) -> bool:
        """Whether this process is to flush for all: it holds the lock, or there is no lock that works."""
        return bool(self._fork_marker[0]) and (self._fd is not None or not self._works)

    @property
    def works(self) -> bool:
        """Whether locks work here, as far as was tried; if not, each process flushes what it has counted."""
        return self._works

    def try_acquire(self) -> bool:
        """Take the lock if it is free, and return `held`. Returns at once, also if it is held already."""
        if not self._fork_marker[0]:
            return False
        with self._lock:
            if self._fd is not None and not self._is_in_place(self._fd):  # something deleted or replaced the file
                self.release()
            if self._fd is None:
                try:
                    self._fd = self._acquired()
                    self._works = True
                except OSError:
                    self._works = False
            return self.held

    def release(self) -> None:
        """Let another process have the lock; nothing happens if this one does not hold it."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def detach(self) -> int:
        """
        Return the open file with the lock, for a process that is started with it. This object holds it no more.

        The lock is the file's. So it stays as long as one of the processes has the file open.

        Raises:
            OSError: This process does not hold it.
        """
        with self._lock:
            fd = self._fd
            if fd is None:
                raise OSError(errno.ENOLCK, "the lock is not held")
            if fd <= _LAST_STANDARD:  # this program has closed its standard streams
                low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD + 1)
                os.close(low)
            self._fd = None
            return fd

    def adopt(self, fd: int) -> bool:
        """
        Hold the lock of a file that another process has detached; return whether it is held then.

        Args:
            fd: The open file; closed if it is not the lock's, or another process has the lock.
        """
        with self._lock:
            try:
                os.set_inheritable(fd, False)
                if self._fd is None and self._is_in_place(fd):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as it is already
                    self._sign(fd)
                    self._fd = fd
                    return True
            except OSError:
                pass
            with suppress(OSError):
                os.close(fd)
            return self.held

    def abandon(self) -> None:
        """In a forked child, close the inherited file, which the parent holds. Takes no lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def holder(self) -> str | None:
        """Return what the holder wrote about itself, for people; None if nobody holds the lock, or that is unknown."""
        lines = self._text()
        return lines[0] if lines and not self._is_free() else None

    @property
    def is_ours(self) -> bool | None:
        """Whether the holder flushes into the ledger of this kit; None if it has only just begun, so ask again."""
        lines = self._text()
        return lines[1:2] == [self._ledger] if lines else None

    def ask(self) -> None:
        """Ask the holder to look for what was handed over now, and not only when it flushes next."""
        now = time.time_ns()
        try:
            os.utime(self._path, ns=(now, now))
        except PermissionError:  # it belongs to another user, who lets us write
            with suppress(OSError):
                os.utime(self._path)
        except OSError:
            pass

    def was_asked(self) -> bool:
        """Return whether somebody has asked since the last call. For the holder, which calls this often."""
        fd = self._fd
        if fd is None:
            return False
        try:
            asked = os.fstat(fd).st_mtime_ns
        except OSError:
            return False
        before, self._asked = self._asked, asked
        return before is not None and asked != before

    def _acquired(self) -> int | None:
        """
        Return the open file with the lock; None if another process has it.

        Raises:
            OSError: No lock works here.
        """
        if network_type(self._path.parent) is not None:
            raise OSError(errno.ENOLCK, "locks do not work between the hosts that share a network file system")
        make_private_directory(self._path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path, flags, PRIVATE_FILE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_in_place(fd):
                os.close(fd)  # deleted after it was opened; the next try makes another
                return None
            self._sign(fd)
        except OSError as error:
            os.close(fd)
            if error.errno in _TAKEN:
                return None
            raise
        return fd

    def _sign(self, fd: int) -> None:
        directory = self._path.parent.stat()
        if os.geteuid() == 0 != directory.st_uid:  # root runs a command: the app's user is to open it, too
            with suppress(OSError):
                os.fchown(fd, directory.st_uid, directory.st_gid)
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = f"process {os.getpid()}, since {since}\n{self._ledger}\n".encode()
        # In one step, over what an earlier holder wrote: who reads it sees the one or the other.
        if os.pwrite(fd, text.ljust(_BYTES), 0) != _BYTES:
            raise OSError(errno.ENOSPC, "no room for the name of the holder")
        self._asked = os.fstat(fd).st_mtime_ns

    def _is_in_place(self, fd: int) -> bool:
        try:
            found, mine = self._path.stat(), os.fstat(fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def _is_free(self) -> bool:
        if self._fd is not None:
            return False
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _text(self) -> list[str]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            return os.pread(fd, _BYTES, 0).decode(errors="replace").splitlines()
        except OSError:
            return []
        finally:
            os.close(fd)
