"""
Programs in processes of their own, without the second that each takes to import what all need.

They are forked off a process that has imported it, and has no threads. What a process imports, and when, is tested
elsewhere, with processes that begin at nothing.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from guard import GUARD

LATE = ("meterkit.asgi", "meterkit.demo", "meterkit.django", "meterkit.flask", "meterkit.pytest", "meterkit.sandbox")
"""What is of no use to most, or needs a framework."""


class Warm:
    """
    A program that runs, as `subprocess.Popen` has it.

    Args:
        words: ``["-m", module, ...]``, or a script's path, and its arguments.
        env: All of the environment.
        cwd: Where it runs.
        stderr: A file; by default a pipe.

    Attributes:
        pid: Of the process.
        stdin: The writing end of a pipe.
        stdout: The reading end of a pipe.
        stderr: Another; None where it is a file.
    """

    def __init__(self, words: list[str], *, env: dict[str, str], cwd: Path | str, stderr: io.IOBase | None = None):
        reading, stdin = os.pipe()
        stdout, writing = os.pipe()
        errors, complaining = (None, stderr.fileno()) if stderr else os.pipe()
        self._keeper, keeper = socket.socketpair()
        theirs = [reading, writing, complaining, keeper.fileno()]
        request = {"words": words, "env": env, "cwd": str(cwd)}
        socket.send_fds(_server(), [json.dumps(request).encode()], theirs)
        keeper.close()
        for descriptor in [reading, writing, *([] if stderr else [complaining])]:
            os.close(descriptor)
        self.stdin, self.stdout = os.fdopen(stdin, "wb", 0), os.fdopen(stdout, "rb")
        self.stderr = None if errors is None else os.fdopen(errors, "rb")
        self._said = self._keeper.makefile("r")
        self.pid = int(self._said.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float = GUARD) -> int:
        """Its exit code, when it has ended."""
        if self.returncode is None:
            self._keeper.settimeout(timeout)
            self.returncode = int(self._said.readline())
            self._said.close()
            self._keeper.close()
        return self.returncode

    def kill(self) -> None:
        """SIGKILL, unless it is known to have ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@cache
def _server() -> socket.socket:
    """What to ask for a process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-W", "error", __file__, str(theirs.fileno())]
    server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait(GUARD)

    atexit.register(end)
    return ours


def _import_all() -> None:
    import meterkit

    # Django's admin cannot be imported without a project, and need not be: it is one of those that are late.
    for found in pkgutil.walk_packages(meterkit.__path__, "meterkit.", onerror=lambda _: None):
        if not found.name.startswith(LATE) and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in ("rich.console", "rich.table", "rich.progress", "sqlalchemy.dialects.sqlite", "wsgiref.simple_server"):
        importlib.import_module(name)


def _serve(control: socket.socket) -> None:
    """Fork for each request, until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 18, 4)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _keep(json.loads(message), descriptors)
            return
        for each in descriptors:
            os.close(each)


def _keep(request: dict, descriptors: list[int]) -> None:
    """Run the program in a child, and tell its process id, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _become(request, descriptors)
        return
    *theirs, teller = descriptors
    for each in theirs:
        os.close(each)
    os.write(teller, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):
        os.write(teller, b"%d\n" % code)
    os._exit(0)


def _become(request: dict, descriptors: list[int]) -> None:
    """Run the program in this process, which ends then as any does."""
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
    for each in descriptors:
        os.close(each)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - until it ends
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    path = [each for each in request["env"].get("PYTHONPATH", "").split(os.pathsep) if each]
    words = request["words"]
    if words[0] == "-m":
        sys.argv, sys.path[:1] = words[1:], [request["cwd"], *path]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:1] = words, [str(Path(words[0]).parent), *path]
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    _import_all()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _serve(asked)
