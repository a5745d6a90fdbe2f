"""The HTTP server: HTTP/1.1 with keep-alive on the loopback, with a thread for each connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.frame import Reply, Request, Reset

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("meterkit.sandbox")

POLL = 0.02  # seconds between two checks whether to stop


class Server(ThreadingHTTPServer):
    """
    A server that keeps track of its connections, so that it can end them.

    Args:
        port: TCP port; 0 for any free port.
        respond: Function that maps a request to a reply; called by many threads at once.

    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, respond: Callable[[Request], Reply | Reset]) -> None:
        self.respond = respond
        self._connections: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []  # includes threads that are about to end
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(POLL,), name="meterkit-sandbox", daemon=True
        )

    def start(self) -> None:
        """Start to accept connections."""
        self._accepting.start()

    def stop(self) -> None:
        """End every connection and thread. Held requests must have been released before."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):  # it may have been closed a moment ago
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._workers:
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="meterkit-sandbox-connection",
            daemon=True,
        )
        with self._connections_lock:
            self._connections.add(request)
        self._workers = [each for each in self._workers if each.is_alive()]
        thread.start()
        self._workers.append(thread)

    def shutdown_request(self, request: Any) -> None:
        """End a connection; one whose linger time is 0 seconds is reset."""
        with self._connections_lock:
            self._connections.discard(request)
        if _is_reset(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """Log clients that disconnect at debug level only."""
        logger.debug("A connection from %s broke.", client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body are sent in one packet

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            self.close_connection = True
            self.send_error(411)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # the client disconnected; the part received may look like a whole request
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        outcome = self.server.respond(Request(self.command, path, query, headers, body))
        if isinstance(outcome, Reset):
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        self.send_response_only(outcome.status)
        self.send_header("Server", "nginx")
        for name, value in outcome.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(outcome.body)))
        self.end_headers()
        self.wfile.write(outcome.body)

    do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Log at debug level, so that a test suite's output stays clean."""
        logger.debug(format, *args)


def _is_reset(connection: socket.socket) -> bool:
    linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.calcsize("ii"))
    return struct.unpack("ii", linger) == (1, 0)
