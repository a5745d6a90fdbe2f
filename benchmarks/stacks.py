"""
The apps that are measured: each answers ``POST /RetrieveCreditScore`` with a few bytes, as cheaply as it can.

A stack is driven in process, without a socket, so that what is measured is the app and what is around it. `Wrap` says
how a variant is put around each kind of app.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATH = "/RetrieveCreditScore"
BODY = b'{"score": 700}'
LENGTH = str(len(BODY))

App = Any
Drive = Callable[[int], None]
"""Serves so many requests."""


@dataclass(frozen=True)
class Wrap:
    """
    How a variant is put around an app; None where it cannot be.

    Attributes:
        wsgi: Takes a WSGI app, and answers one.
        asgi: Takes an ASGI app, and answers one.
        flask: Changes a Flask app; by default *wsgi* around its ``wsgi_app``.
        django: The dotted path of a middleware class.
        starlette: Changes a Starlette app; by default *asgi* as its middleware.
        fastapi: The same for a FastAPI app.
        kit: The kit that counts, if one does.
        count: What `benchmarks.django_middleware.Recorder` calls, if that counts.
    """

    wsgi: Callable[[App], App] | None = None
    asgi: Callable[[App], App] | None = None
    flask: Callable[[App], None] | None = None
    django: str | None = None
    starlette: Callable[[App], None] | None = None
    fastapi: Callable[[App], None] | None = None
    kit: Any = None
    count: Callable[[str, str, int], None] | None = None


def wsgi_null(wrap: Wrap, companies: int) -> Drive | None:
    """A WSGI app that does nothing but answer."""

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", LENGTH)])
        return [BODY]

    return None if wrap.wsgi is None else _drive_wsgi(wrap.wsgi(app), companies)


def asgi_null(wrap: Wrap, companies: int) -> Drive | None:
    """An ASGI app that does nothing but answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", LENGTH.encode())]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    return None if wrap.asgi is None else _drive_asgi(wrap.asgi(app), companies)


def flask(wrap: Wrap, companies: int) -> Drive | None:
    """Flask, with one view."""
    from flask import Flask, Response

    app = Flask("benchmarked")

    @app.post(PATH)
    def score() -> Response:
        return Response(BODY, content_type="application/json")

    if wrap.flask is not None:
        wrap.flask(app)
    elif wrap.wsgi is not None:
        app.wsgi_app = wrap.wsgi(app.wsgi_app)  # type: ignore[method-assign]
    else:
        return None
    return _drive_wsgi(app, companies)


def django_wsgi(wrap: Wrap, companies: int) -> Drive | None:
    """Django's WSGI handler, with one view and no other middleware."""
    if wrap.django is None:
        return None
    _set_up_django(wrap, is_async=False)
    from django.core.handlers.wsgi import WSGIHandler

    return _drive_wsgi(WSGIHandler(), companies)


def django_asgi(wrap: Wrap, companies: int) -> Drive | None:
    """Django's ASGI handler, with one async view and no other middleware."""
    if wrap.django is None:
        return None
    _set_up_django(wrap, is_async=True)
    from django.core.handlers.asgi import ASGIHandler

    return _drive_asgi(ASGIHandler(), companies)


