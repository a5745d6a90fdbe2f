"""
Flush at the end of a process, also where the interpreter's exit hooks do not run.

- A forked child of `multiprocessing`, such as a worker of granian, ends by ``os._exit``, after multiprocessing's hooks.
- uvicorn restores the signal handlers that it found, and raises the signal that stopped it again, which then kills the
  process. Frameworks without lifespan, such as Django, hear nothing of it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from meterkit.core import threads

POLL_SECONDS = 0.01
"""Interval at which a process that uvicorn is stopping looks whether it has stopped serving."""


class ExitHooks:
    """
    Calls a function at the end of this process.

    Args:
        close: Function to call. May be called in any thread, and more than once.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._finalizer: Any = None

    def install(self) -> None:
        """Install the hooks that this process needs. Those for signals can be installed in the main thread only."""
        if _uvicorn_handles_signals() and threading.current_thread() is threading.main_thread():
            _hook_uvicorn()
        _installed[id(self)] = self
        atexit.register(self.run)
        if "multiprocessing.util" in sys.modules and sys.modules["multiprocessing"].parent_process() is not None:
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self.run, exitpriority=100)  # before those that end its queues

    def run(self) -> None:
        """Call the function."""
        self._close()

    def remove(self) -> None:
        """Remove the hooks, once the function has been called."""
        self.forget()
        atexit.unregister(self.run)
        if self._finalizer is not None:
            self._finalizer.cancel()

    def forget(self) -> None:
        """Forget, in a forked child, what only the parent has to close."""
        _installed.pop(id(self), None)


_installed: dict[int, ExitHooks] = {}
"""What is not closed yet."""


def _uvicorn_handles_signals() -> bool:
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    is_uvicorn = any(kind.__module__.partition(".")[0] == "uvicorn" for kind in type(server).__mro__)
    return is_uvicorn and hasattr(signal, "pthread_sigmask")


def _hook_uvicorn() -> None:
    """
    Put a handler around uvicorn's, which keeps the repeated signal from killing the process before the last flush.

    The handler blocks SIGTERM in the main thread, where uvicorn raises it again. A thread waits until uvicorn has
    restored the handler that it found, flushes, and has the main thread accept the signal: the process then ends, or
    the application's own handler runs, as without metering.
    """
    uvicorns: Any = signal.getsignal(signal.SIGTERM)
    process = os.getpid()
    stopping = threads.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        uvicorns(number, frame)
        if not _installed or os.getpid() != process or stopping.is_set():
            return
        stopping.set()
        main, former = threads.thread_id(), signal.getsignal(signal.SIGURG)

        def accept(*_: object) -> None:
            signal.signal(signal.SIGURG, former or signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

        # The other thread cannot change this one's mask, but it can have a handler run here.
        signal.signal(signal.SIGURG, accept)
        with suppress(RuntimeError):  # no thread can be started any more
            threads.DaemonThread(lambda: _flush_when_stopped(main), name="meterkit-exit")
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            atexit.register(_end)

    def _flush_when_stopped(main: int) -> None:
        pause = threads.original("time", "sleep")
        while signal.getsignal(signal.SIGTERM) is handle:
            pause(POLL_SECONDS)
        for each in list(_installed.values()):
            with suppress(Exception):
                each.run()
        _wait_until_closed()
        with suppress(ProcessLookupError):
            signal.pthread_kill(main, signal.SIGURG)

    def _end() -> None:
        _wait_until_closed()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGTERM, handle)


def _wait_until_closed() -> None:
    """Wait for what another thread is closing."""
    pause, end = threads.original("time", "sleep"), time.monotonic() + LAST_SECONDS
    while _installed and time.monotonic() < end:
        pause(POLL_SECONDS)


LAST_SECONDS = 3.0
"""How long a thread waits for the last flush of another, which takes half of that at most."""
