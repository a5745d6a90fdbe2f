"""The worker that has started this process to flush for it: what it says, and its end."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from meterkit.core.threads import DaemonThread
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
        """Tell the worker of an event, such as ``ready=True`` or ``error="..."``."""
        with suppress(OSError):  # it has ended
            os.write(self._status, json.dumps(event).encode() + b"\n")

    def when_it_ends(self, stop: Callable[[], None]) -> None:
        """Call *stop* when the worker ends, in another thread."""

        def watch() -> None:
            while not self._has_ended():
                pass
            stop()

        DaemonThread(watch, name="meterkit-parent")

    def _has_ended(self) -> bool:
        readable, _, _ = select.select([_STDIN], [], [], LOOK_SECONDS)
        return os.getppid() != self._id or (bool(readable) and not os.read(_STDIN, 1 << 16))
