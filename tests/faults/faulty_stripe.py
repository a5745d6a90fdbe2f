"""
Stripes that no sandbox would be: they drip, hang up, answer without reading, or say what is no answer of Stripe's.

For the wire below HTTP, and for answers that come from something else than Stripe. All else is the sandbox's.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading

from guard import GUARD

PACE = 0.02
"""Seconds between two bytes of a Stripe that drips."""

OTHERS = {
    "id": "evt_1",
    "object": "billing.meter_event",
    "created": 1,
    "event_name": "calls",
    "identifier": "of_somebody_else",
    "livemode": False,
    "payload": {"value": "3", "stripe_customer_id": "cus_other"},
    "timestamp": 1,
}


class FaultyStripe:
    """
    Listens on the loopback, and does the same to every connection.

    Args:
        talk: What it does: it gets the connection, and an event that is set when all is over.

    Attributes:
        asked: Set as soon as somebody has connected.
    """

    def __init__(self, talk):
        self.asked = threading.Event()
        self._talk = talk
        self._over = threading.Event()
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work, *arguments):
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(GUARD)
            self.asked.set()
            self._talk(connection, self._over)


def read_request(connection):
    """One whole request."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(4096)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(4096)


def answer_of(status, body, kind="application/json", *, length=None):
    """An answer of HTTP/1.1, which promises as much as it holds, or *length*."""
    promised = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {promised}\r\n\r\n".encode() + body


def says(answer):
    """Reads a request, answers, and hangs up."""

    def talk(connection, _over):
        read_request(connection)
        connection.sendall(answer)

    return talk


def never_reads(connection, over):
    """Answers at the first byte, with somebody else's event, and reads no other."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.recv(1)
    connection.sendall(answer_of("200 OK", json.dumps(OTHERS).encode()))
    over.wait()


def drips(head):
    """Answers with *head*, and then a byte at a time that says nothing, without an end."""

    def talk(connection, over):
        read_request(connection)
        connection.sendall(head)
        while not over.wait(PACE):
            connection.sendall(b" ")

    return talk


def drips_to_the_end(connection, over):
    """Answers a byte at a time, with somebody else's event, and hangs up when that is said."""
    read_request(connection)
    for byte in answer_of("200 OK", json.dumps(OTHERS).encode()):
        if over.wait(PACE / 10):
            return
        connection.sendall(bytes([byte]))


def hangs_up(connection, _over):
    """Reads a request, and closes without an answer."""
    read_request(connection)


DRIPS = {
    "body": drips(answer_of("200 OK", b"", length=10**6)),
    "head": drips(b"HTTP/1.1 200 OK\r\nX-Long:"),
}
"""They never come to an end."""

WIRES = {
    "never-reads": never_reads,
    "drips": drips_to_the_end,
    "hangs-up": hangs_up,
    "breaks-off": says(answer_of("200 OK", json.dumps(OTHERS).encode(), length=10**4)),
    "no-http": says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "says-nothing": says(b""),
    "bad-gzip": says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
}
"""What becomes of an exchange on the wire."""

BODIES = {
    "of-somebody-else": json.dumps(OTHERS).encode(),
    "a-customer": b'{"id": "cus_1", "object": "customer"}',
    "a-list": b'{"object": "list", "data": [], "has_more": false, "url": "/v1"}',
    "no-object": b"[]",
    "null": b"null",
    "a-number": b"42",
    "a-string": b'"ok"',
    "an-empty-object": b"{}",
    "an-error": b'{"error": {"message": "no"}}',
    "a-text-as-error": b'{"error": "no"}',
    "no-utf-8": b'{"identifier": "\xff\xfe"}',
    "deep": b"[" * 100_000,
}
"""Answers of 200 that are none to a meter event."""

PAGES = {
    "html": (b"<html><h1>gateway</h1></html>", "text/html"),
    "json": (b'{"message": "no route matched"}', "application/json"),
    "words": (b"<p>An event already exists with identifier mk_1.</p>", "text/html"),
}

STATUSES = ["302 Found", "400 Bad Request", "403 Forbidden", "404 Not Found", "413 Content Too Large"]

REFUSALS = {
    f"{status[:3]}-{name}": says(answer_of(status, *page)) for status in STATUSES for name, page in PAGES.items()
}
"""Refusals that a proxy or a gateway made up: none of them is Stripe's."""
