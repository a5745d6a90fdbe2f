"""Real servers with one worker, and a client that sends bytes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from guard import GUARD, tries

import meterkit

HERE = Path(__file__).parent
PYTHONPATH = os.pathsep.join([str(HERE), str(HERE.parent), str(Path(meterkit.__file__).parents[1])])

PYTHON = [sys.executable, "-m"]
GUNICORN = [*PYTHON, "gunicorn", "--bind", "fd://{fd}", "--timeout", str(GUARD)]
GRANIAN = [*PYTHON, "granian", "--port", "{port}", "--workers", "1"]
COMMANDS = {
    "gunicorn": [*GUNICORN, "--threads", "4", "hostile_app:wsgi"],
    "gunicorn-gevent": [*GUNICORN, "--worker-class", "gevent", "hostile_app:wsgi"],
    "uwsgi": [
        str(Path(sysconfig.get_path("scripts")) / "pyuwsgi"),
        *("--http-socket", "fd://{fd}", "--module", "hostile_app:wsgi", "--enable-threads", "--threads", "4"),
        *("--need-app", "--buffer-size", "32768", "--die-on-term"),
    ],
    "granian-wsgi": [*GRANIAN, "--interface", "wsgi", "hostile_app:wsgi"],
    "waitress": [sys.executable, str(HERE / "hostile_small_servers.py"), "waitress", "{fd}"],
    "gevent": [sys.executable, str(HERE / "hostile_small_servers.py"), "gevent", "{fd}"],
    "wsgiref": [sys.executable, str(HERE / "hostile_small_servers.py"), "wsgiref", "{fd}"],
    "werkzeug": [sys.executable, str(HERE / "hostile_small_servers.py"), "werkzeug", "{fd}"],
    "uvicorn": [*PYTHON, "uvicorn", "--fd", "{fd}", "--lifespan", "off", "hostile_app:asgi"],
    "hypercorn": [*PYTHON, "hypercorn", "--bind", "fd://{fd}", "hostile_app:asgi"],
    "granian": [*GRANIAN, "--interface", "asginl", "hostile_app:asgi"],
}
ASYNC = ("uvicorn", "hypercorn", "granian")


@contextmanager
def serving(server: str, framework: str, directory: Path) -> Iterator[int]:
    """Serve `hostile_app` on a port of its own; killed at the end."""
    takes_port = any("{port}" in word for word in COMMANDS[server])
    log = directory / "server.log"
    with socket.socket() as taken, log.open("wb") as said:
        if takes_port:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        if not takes_port:
            taken.listen(128)
        port = taken.getsockname()[1]
        environment = {
            **os.environ,
            "HOSTILE_FRAMEWORK": framework,
            "HOSTILE_DIRECTORY": str(directory),
            "PYTHONPATH": PYTHONPATH,
            "XDG_RUNTIME_DIR": str(directory),
        }
        process = subprocess.Popen(
            [word.format(fd=taken.fileno(), port=port) for word in COMMANDS[server]],
            cwd=directory,
            env=environment,
            pass_fds=[taken.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            for _ in tries(lambda: log.read_text(errors="replace")):
                assert process.poll() is None, log.read_text(errors="replace")
                with suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
            yield port
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(log.read_text(errors="replace")[-20_000:])  # for the report of a test that fails


def send(port: int, request: bytes) -> tuple[int, bytes]:
    """Send *request*, and return the status and the body of the response; 0 if what comes is none."""
    method = "HEAD" if request.lstrip().upper().startswith(b"HEAD") else "GET"
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD) as connection:
        with suppress(ConnectionError):  # the server may have enough before the end
            connection.sendall(request)
        response = HTTPResponse(connection, method=method)
        try:
            response.begin()
            return response.status, response.read()
        except TimeoutError:
            raise
        except (HTTPException, ConnectionError, ValueError):
            return 0, b""
        finally:
            response.close()
