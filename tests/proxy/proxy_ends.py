"""Both ends of a proxy: an app that is told what to answer, byte by byte, and a client; all on real sockets."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import uvicorn
from guard import GUARD, tries

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawApp:
    """
    Listens, and lets `answer` see to each connection, in a thread of its own.

    Args:
        answer: Function of the app and a connection.
        path: Path of a Unix socket to listen on; by default, a port of the loopback interface.
    """

    def __init__(self, answer, *, path=None) -> None:
        self.requests: list[bytes] = []
        self.more = threading.Condition()
        self.connections = 0
        self.ended = 0
        self._answer = answer
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
            self.url = f"unix:{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait(self, what) -> None:
        """Until *what* is so."""
        with self.more:
            assert self.more.wait_for(what, timeout=GUARD)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self.more:
                self.connections += 1
                self.more.notify_all()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection) -> None:
        with connection, suppress(OSError):
            connection.settimeout(GUARD)
            self._answer(self, connection)
        with self.more:
            self.ended += 1
            self.more.notify_all()

    @staticmethod
    def _more(connection) -> bytes:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the proxy has given up")
        return piece

    def read(self, connection) -> bytes:
        """Read one request, and keep its bytes; empty if there is none."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return b""
            data += piece
        head = data.partition(b"\r\n\r\n")[0].lower()
        if b"transfer-encoding: chunked" in head:
            while not data.endswith(b"0\r\n\r\n"):
                data += self._more(connection)
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(data) < len(head) + 4 + length:
            data += self._more(connection)
        with self.more:
            self.requests.append(data)
            self.more.notify_all()
        return data


def answering(*answers):
    """For `RawApp`: to one request after the other, on all connections, these bytes; the last one again and again."""
    left = list(answers)

    def answer(app, connection) -> None:
        while app.read(connection):
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return answer


@contextmanager
def served(app, **options):
    """Serve an ASGI app as ``meterkit proxy`` does; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        as_the_command = {
            "http": "h11",
            "ws": "websockets-sansio",
            "proxy_headers": False,
            "server_header": False,
            "date_header": False,
        }
        config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False, **as_the_command, **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            for _ in tries():
                if server.started:
                    break
                assert thread.is_alive()
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(GUARD)


def connect(port):
    """A connection to the proxy."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=GUARD)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(port, request: bytes) -> bytes:
    """Send *request*, which has to close the connection, and return all that comes back."""
    with connect(port) as connection:
        connection.sendall(request)
        answer = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def get(path=b"/", *headers: bytes, method=b"GET", body=b"") -> bytes:
    """A request that closes its connection."""
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: api.example", b"X-Api-Key: acme", b"Connection: close"]
    return b"\r\n".join([*lines, *headers, b"", body])
