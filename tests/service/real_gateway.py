"""Real gateways, with the configuration that the docs show, before an app that tells what it is sent."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from guard import GUARD, tries
from service_client import GATEWAY

PAGE = Path(__file__).parents[2] / "docs" / "service.md"

REQUIRED = os.environ.get("METERKIT_GATEWAYS") == "required"
"""Whether a machine without a gateway fails these tests, as in ``nox -s gateways``; elsewhere it skips them."""

PORTS = {"8080": "front", "3000": "app", "8350": "service", "8351": "fallback"}
"""The ports that the docs write, and what is there."""


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped, or fails, where it is not."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        message = f"there is no {name} (Debian: apt-get install {package}); see nox -s gateways"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    return found


def blocks(heading: str) -> dict[str, str]:
    """The code blocks of a section of the page, by language."""
    section = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    text = next(each for each in section if each.startswith(f"{heading}\n"))
    return dict(re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Ports(dict[str, int]):
    """The real ports, and the docs' configuration with them."""

    def __init__(self) -> None:
        super().__init__({what: free_port() for what in PORTS.values()})

    def put_in(self, text: str) -> str:
        for written, what in PORTS.items():
            text = re.sub(rf"(?<=[:\s]){written}\b", str(self[what]), text)
        return text.replace("the-secret-of-the-gateway", GATEWAY)


class Reply:
    """What a client received."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks a gateway."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, path: str = "/calls", method: str = "GET", body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            with suppress(BrokenPipeError):  # it may refuse the request before all of the body is sent
                connection.request(method, path, body, named)
            return Reply(connection.getresponse())
        finally:
            connection.close()


class _App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        is_chunked = self.headers.get("Transfer-Encoding") == "chunked"
        sent = self._chunks() if is_chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = {
            "method": self.command,
            "path": self.path,
            "body": sent.decode(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(seen).encode()
        self.server.seen.append(seen)  # type: ignore[attr-defined]
        self.send_response(int(self.path.rpartition("status=")[2]) if "status=" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    do_GET = do_POST = do_PUT = do_HEAD = _serve

    def log_message(self, *_: Any) -> None:
        pass


class _AppServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Gateways reset connections that they do not need any more."""


@contextmanager
def upstream(port: int) -> Iterator[list[dict[str, Any]]]:
    """An app that responds what it was sent; yields all that it was sent."""
    server = _AppServer(("127.0.0.1", port), _App)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running(command: list[str], directory: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens at *port*; what it said is shown if a test fails."""
    log = directory / f"{Path(command[0]).name}.log"
    with log.open("wb") as file, ExitStack() as stack:
        process = subprocess.Popen(
            command, cwd=directory, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
        stack.callback(lambda: print(log.read_text(errors="replace")))
        stack.callback(process.wait, GUARD)
        stack.callback(_end, process)
        for _ in tries(lambda: log.read_text(errors="replace")):
            assert process.poll() is None, log.read_text(errors="replace")
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), GUARD).close()
                break
        yield process


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)


@contextmanager
def nginx(directory: Path, ports: Ports) -> Iterator[None]:
    text = ports.put_in(blocks("nginx")["nginx"])
    temporary = "".join(
        f"{each}_temp_path {directory}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; user root; pid {directory}/nginx.pid; error_log stderr info;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    command = [program("nginx", "nginx-light"), "-p", str(directory), "-c", "nginx.conf"]
    with running(command, directory, ports["front"]):
        yield


@contextmanager
def caddy(directory: Path, ports: Ports) -> Iterator[None]:
    text = blocks("Caddy")["caddyfile"]
    (directory / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https off\n}\n" + ports.put_in(text))
    command = [program("caddy", "caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with running(command, directory, ports["front"], HOME=str(directory), XDG_DATA_HOME=str(directory)):
        yield


@contextmanager
def haproxy(directory: Path, ports: Ports) -> Iterator[None]:
    found = blocks("HAProxy")
    (directory / "meterkit.lua").write_text(found["lua"])
    text = ports.put_in(found["haproxy"]).replace("/etc/haproxy", str(directory))
    (directory / "haproxy.cfg").write_text(text)
    command = [program("haproxy", "haproxy"), "-db", "-f", "haproxy.cfg"]
    with running(command, directory, ports["front"]):
        yield


MODULES = Path("/usr/lib/apache2/modules")


@contextmanager
def apache(directory: Path, ports: Ports) -> Iterator[None]:
    command = [program("apache2", "apache2 lua-socket"), "-X", "-f", str(directory / "apache.conf")]
    found = blocks("Apache")
    (directory / "meterkit.lua").write_text(ports.put_in(found["lua"]))
    loaded = "".join(
        f"LoadModule {each}_module {MODULES}/mod_{each}.so\n"
        for each in ("mpm_event", "authz_core", "unixd", "proxy", "proxy_http", "lua")
        if (MODULES / f"mod_{each}.so").exists()
    )
    text = ports.put_in(found["apache"]).replace("/etc/apache2", str(directory))
    (directory / "apache.conf").write_text(
        f"ServerRoot {directory}\nPidFile apache.pid\nServerName localhost\nErrorLog /dev/stderr\n{loaded}{text}"
    )
    with running(command, directory, ports["front"]):
        yield


GATEWAYS = {"nginx": nginx, "Caddy": caddy, "HAProxy": haproxy, "Apache": apache}
