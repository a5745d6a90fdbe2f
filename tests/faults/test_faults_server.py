"""Servers that break PEP 3333: what they sent of a response is paid for, whether they ask for the rest or not."""

from __future__ import annotations

import gc
import http.client
import io
import socketserver
import threading
from contextlib import contextmanager

import pytest
from guard import GUARD
from plain_exchange import counted

from meterkit import Meter
from meterkit.wsgi import MeterMiddleware

pytestmark = pytest.mark.long


class OneChunk(socketserver.StreamRequestHandler):
    """Takes the first chunk of a body, sends it, and forgets the body: it asks for no more, and closes nothing."""

    def handle(self):
        method, path, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO()}
        body = self.server.app(environ, self.start_response)
        if path != "/forgotten-unread":
            self.wfile.write(next(iter(body)))

    def start_response(self, status, headers, _exc_info=None):
        self.wfile.write(f"HTTP/1.0 {status}\r\n".encode())
        self.wfile.writelines(f"{name}: {value}\r\n".encode() for name, value in headers)
        self.wfile.write(b"\r\n")
        return self.wfile.write


class Server(socketserver.ThreadingTCPServer):
    """Waits for all its threads when it is closed."""

    daemon_threads = False
    block_on_close = True


class Rows:
    """A body that is told when it is closed, and ends where the test says."""

    def __init__(self, *chunks):
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._chunks)

    def close(self):
        self.closed += 1


@contextmanager
def served(app):
    """Where the server listens; at the end of the block it has answered everything, and forgotten all bodies."""
    with Server(("127.0.0.1", 0), OneChunk) as server:
        server.app = app
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()
    gc.collect()


def get(port, path="/"):
    """The response's status and body, as far as it came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def answering(make_body, status="200 OK"):
    """An app whose body is made anew for each request."""

    def app(environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        return make_body()

    return app


def a_generator():
    yield b"one,"
    yield b"two,"


BODIES = {
    "generator": a_generator,
    "iterator": lambda: iter([b"one,", b"two,"]),
    "rows": lambda: Rows(b"one,", b"two,"),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_server_that_forgets_a_body(make_kit, body):
    """The client has got what it was sent, and pays for the call, and for so many bytes."""
    kit = make_kit(Meter("calls"), Meter("egress", value="response_bytes"), identify=lambda _: "acme")
    app = answering(BODIES[body])
    with served(app) as port:
        bare = get(port)
    with served(MeterMiddleware(app, kit)) as port:
        metered = [get(port) for _ in range(3)]

    assert [bare] * 3 == metered
    assert (200, b"one,") == bare
    assert {("calls", "acme"): 3, ("egress", "acme"): 12} == counted(kit)


def test_a_server_that_forgets_a_body_that_it_never_began(make_kit):
    """Its status line has left, so the call counts."""
    kit = make_kit(identify=lambda _: "acme")
    with served(MeterMiddleware(answering(a_generator), kit)) as port:
        answer = get(port, "/forgotten-unread")

    assert (200, b"") == answer
    assert {("calls", "acme"): 1} == counted(kit)


def test_a_failure_that_is_forgotten(make_kit):
    """What is no success is none for having been forgotten."""
    kit = make_kit(Meter("calls"), Meter("broke", status="5xx"), identify=lambda _: "acme")
    with served(MeterMiddleware(answering(a_generator, "503 Service Unavailable"), kit)) as port:
        assert (503, b"one,") == get(port)

    assert {("broke", "acme"): 1} == counted(kit)


def test_a_body_that_was_closed_is_not_counted_again(make_kit):
    """A proper server closes the body, and forgets it then."""
    kit = make_kit(identify=lambda _: "acme")
    body = MeterMiddleware(answering(a_generator), kit)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    next(iter(body))
    body.close()
    del body
    gc.collect()

    assert {("calls", "acme"): 1} == counted(kit)


def test_many_clients_of_a_forgetful_server(make_kit):
    """Finalisers run in whichever thread comes by; the sum is exact."""
    kit = make_kit(identify=lambda _: "acme", flush_interval=0.001)
    with served(MeterMiddleware(answering(a_generator), kit)) as port:
        clients = [threading.Thread(target=lambda: [get(port) for _ in range(25)]) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    assert {("calls", "acme"): 200} == counted(kit)
