"""
The seven stacks of the contract: each the same small app, bare or metered.

/whole      201 with headers that repeat        /stream     three chunks, no Content-Length
/sized      three chunks with Content-Length    /wait       one chunk, then never another (async stacks only)
/nothing    204                                 /unchanged  304
/boom       raises before it answers            /break      raises after its first chunk
/named      says who pays, and how much         /skipped    asks not to be counted
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import django
import fastapi
import flask
from adapter_django import django_handler
from adapter_drivers import LEAVES, LOG, Answer, call_asgi, call_wsgi
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import meterkit
import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import MeterKit

BOOM = RuntimeError("the app broke")
CHUNKS = (b"one,", b"two,", b"three")
TWICE = (("X-Twice", "1"), ("X-Other", "-"), ("X-Twice", "2"))


def chunks(log: list[Any], *, breaks: bool = False) -> Iterator[bytes]:
    try:
        for number, chunk in enumerate(CHUNKS):
            log.append(("made", chunk))
            if breaks and number == 1:
                raise BOOM
            yield chunk
    finally:
        log.append("closed")


async def async_chunks(log: list[Any], *, breaks: bool = False, waits: bool = False) -> AsyncIterator[bytes]:
    try:
        for number, chunk in enumerate(CHUNKS):
            if waits and number == 1:
                await asyncio.Event().wait()
            log.append(("made", chunk))
            if breaks and number == 1:
                raise BOOM
            yield chunk
    finally:
        log.append("closed")


def say_who() -> None:
    meterkit.identify("globex", user="ann")
    meterkit.add_usage("tokens", 40, model="small")
    meterkit.add_usage("tokens", 2)


def flask_app() -> flask.Flask:
    app = flask.Flask("contract")

    @app.route("/<what>", methods=["GET", "HEAD"])
    def view(what: str) -> flask.Response:
        log = flask.request.environ[LOG]
        if what == "boom":
            raise BOOM
        if what == "named":
            say_who()
        if what == "skipped":
            meterkit.skip()
        if what in ("stream", "sized", "break"):
            response = flask.Response(chunks(log, breaks=what == "break"))
            if what == "sized":
                response.headers["Content-Length"] = "13"
            return response
        response = flask.Response(b"" if what in STATUS else b"whole", STATUS.get(what, 201))
        for name, value in TWICE:
            response.headers.add(name, value)
        return response

    return app


def bare_wsgi_app(environ: dict[str, Any], start_response: Any) -> Any:
    what = environ["PATH_INFO"][1:]
    log = environ[LOG]
    if what == "boom":
        raise BOOM
    if what == "named":
        say_who()
    if what == "skipped":
        meterkit.skip()
    if what in ("stream", "sized", "break"):
        start_response("200 OK", [("Content-Length", "13")] if what == "sized" else [])
        return chunks(log, breaks=what == "break")
    start_response(f"{STATUS.get(what, 201)} Fine", list(TWICE))
    return [] if what in STATUS else [b"whole"]


async def starlette_view(request: Request) -> Response:
    what = request.path_params["what"]
    log = request.scope[LOG]
    background = BackgroundTask(log.append, "background")
    if what == "boom":
        raise BOOM
    if what == "named":
        say_who()
    if what == "skipped":
        meterkit.skip()
    if what in ("stream", "sized", "break", "wait"):
        headers = {"Content-Length": "13"} if what == "sized" else None
        body = async_chunks(log, breaks=what == "break", waits=what == "wait")
        return StreamingResponse(body, headers=headers, background=background)
    response = Response(b"" if what in STATUS else b"whole", STATUS.get(what, 201), background=background)
    for name, value in TWICE:
        response.headers.append(name, value)
    return response


def starlette_app() -> Starlette:
    return Starlette(routes=[Route("/{what}", starlette_view)])


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.api_route("/{what}", methods=["GET", "HEAD"])(_fastapi_view)
    return app


async def _fastapi_view(what: str, request: fastapi.Request) -> Response:
    return await starlette_view(request)


async def bare_asgi_app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    what = scope["path"][1:]
    log = scope[LOG]
    if what == "boom":
        raise BOOM
    if what == "named":
        say_who()
    if what == "skipped":
        meterkit.skip()
    headers = [(b"content-length", b"13")] if what == "sized" else []
    if what in ("stream", "sized", "break", "wait"):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if what == "wait":
            await receive()
        body = async_chunks(log, breaks=what == "break")
        try:
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if what == "wait":
                    await receive()
                    return
        finally:
            await body.aclose()  # type: ignore[attr-defined]
        await send({"type": "http.response.body", "body": b""})
    else:
        twice = [(name.encode(), value.encode()) for name, value in TWICE]
        await send({"type": "http.response.start", "status": STATUS.get(what, 201), "headers": twice})
        await send({"type": "http.response.body", "body": b"" if what in STATUS else b"whole"})
    log.append("background")


STATUS = {"nothing": 204, "unchanged": 304}


@dataclass(frozen=True)
class Stack:
    """
    One way to serve the app.

    Attributes:
        name: For the test's id.
        call: The server in miniature.
        make: The app; metered, if it is handed a kit.
    """

    name: str
    call: Callable[..., Answer]
    make: Callable[[MeterKit | None], Any]

    @property
    def is_async(self) -> bool:
        return self.call is call_asgi

    def hears_of(self, leave: str) -> bool:
        """Whether it can notice a client that leaves this way: Django's ASGI handler listens since 5.0."""
        return not (leave == "disconnect" and self.name == "django-asgi" and django.VERSION < (5,))


def _flask(kit: MeterKit | None) -> Any:
    app = flask_app()
    if kit is not None:
        meterkit.flask.init_app(app, kit)
    return app


def _asgi(make: Callable[[], Any]) -> Callable[[MeterKit | None], Any]:
    def made(kit: MeterKit | None) -> Any:
        app = make()
        if kit is not None:
            app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
        return app

    return made


STACKS = [
    Stack("flask", call_wsgi, _flask),
    Stack("django-wsgi", call_wsgi, django_handler),
    Stack("wsgi", call_wsgi, lambda kit: meterkit.wsgi.MeterMiddleware(bare_wsgi_app, kit) if kit else bare_wsgi_app),
    Stack("django-asgi", call_asgi, lambda kit: django_handler(kit, is_async=True)),
    Stack("starlette", call_asgi, _asgi(starlette_app)),
    Stack("fastapi", call_asgi, _asgi(fastapi_app)),
    Stack("asgi", call_asgi, lambda kit: meterkit.asgi.MeterMiddleware(bare_asgi_app, kit) if kit else bare_asgi_app),
]

LEAVING = [(stack, leave) for stack in STACKS if stack.is_async for leave in LEAVES if stack.hears_of(leave)]
