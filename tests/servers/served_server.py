"""
A real server with `served_app`, on a port of its own, and clients that know what they sent and what they received.

It leads a process group of its own, and is gone at the end of a test, whatever happened.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from figures import note_figure
from guard import GUARD, tries
from served_billing import Billing

import meterkit

PYTHONPATH = os.pathsep.join(
    [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(meterkit.__file__).parents[1])]
)

CLIENTS = 3

# A worker that is told to stop in the moment before it listens to signals never hears of it, and is killed after a
# while: gunicorn's and uWSGI's own gap, which is not to last a minute here.
GUNICORN = [
    *(sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}"),
    *("--timeout", str(GUARD), "--graceful-timeout", "5", "served_app:wsgi"),
]
UVICORN = [sys.executable, "-m", "uvicorn", "--fd", "{fd}", "served_app:asgi"]
HYPERCORN = [sys.executable, "-m", "hypercorn", "--bind", "fd://{fd}", "served_app:asgi"]
GRANIAN = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", "{port}", "served_app:asgi"]
UWSGI = [
    str(Path(sysconfig.get_path("scripts")) / "pyuwsgi"),
    *("--http-socket", "fd://{fd}", "--module", "served_app:wsgi"),
    *("--master", "--die-on-term", "--need-app", "--worker-reload-mercy", "5"),
]


class Server:
    """
    Serves until it is stopped.

    Args:
        command: How it is started; ``{fd}`` stands for its listening socket, ``{port}`` for a port it has to take.
        billing: Who is billed.
        directory: Where it may write.
        environment: What it finds there besides.

    Attributes:
        sent: How many metered requests left.
        complete: How many of their responses arrived, to the last byte.
        workers: The processes that answered them.
    """

    def __init__(self, command: Sequence[str], billing: Billing, directory: Path, **environment: str) -> None:
        self._command = command
        self._billing = billing
        self._directory = directory
        self._log = directory / "server.log"
        self._environment = environment
        self._answered = threading.Condition()
        self._open = ExitStack()
        self._gone = False
        self.sent = 0
        self.complete = 0
        self.workers: set[int] = set()

    def __enter__(self) -> Server:  # noqa: PYI034 - typing.Self needs Python 3.11
        self._gate = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._gate.settimeout(GUARD)
        environment = {
            **os.environ,
            **self._billing.environment,
            "PYTHONPATH": PYTHONPATH,
            "SERVED_GATE": f"127.0.0.1:{self._gate.getsockname()[1]}",
            "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": str(GUARD),  # or it kills a worker that is slow
            "XDG_RUNTIME_DIR": str(self._directory),  # gunicorn's control socket
            **self._environment,
        }
        takes_port = any("{port}" in word for word in self._command)
        with self._port(listening=not takes_port) as listener, self._log.open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # held by all processes that inherit the log, until the last one is gone
            self._process = subprocess.Popen(
                [word.format(fd=listener.fileno(), port=self._number) for word in self._command],
                cwd=self._directory,
                env={**environment, "SERVED_SAYS_UP": "yes"} if takes_port else environment,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if takes_port:
            self._wait_for_granian()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_all()
        self._open.close()
        print(self.log)  # for the report of a test that fails

    def connect(self) -> socket.socket:
        """A connection to it, for what `ask` cannot do."""
        return socket.create_connection(("127.0.0.1", self._number), timeout=GUARD)

    @property
    def log(self) -> str:
        """What its processes have said so far."""
        return self._log.read_text(errors="replace")

    def ask(self, query: str = "") -> int | None:
        """
        Send one request, on a connection of its own.

        Returns:
            The process that answered; None if no complete response came.

        Raises:
            ConnectionRefusedError: There is no server; nothing was sent.
        """
        with closing(http.client.HTTPConnection("127.0.0.1", self._number, timeout=GUARD)) as connection:
            try:
                connection.connect()
            except ConnectionResetError as error:  # the server closed its socket amidst the handshake
                raise ConnectionRefusedError from error
            with self._answered:
                self.sent += 1
            try:
                connection.request("GET", f"/?{query}", headers={"X-Company": self._billing.company})
                response = connection.getresponse()
                response.read()
            except TimeoutError:
                raise AssertionError("the server hangs") from None
            except (OSError, http.client.HTTPException):
                return None
        if response.status != 200:
            return None
        worker = int(response.headers["X-Worker"])
        with self._answered:
            self.complete += 1
            self.workers.add(worker)
            self._answered.notify_all()
        return worker

    def ask_times(self, times: int) -> set[int]:
        """So many requests, all of which are answered; by these processes."""
        workers = [self.ask() for _ in range(times)]
        assert None not in workers, "a response did not come"
        return {worker for worker in workers if worker is not None}

    def health(self) -> dict[str, Any]:
        """What the kit of a worker says of itself."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._number, timeout=GUARD)) as connection:
            connection.request("GET", "/health")
            return json.loads(connection.getresponse().read())

    def gated(self) -> socket.socket:
        """A request to ``/?gate`` or ``/?hang`` that has arrived; it is answered when this is closed, or never."""
        return self._gate.accept()[0]

    @contextmanager
    def load(self) -> Iterator[None]:
        """Several clients that send without a pause, until the block ends or the server is gone."""
        over = threading.Event()

        def send() -> None:
            with suppress(ConnectionRefusedError):
                while not over.is_set():
                    self.ask()

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(send) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                over.set()
            for client in clients:
                client.result()

    def load_until_all_work(self, workers: int = 2) -> None:
        """
        Load until each of the workers has answered.

        One that is told to stop while it starts may not hear it: gunicorn, for example, kills it half a minute later.
        """
        with self.load():
            self._wait_until(lambda: len(self.workers) >= workers)

    def wait_for(self, responses: int) -> None:
        """Until so many more responses are complete."""
        goal = self.complete + responses
        self._wait_until(lambda: self.complete >= goal)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, as an operator does."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, figure: str) -> None:
        """Signal, and wait for the end of all its processes; how long that takes is noted."""
        begun = time.monotonic()
        self.send_signal(number)
        self.wait()
        note_figure(f"exit: {figure}", signal=number.name, seconds=round(time.monotonic() - begun, 3))

    def wait(self) -> None:
        """Until the last of its processes is gone."""
        with self._log.open() as log:
            last = threading.Thread(target=fcntl.flock, args=(log, fcntl.LOCK_EX), daemon=True)
            last.start()
            last.join(GUARD)
            if hangs := last.is_alive():
                self._kill_all()
                last.join()
        assert not hangs, "the server does not exit"
        self._process.wait()
        self._gone = True

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        with self._answered:
            assert self._answered.wait_for(condition, timeout=GUARD), "the server answers no more"

    def _port(self, *, listening: bool) -> socket.socket:
        """A socket that is handed over, or that keeps a port from everyone but this server, which takes it, too."""
        taken = socket.socket()
        if listening:
            # Inherited by the connections. uvicorn does not know that what it gets is TCP, and would not set it.
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        self._number = taken.getsockname()[1]
        return taken

    def _wait_for_granian(self) -> None:
        """
        Until all of its workers have started. One that is told to stop before that never does.

        It takes no socket that listens already, so nobody queues up until it listens.
        """
        self.gated().close()  # one has loaded the app, so that the rest is a moment
        workers = int(self._command[self._command.index("--workers") + 1])
        for _ in tries():
            if self.log.count("Started worker-") >= workers:
                break
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self._number)).close()

    def _kill_all(self) -> None:
        if self._gone:
            return  # its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
