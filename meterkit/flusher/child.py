"""
The flusher as a child of a worker: started, watched and started again by the worker's background thread.

The child gets the flusher's lock with its birth, so no moment passes in which another worker could start one, too. Its
standard input is a pipe whose other end only the worker has: when the worker ends, in whatever way, the kernel closes
it, and the child flushes a last time and ends. (Linux's PR_SET_PDEATHSIG would send its signal when the thread ends
that started the child.) Its standard output is a pipe, on which it says that it flushes, or why it cannot.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Any

from meterkit.core import threads
from meterkit.core.problems import Problems, log_event, shown
from meterkit.flusher import role
from meterkit.flusher.launch import Launch, is_test_run, python, reason_against

if TYPE_CHECKING:
    from meterkit.flusher.lock import FlusherLock

FIRST_WAIT_SECONDS = 1.0
"""How long a child that has ended is not started again; doubles with each that ends soon."""

LONGEST_WAIT_SECONDS = 60.0

SOON_SECONDS = 60.0
"""A child that has flushed for so long has not ended soon."""

MOST_STARTS = 5
"""So many children that end before they have flushed once are enough: then, this process flushes."""

IMPORT_SECONDS = 120.0
"""How long a child may take to import the kit: a module may serve or consume when it is imported, and never return."""

STARTS_WRONG = 2
"""Exit code of a child that cannot work, and never will: the kit cannot be imported, or is another."""


class FlusherChild:
    """
    The child of this process that flushes, or why there is none. Used by the background thread, but for `abandon`.

    Args:
        path: Function that returns the import path of the kit; None if it has none.
        launch: Function that returns what the child has to know.
        lock: Lock of the `data_dir`, which is passed on to the child.
        problems: Where problems are reported.
        stays: Function that returns why a thread is to flush though a process could be started, as the end of a
            sentence, or None; itself None if the kit asks for a process.

    Attributes:
        why_none: Why this process flushes itself instead, as a sentence; None as long as it does not.
        is_ready: Whether the child has said that it flushes.
    """

    def __init__(
        self,
        path: Callable[[], str | None],
        launch: Callable[[], Launch],
        *,
        lock: FlusherLock,
        problems: Problems,
        stays: Callable[[], str | None] | None = None,
    ) -> None:
        self._path, self._launch = path, launch
        self._stays = stays
        self._lock = lock
        self._problems = problems
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._started_at = 0.0
        self._next_start = time.monotonic()
        self._wait = FIRST_WAIT_SECONDS
        self._unready = 0  # children in a row that ended before they had flushed
        self.why_none: str | None = None
        self._is_imported = self.is_ready = False

    @property
    def pid(self) -> int | None:
        """Process id of the child; None if there is none."""
        process = self._process
        return None if process is None else process.pid

    def runs(self) -> bool:
        """Return whether the child runs; note it if it has ended since the last call."""
        process = self._process
        if process is None:
            return False
        ended = process.poll() is not None
        self._listen(process)
        if not ended and not self._is_imported and time.monotonic() - self._started_at > IMPORT_SECONDS:
            process.kill()  # which also releases the lock
            process.wait()
            self._discard(process)
            return self._give_up(
                f"the flusher's process has not imported the kit within {IMPORT_SECONDS:.0f} seconds, so this process "
                "flushes itself. Build the kit in a module of its own, whose import starts nothing"
            )
        if ended:
            self._note_end(process)
        return not ended

    def start(self) -> bool:
        """
        Start the child, unless it has just ended. The caller holds the lock, which this passes on, or releases.

        Returns:
            False if this process is to flush itself, and keeps the lock; see `why_none`.
        """
        if self.why_none is not None:
            return False
        if time.monotonic() < self._next_start:
            self._lock.release()
            return True
        if not self._lock.works:
            return self._give_up(
                "flusher='process' needs locks, which do not work in this data_dir, so each process flushes itself"
            )
        against = reason_against()
        if against is not None:
            # Who has not asked for a process expects none there.
            expected = self._stays is not None and (role.is_command or is_test_run())
            return self._give_up(f"a thread of this process flushes, because {against}", says=not expected)
        stays = None if self._stays is None else self._stays()
        if stays is not None:
            return self._give_up(f"a thread of this process flushes, because {stays}")
        path, executable = self._path(), python()
        if path is None:
            return self._give_up(
                "flusher='process' needs a kit that another process can import, and no module that can be imported by "
                "its name has this one as a global, so this process flushes itself. Build the kit in a module of its "
                "own, such as billing.py with kit = MeterKit(...); or start meterkit run there"
            )
        if executable is None:
            return self._give_up(
                "flusher='process' found no Python interpreter to start, because Python is embedded in this program, "
                "so this process flushes itself. Start meterkit run beside it"
            )
        try:
            self._process = self._started([executable, "-m", "meterkit", "run", path])
        except Exception as error:
            return self._give_up(
                f"the flusher's process cannot be started here, so this process flushes itself: {shown(error)}. "
                "Start meterkit run beside it"
            )
        self._started_at = time.monotonic()
        log_event("flusher_started", f"process {self.pid} flushes for {path}, until this one ends", level=logging.INFO)
        return True

    def close(self, timeout: float) -> bool:
        """
        End the child with a last flush.

        Args:
            timeout: Seconds to wait for its end.

        Returns:
            Whether it has ended; otherwise it goes on, and ends when it has flushed.
        """
        process, self._process, self.is_ready = self._process, None, False
        if process is None:
            return True
        _close(process.stdin)
        ended = _has_ended(process, timeout)
        _close(process.stdout)
        if not ended:
            _unfinished.append(process)
        return ended

    def abandon(self) -> None:
        """In a forked process, close what belongs to the parent, whose child it is."""
        process, self._process, self.is_ready = self._process, None, False
        if process is not None:
            _close(process.stdin)
            _close(process.stdout)
            process.returncode = 0  # it is not ours to wait for

    def _started(self, words: list[str]) -> subprocess.Popen[bytes]:
        for former in list(_unfinished):  # of a kit that was closed and counts again
            if former.poll() is not None:
                _unfinished.remove(former)
        launch = self._launch()
        path = os.pathsep.join(launch.sys_path)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        popen = _popen()
        descriptor = self._lock.detach()
        try:
            process: subprocess.Popen[bytes] = popen(
                [*words, "--lock", str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                close_fds=True,
                pass_fds=[descriptor],
            )
        except BaseException:
            self._lock.adopt(descriptor)
            raise
        os.close(descriptor)
        self._said, self._is_imported, self.is_ready = b"", False, False
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        # A pipe takes 64 KiB at once. The child reads it first of all; if it has ended already, `runs` will notice.
        with suppress(OSError):
            process.stdin.write(json.dumps(launch.as_dict()).encode() + b"\n")
            process.stdin.flush()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Take in what the child has said, a line of JSON for each event."""
        assert process.stdout is not None
        with suppress(OSError, ValueError):  # nothing yet, or closed
            while chunk := os.read(process.stdout.fileno(), 4096):
                self._said += chunk
        self._is_imported = self._is_imported or b'"imported"' in self._said
        if not self.is_ready and b'"ready"' in self._said:
            self.is_ready, self._unready = True, 0
            self._problems.clear("flusher_ended")

    def _note_end(self, process: subprocess.Popen[bytes]) -> None:
        was_ready = self.is_ready
        self._discard(process)
        now = time.monotonic()
        if was_ready and now - self._started_at >= SOON_SECONDS:
            self._wait = FIRST_WAIT_SECONDS
        self._next_start = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT_SECONDS)
        self._unready = 0 if was_ready else self._unready + 1
        why = _error_in(self._said) or how_it_ended(process.returncode)
        if process.returncode == STARTS_WRONG or self._unready >= MOST_STARTS:
            self._give_up(f"the flusher's process cannot work, so this process flushes itself: {why}")
        else:
            self._problems.note(
                "flusher_ended",
                f"the flusher's process {process.pid} has ended, and is started again; what was counted meanwhile "
                f"waits in the journal: {why}",
                level=logging.ERROR,
            )

    def _discard(self, process: subprocess.Popen[bytes]) -> None:
        self.is_ready, self._process = False, None
        _close(process.stdin)
        _close(process.stdout)

    def _give_up(self, why: str, *, says: bool = True) -> bool:
        """Keep why this process flushes itself, and say it once; return False."""
        self.why_none = why
        if says:
            log_event("flusher_in_thread", why, level=logging.INFO)
        return False


_unfinished: list[subprocess.Popen[bytes]] = []
"""Children that took too long to wait for. Kept, so that they are reaped if this process goes on."""


def _popen() -> Any:
    """Return the standard `subprocess.Popen`, also where gevent has patched it: gevent's needs an event loop."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("subprocess"):
        return subprocess.Popen
    spec = subprocess.__spec__
    assert spec is not None
    assert spec.loader is not None
    unpatched = module_from_spec(spec)  # what gevent leaves of the original does not work
    spec.loader.exec_module(unpatched)
    return unpatched.Popen


def how_it_ended(code: int) -> str:
    """Return a description of a process's exit code, or of the signal that ended it."""
    return f"it was ended by signal {-code}" if code < 0 else f"its exit code was {code}"


def _error_in(said: bytes) -> str | None:
    for line in said.splitlines():
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and found.get("error"):
                return str(found["error"])
    return None


def _close(stream: Any) -> None:
    with suppress(OSError):
        stream.close()


def _has_ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    pause, end = threads.original("time", "sleep"), time.monotonic() + timeout
    while process.poll() is None:
        if time.monotonic() >= end:
            return False
        pause(_POLL_SECONDS)
    return True


_POLL_SECONDS = 0.01
