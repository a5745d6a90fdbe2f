"""A proxy on the loopback between meterkit and PostgreSQL: breaks connections at a commit, or holds up a message."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

COMMIT = b"COMMIT\0"
"""As it stands in a message of PostgreSQL's protocol."""

FOLD = b"INSERT INTO meterkit_folds"
"""What only a transaction says that folds a generation."""


class Proxy:
    """
    Passes everything on, in a with statement; some commits or their answers it does not.

    Args:
        port: Of the server.

    Attributes:
        commits: How many came by.
        broken: How many of them it broke.
    """

    def __init__(self, port: int) -> None:
        self.commits = 0
        self.broken = 0
        self._server = ("127.0.0.1", port)
        self._plan: dict[int, bool] = {}  # which commit, and whether the server gets it
        self._fold_reaches: bool | None = None
        self._hold_text = b""
        self._held = threading.Event()
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        self._thread(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        _shut(self._listener)
        self._threads[0].join()
        for each in self._open:
            _shut(each)
        for thread in self._threads:
            thread.join()
        for each in [self._listener, *self._open]:
            each.close()

    def lose_commit(self, number: int = 1) -> None:
        """The *number*-th commit from now on does not reach the server; the connection breaks."""
        self._plan[self.commits + number] = False

    def lose_answer(self, number: int = 1) -> None:
        """The *number*-th commit from now on is done, and the connection breaks before the answer comes back."""
        self._plan[self.commits + number] = True

    def lose_fold(self, *, answer_only: bool) -> None:
        """As `lose_commit` or `lose_answer`, the commit of the next transaction that folds a generation."""
        self._fold_reaches = answer_only

    def hold(self, text: bytes) -> None:
        """The next message with *text* in it reaches the server only after `release`."""
        self._hold_text = text

    def wait_until_held(self, timeout: float) -> bool:
        """Whether such a message has come within so many seconds."""
        return self._held.wait(timeout)

    def release(self) -> None:
        """Let it go on."""
        self._released.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    self._open += [client, server]
                breaking = threading.Event()
                self._thread(self._ask, client, server, breaking)
                self._thread(self._answer, client, server, breaking)

    def _ask(self, client: socket.socket, server: socket.socket, breaking: threading.Event) -> None:
        fold: list[bool] = []  # whether the commit of the fold on this connection is to reach the server
        with suppress(OSError):
            while data := client.recv(65536):
                if self._fold_reaches is not None and FOLD in data:
                    fold, self._fold_reaches = [self._fold_reaches], None
                reaches = self._meets_commit(data, fold)
                if reaches is False:
                    break
                if reaches:
                    breaking.set()  # when the answer is there: only then it is sure that the server has done it
                if self._hold_text and self._hold_text in data:
                    self._hold_text = b""
                    self._held.set()
                    self._released.wait()
                server.sendall(data)
        _shut(client)
        _shut(server)

    def _answer(self, client: socket.socket, server: socket.socket, breaking: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not breaking.is_set():
                client.sendall(data)
        _shut(client)
        _shut(server)

    def _meets_commit(self, data: bytes, fold: list[bool]) -> bool | None:
        """None to pass it on as usual; else whether it is to reach the server."""
        if COMMIT not in data:
            return None
        with self._lock:
            self.commits += 1
            reaches = fold.pop() if fold else self._plan.pop(self.commits, None)
            self.broken += reaches is not None
        return reaches

    def _thread(self, run, *arguments) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