def starlette(wrap: Wrap, companies: int) -> Drive | None:
    """Starlette, with one async endpoint."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def score(_request: Any) -> Response:
        return Response(BODY, media_type="application/json")

    app = Starlette(routes=[Route(PATH, score, methods=["POST"])])
    return _drive_asgi(app, companies) if _changed(app, wrap.starlette, wrap.asgi) else None


def fastapi(wrap: Wrap, companies: int) -> Drive | None:
    """FastAPI, with one async endpoint that answers a Response."""
    from fastapi import FastAPI, Response

    app = FastAPI()

    @app.post(PATH)
    async def score() -> Response:
        return Response(BODY, media_type="application/json")

    return _drive_asgi(app, companies) if _changed(app, wrap.fastapi, wrap.asgi) else None


STACKS: dict[str, Callable[[Wrap, int], Drive | None]] = {
    "wsgi": wsgi_null,
    "asgi": asgi_null,
    "flask": flask,
    "django": django_wsgi,
    "django_asgi": django_asgi,
    "starlette": starlette,
    "fastapi": fastapi,
}


def _changed(app: App, change: Callable[[App], None] | None, asgi: Callable[[App], App] | None) -> bool:
    if change is not None:
        change(app)
    elif asgi is not None:
        app.add_middleware(_Wrapped, wrap=asgi)
    return change is not None or asgi is not None


def _Wrapped(app: App, wrap: Callable[[App], App]) -> App:  # noqa: N802 - frameworks take a class here
    return wrap(app)


def _set_up_django(wrap: Wrap, *, is_async: bool) -> None:
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def score(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(BODY, content_type="application/json")

    async def score_async(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(BODY, content_type="application/json")

    class Urls:
        urlpatterns = [path(PATH[1:], score_async if is_async else score)]  # noqa: RUF012 - Django's own way

    if wrap.count is not None:
        from benchmarks import django_middleware

        django_middleware.count = wrap.count
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        METERKIT=wrap.kit,
        MIDDLEWARE=[wrap.django] if wrap.django else [],
        ROOT_URLCONF=Urls,
    )
    django.setup()


class _Files:
    """Where a server has its wrapper of files."""


ENVIRON = {
    "wsgi.errors": io.StringIO(),
    "wsgi.version": (1, 0),
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": _Files,
    "wsgi.input_terminated": True,
    "SERVER_SOFTWARE": "benchmark",
    "wsgi.input": io.BytesIO(),
    "gunicorn.socket": None,
    "REQUEST_METHOD": "POST",
    "QUERY_STRING": "",
    "RAW_URI": PATH,
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_ACCEPT": "*/*",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate",
    "CONTENT_LENGTH": "0",
    "HTTP_HOST": "localhost",
    "HTTP_USER_AGENT": "benchmark",
    "CONTENT_TYPE": "application/json",
    "HTTP_CONNECTION": "keep-alive",
    "wsgi.url_scheme": "http",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "PATH_INFO": PATH,
    "SCRIPT_NAME": "",
}
"""As gunicorn makes it of a request with the usual headers. Their number matters: a dict grows with the 22nd key."""


def _drive_wsgi(app: App, companies: int) -> Drive:
    ids = itertools.cycle([f"company-{number}" for number in range(companies)])

    def start_response(status: str, _headers: Any, _exc_info: Any = None) -> None:
        assert status == "200 OK"

    def drive(times: int) -> None:
        for _ in range(times):
            environ = ENVIRON.copy()
            environ["HTTP_X_COMPANY"] = next(ids)
            body = app(environ, start_response)
            for _chunk in body:
                pass
            if hasattr(body, "close"):
                body.close()

    return drive


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 80),
    "client": ("127.0.0.1", 50000),
    "scheme": "http",
    "method": "POST",
    "root_path": "",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "state": {},
}
"""As uvicorn makes it."""

HEADERS = [
    (b"host", b"localhost"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"benchmark"),
    (b"content-type", b"application/json"),
    (b"content-length", b"0"),
]


def _drive_asgi(app: App, companies: int) -> Drive:
    ids = itertools.cycle([(b"x-company", f"company-{number}".encode()) for number in range(companies)])
    loop = asyncio.new_event_loop()

    asked = [0]

    async def receive() -> dict[str, Any]:
        asked[0] += 1
        if asked[0] > 1:
            await loop.create_future()  # for a client that stays; the app gives it up when it has answered
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200

    async def serve(times: int) -> None:
        for _ in range(times):
            scope = SCOPE.copy()
            scope["headers"] = [*HEADERS, next(ids)]
            asked[0] = 0
            await app(scope, receive, send)

    return lambda times: loop.run_until_complete(serve(times))
