"""Who pays for what a stream says as it ends: its own company, whether the client stays, leaves or left long ago."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import LEAVES, call_asgi, call_wsgi
from adapter_usage import usage_of
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import meterkit
import meterkit.asgi
import meterkit.flask
from meterkit import Exchange, Meter, MeterKit


def who(exchange: Exchange) -> str | None:
    return exchange.headers.get("who")


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    """Bills whoever a header names, for tokens."""
    return make_kit(Meter("tokens", value="tokens"), identify=who)


def tokens_by_company(kit: MeterKit) -> dict[str, int]:
    kit.flush()
    return {row.company: row.quantity for row in kit.usage()}


def chunks(number: int = sys.maxsize, usage: meterkit.ExchangeUsage | None = None) -> Iterator[bytes]:
    """A stream that knows what it has used when it ends."""
    used = 0
    try:
        for _ in range(number):
            used += 10
            yield b"some"
    finally:
        add: Any = meterkit.add_usage if usage is None else usage.add
        add("tokens", used)


async def async_chunks() -> AsyncIterator[bytes]:
    used = 0
    try:
        while True:
            used += 10
            yield b"some"
            await asyncio.sleep(0)
    finally:
        meterkit.add_usage("tokens", used)


def flask_app(kit: MeterKit) -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/")
    def view() -> flask.Response:
        return flask.Response(chunks(4))

    meterkit.flask.init_app(app, kit)
    return app


def django_app(kit: MeterKit) -> Any:
    def view(_: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(chunks(4))

    return django_handler(kit, ROOT_URLCONF=(path("", view),))


WSGI = {"flask": flask_app, "django": django_app}


@pytest.mark.parametrize("make", WSGI.values(), ids=WSGI)
@pytest.mark.parametrize(("leave_after", "used"), [(None, 40), (2, 20)], ids=["stays", "leaves"])
def test_a_stream_of_wsgi(kit: MeterKit, make: Any, leave_after: int | None, used: int) -> None:
    """The server closes the body, in its own context: what the stream says then is its own."""
    call_wsgi(make(kit), headers={"who": "acme"}, leave_after=leave_after)

    assert {"acme": used} == tokens_by_company(kit)


def starlette(kit: MeterKit, view: Any) -> Any:
    return meterkit.asgi.MeterMiddleware(Starlette(routes=[Route("/", view)]), kit)


class Left:
    """Streams that the server gave up: nobody closes them but whoever drops them."""

    def __init__(self) -> None:
        self.streams: list[Iterator[bytes]] = []

    def keep(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        self.streams.append(stream)
        return stream

    def drop(self) -> None:
        while self.streams:
            self.streams.pop().close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("leave", LEAVES)
def test_a_sync_stream_of_asgi_is_dropped_in_the_request_of_another(kit: MeterKit, leave: str) -> None:
    """
    By the functions of the module, it counts for nobody, and health says so; by the handle, for its own company.
    """
    left = Left()

    async def view(request: Request) -> Response:
        if request.headers["who"] == "globex":
            left.drop()
            return PlainTextResponse("done")
        usage = meterkit.usage() if request.headers["who"] == "careful" else None
        return StreamingResponse(left.keep(chunks(usage=usage)))

    app = starlette(kit, view)
    for company in ("acme", "careful"):
        call_asgi(app, headers={"who": company}, leave=leave)
    call_asgi(app, headers={"who": "globex"})

    assert {"careful"} == set(tokens_by_company(kit))
    assert kit.health()["problems"]["finalised"]["units"] >= 10


@pytest.mark.parametrize("leave", ["disconnect", "cancel"])
def test_an_async_stream_of_asgi(kit: MeterKit, leave: str) -> None:
    """It is ended at its ``await``, in its own context."""

    async def view(_: Request) -> Response:
        return StreamingResponse(async_chunks())

    call_asgi(starlette(kit, view), headers={"who": "acme"}, leave=leave)

    assert {"acme"} == set(tokens_by_company(kit))


def test_background_work(kit: MeterKit) -> None:
    """Starlette runs it after the response."""

    async def view(_: Request) -> Response:
        usage = meterkit.usage()
        return PlainTextResponse("done", background=BackgroundTask(lambda: usage.add("tokens", 5)))

    call_asgi(starlette(kit, view), headers={"who": "acme"})

    assert {"acme": 5} == tokens_by_company(kit)


def test_an_executor_that_copies_no_context(kit: MeterKit) -> None:
    """As ``run_in_executor``, in contrast to ``asyncio.to_thread``."""

    async def view(_: Request) -> Response:
        usage = meterkit.usage()
        await asyncio.get_running_loop().run_in_executor(None, usage.add, "tokens", 5)
        return PlainTextResponse("done")

    call_asgi(starlette(kit, view), headers={"who": "acme"})

    assert {"acme": 5} == tokens_by_company(kit)


async def connect(app: Any, path: str, headers: dict[str, str], text: str) -> None:
    """Connect to *path*, and send *text*."""
    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": text}]
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None:
        pass

    await app({"type": "websocket", "path": path, "headers": pairs}, receive, send)


def test_a_websocket(make_kit: Callable[..., MeterKit]) -> None:
    """What its handler says counts at once, for who it says, and matches no other meter."""
    kit = make_kit(
        Meter("calls"),
        Meter("tokens", route="/chat", value="tokens"),
        Meter("elsewhere", path="/other", value="tokens"),
        identify=who,
    )
    handles = []
    seen = []

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()
        meterkit.add_usage("tokens", 5)
        seen.append(usage_of(kit))
        meterkit.identify("globex")
        meterkit.add_usage("tokens", 2)
        handles.append(meterkit.usage())
        await socket.close()

    app = meterkit.asgi.MeterMiddleware(Starlette(routes=[WebSocketRoute("/chat", chat)]), kit)
    asyncio.run(connect(app, "/chat", {"who": "acme"}, "hello"))
    contextvars.Context().run(handles[0].add, "tokens", 30)

    assert [{"tokens": 5}] == seen
    kit.flush()
    assert {("tokens", "acme"): 5, ("tokens", "globex"): 32} == {
        (row.meter, row.company): row.quantity for row in kit.usage()
    }
