"""The worker that has started this process to flush for it: what it says, and its end."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from meterkit.core import threads
from meterkit.flusher.launch import Launch

LOOK_SECONDS = 1.0
"""How often a process looks whether its parent is another by now, in case the pipe's end was inherited by others."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
"""Numbers of the standard streams; their objects may be None, or the application's."""

_KEPT_OUT = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM")


class Parent:
    """
    The worker, as its child sees it: the one end of the pipe that is the standard input, and who started this process.

    A server's signals may reach the child as well, all at once: Ctrl-C in a terminal, systemd, Heroku. The workers go
    on to serve what they have begun, and count it, so the child ignores signals, and ends when its parent has ended.
    """

    def __init__(self) -> None:
        self._id = os.getppid()
        self._select = select.select  # the application may have gevent patch it
        self._at_end: Callable[[], object] = lambda: os._exit(0)
        self._is_over = False
        self._status = fcntl.fcntl(_STDOUT, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
        try:
            os.dup2(_STDERR, _STDOUT)  # what the application prints goes where its server's does
        except OSError:  # the server has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        for name in _KEPT_OUT:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        # A thread of some servers blocks signals, and what it starts inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def read(self) -> Launch:
        """
        Read what the worker says, and set ``sys.path`` and the environment as it has them.

        Raises:
            EOFError: The worker has ended before it said all.
        """
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(_STDIN, 1 << 16)
            if not read:
                raise EOFError
            line += read
        launch = Launch(**json.loads(line))
        sys.path[:] = launch.sys_path
        for name, value in launch.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        return launch

    def tell(self, **event: Any) -> None:
        """Tell the worker of an event: ``imported=True``, ``ready=True`` or ``error="..."``."""
        with suppress(OSError):  # it has ended
            os.write(self._status, json.dumps(event).encode() + b"\n")

    def watch(self) -> None:
        """
        Look from now on, in another thread, whether the worker has ended. Until `when_it_ends`, that ends this process.

        It is importing the application then, which may never end, and would keep the lock.
        """

        def watch() -> None:
            while not self._has_ended():
                pass
            self._is_over = True
            self._at_end()

        threads.original("_thread", "start_new_thread")(watch, ())  # none that the application could see or wait for

    def when_it_ends(self, stop: Callable[[], None]) -> None:
        """Call *stop* when the worker ends, in another thread, and perhaps in this one, too."""
        self._at_end = stop
        if self._is_over:
            stop()

    def _has_ended(self) -> bool:
        readable, _, _ = self._select([_STDIN], [], [], LOOK_SECONDS)
        return os.getppid() != self._id or (bool(readable) and not os.read(_STDIN, 1 << 16))


def running() -> set[Any]:
    """Return the threads and processes of the application that run in this process, besides the main thread."""
    multiprocessing = sys.modules.get("multiprocessing")
    found: set[Any] = set() if multiprocessing is None else set(multiprocessing.active_children())
    found.update(each for each in threading.enumerate() if each is not threading.main_thread())
    return {each for each in found if not each.name.startswith("meterkit")}


def leave(code: int) -> NoReturn:
    """
    End this process at once, as a process that the application forks would.

    A thread that the application's import has started could keep it for ever, and exit functions that it has registered
    could tidy away what the worker still uses.

    Args:
        code: Exit code.
    """
    with suppress(Exception):
        for each in sys.modules["multiprocessing"].active_children():
            each.terminate()
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
