"""
The demo's web server: the example app under gunicorn or uvicorn, with two worker processes.

It has a process group of its own, so that only its processes are ever killed, and all of them have ended when the
demo ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import httpx

from meterkit.errors import MeterKitError
from meterkit.journal import file_format, generation
from meterkit.journal.file_format import ForeignFileError

if TYPE_CHECKING:
    from typing_extensions import Self

WORKERS = 2

START_SECONDS = 60.0
"""Seconds until the first response, at most; a machine under load imports a framework slowly."""

STOP_SECONDS = 30.0
"""Seconds that the server may take to exit before it is killed."""

FRAMEWORKS = {"flask": "gunicorn", "django": "gunicorn", "fastapi": "uvicorn"}
"""Framework of each example, and the server that runs it."""


class ServerError(MeterKitError):
    """The server did not start, or did not respond; the message ends with its output."""


class Server:
    """
    Serves ``examples/<framework>_app.py`` on a free port of the loopback.

    Args:
        framework: One of `FRAMEWORKS`.
        examples: Directory of the examples.
        directory: Directory that the server may write to.
    """

    def __init__(self, framework: str, *, examples: Path, directory: Path) -> None:
        self.name = FRAMEWORKS[framework]
        self.url = ""
        self._app = f"{framework}_app:app"
        self._examples = examples
        self._directory = directory
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            # Connections inherit it. uvicorn does not recognise the socket as TCP, and would not set it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            # Held by every process that inherits the log, until the last of them has ended; see `stop`.
            fcntl.flock(log, fcntl.LOCK_EX)
            # The listening socket is handed over, so that no other process takes the port in between.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, and names from a fixed table
                self._command(listener.fileno()),
                cwd=self._examples,
                env={**os.environ, "XDG_RUNTIME_DIR": str(self._directory)},  # gunicorn's control socket
                pass_fds=[listener.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_for_response()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server, and wait until all its processes have ended. Does nothing the second time."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with self._log.open() as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # a worker that is dying still owns its journal

    def kill_worker(self, journal: Path) -> tuple[int, int]:
        """
        Kill, with SIGKILL, the worker with the most usage that is in its journal only.

        Args:
            journal: Directory of the journal that the workers write.

        Returns:
            Process id of the worker, and the quantity of usage that was in its journal only.

        Raises:
            ServerError: No worker has a journal.
        """
        unflushed: dict[int, int] = {}
        for path in journal.glob(f"*{generation.SUFFIX}"):
            with suppress(FileNotFoundError, ForeignFileError):  # flushed at this moment
                data = path.read_bytes()
                counted = sum(quantity for _, quantity, _ in file_format.read(data))
                pid = file_format.owner(data)
                unflushed[pid] = unflushed.get(pid, 0) + counted
        workers = [pid for pid in unflushed if self._is_worker(pid)]
        if not workers:
            raise ServerError(f"no worker has a journal in {journal}; output of the server: {self._output()}")
        victim = max(workers, key=lambda pid: unflushed[pid])
        os.kill(victim, signal.SIGKILL)
        return victim, unflushed[victim]

    def _is_worker(self, pid: int) -> bool:
        """Whether the process is in the server's group, and is not the one that started the others."""
        assert self._process is not None
        try:
            return os.getpgid(pid) == self._process.pid != pid
        except ProcessLookupError:
            return False

    def _command(self, fd: int) -> list[str]:
        if self.name == "gunicorn":
            options = ["--workers", str(WORKERS), "--bind", f"fd://{fd}"]
        else:
            options = ["--workers", str(WORKERS), "--fd", str(fd), "--no-access-log"]
        return [sys.executable, "-m", self.name, *options, self._app]

    def _wait_for_response(self) -> None:
        """Poll: the socket listens from the start, so only a response proves that a worker is running."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False, timeout=1.0) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise ServerError(f"{self.name} ended with {self._process.returncode}: {self._output()}")
                with suppress(httpx.TransportError):
                    client.get(f"{self.url}/")
                    return
                time.sleep(0.05)
        raise ServerError(f"{self.name} did not respond within {START_SECONDS:.0f} seconds: {self._output()}")

    def _output(self) -> str:
        """Return the last lines of the server's log, on one line."""
        lines = self._log.read_text(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-8:] if line.strip()) or "nothing"
