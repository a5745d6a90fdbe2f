"""Servers in miniature: they call an app as PEP 3333 and ASGI say, and write down what they are handed, in order."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

LEAVES = ["disconnect", "send", "cancel"]
"""How servers tell an ASGI app that the client is gone."""

LOG = "test.log"
"""The key in the environ or scope under which an app finds the log, to write down what it does itself."""


@dataclass
class Answer:
    """
    What a server was handed.

    Attributes:
        log: What the server got and what the app did, in one order.
        watched: What *watch* answered each time that the server got something.
        error: What the app raised.
        returned: The object that a WSGI app returned.
    """

    log: list[Any] = field(default_factory=list)
    watched: list[tuple[Any, Any]] = field(default_factory=list)
    error: BaseException | None = None
    returned: Any = None
    watch: Callable[[], Any] = lambda: None

    def got(self, *event: Any) -> None:
        self.log.append(event)
        self.watched.append((event, self.watch()))

    @property
    def status(self) -> int | None:
        return next((event[1] for event in reversed(self.log) if event[0] == "start"), None)

    @property
    def headers(self) -> list[tuple[str, str]]:
        return next(event[2] for event in reversed(self.log) if event[0] == "start")

    @property
    def body(self) -> bytes:
        return b"".join(event[1] for event in self.log if event[0] in ("body", "write"))


def environ_for(method: str = "GET", path: str = "/", headers: dict[str, str] | None = None) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in (headers or {}).items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def call_wsgi(
    app: Any,
    method: str = "GET",
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    environ: dict[str, Any] | None = None,
    payload: bytes = b"",
    leave_after: int | None = None,
    watch: Callable[[], Any] = lambda: None,
) -> Answer:
    """Serve one request. The client leaves after *leave_after* chunks: what follows is not asked for."""
    answer = Answer(watch=watch)
    sent = {"CONTENT_LENGTH": str(len(payload)), "wsgi.input": io.BytesIO(payload)} if payload else {}
    environ = {**environ_for(method, path, headers), LOG: answer.log, **sent, **(environ or {})}

    def start_response(status: str, headers: list[tuple[str, str]], *exc_info: Any, **named: Any) -> Any:
        answer.got("start", int(status[:3]), list(headers), len(exc_info), tuple(named))
        return lambda data: answer.got("write", data)

    body: Any = None
    try:
        try:
            body = answer.returned = app(environ, start_response)
            if leave_after != 0:
                for number, data in enumerate(body, start=1):
                    answer.got("body", data)
                    if number == leave_after:
                        break
                else:
                    answer.got("end")
        finally:
            if hasattr(body, "close"):
                body.close()
    except BaseException as error:
        answer.error = error
    return answer


def scope_for(method: str = "GET", path: str = "/", headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")]
        + [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "state": {},
    }


def call_asgi(
    app: Any,
    method: str = "GET",
    path: str = "/",
    *,
    headers: dict[str, str] | None = None,
    scope: dict[str, Any] | None = None,
    payload: bytes = b"",
    leave: str = "",
    watch: Callable[[], Any] = lambda: None,
) -> Answer:
    """
    Serve one request.

    The client may *leave* after the first chunk: "disconnect" is received, "send" raises OSError, and "cancel" cancels
    the app's task.
    """
    answer = Answer(watch=watch)
    scope = {**scope_for(method, path, headers), LOG: answer.log, **(scope or {})}
    asyncio.run(_serve(app, scope, payload, leave, answer))
    return answer


async def _serve(app: Any, scope: dict[str, Any], payload: bytes, leave: str, answer: Answer) -> None:  # noqa: C901 - a whole server
    half = len(payload) // 2
    unread = [{"type": "http.request", "body": payload[half:], "more_body": False}]
    if half:
        unread.append({"type": "http.request", "body": payload[:half], "more_body": True})
    ended, left, first_chunk = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        done = left if leave == "disconnect" else ended
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if leave == "send" and first_chunk.is_set():
            raise OSError("the client is gone")  # a new one: its traceback holds what it went through
        if message["type"] == "http.response.start":
            answer.got("start", message["status"], _text(message["headers"]), message.get("trailers"))
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            answer.got("body", message.get("body", b""), more)
            if not more:
                ended.set()
            first_chunk.set()
            left.set()
        else:
            answer.got("sent", dict(message))

    async def main() -> None:
        try:
            await app(scope, receive, send)
        except BaseException as error:
            answer.error = error

    task = asyncio.create_task(main())
    if leave == "cancel":
        await first_chunk.wait()
        task.cancel()
    await task


def _text(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


class Body:
    """A body that counts how often it is closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        self.closed += 1


def answering(body: Any, *headers: tuple[str, str], status: str = "200 OK") -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, list(headers))
        return body

    return app
