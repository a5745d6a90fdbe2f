"""
The app under test, in each framework, and what it says of itself.

``X-Mode`` chooses one of four copies: *bare*, *metered*, and two in which access control allows no company anything but
``/open/*``: *stopped* by ``check=``, and *spent*, by a quota of nothing. The protected view wants a key, and says for
whom it ran, by which method, and how many bytes of the body it read.
``X-Mode: report`` tells what ran, what the kits have counted, and their problems.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import django
import fastapi
import flask
from django.conf import settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Exchange, Governance, Meter, MeterKit, Quota

FRAMEWORK = os.environ.get("HOSTILE_FRAMEWORK", "wsgi")
MODES = ("bare", "metered", "stopped", "spent")
VERBS = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH"]

ran: dict[str, list[tuple[str, str, int]]] = {mode: [] for mode in MODES}
"""For whom the view ran, the method that it saw, and the bytes that it read, by mode."""


def company_of(key: str | None) -> str | None:
    """The company whose key this is."""
    return key[4:] if key and key.startswith("key-") and "," not in key else None


def runs(mode: str, key: str | None, method: str, size: int) -> bool:
    """Note that the view runs; return whether the key is right."""
    company = company_of(key)
    if company is None:
        return False
    ran[mode].append((company, method.upper(), size))
    return True


def _is_short(headers: Any) -> bool:
    """Whether the view reads the body: it would wait for ever for one that is declared and never comes."""
    length = headers.get("content-length") or "0"
    return length.isdigit() and int(length) < 1000


def _text(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def _who(exchange: Exchange) -> str | None:
    return company_of(exchange.headers.get("x-api-key"))


BY_PATH = Meter("by_path", path="/v1/query")


def _kit(governance: Governance | None = None) -> MeterKit:
    meters = [BY_PATH, Meter("posts", path="/v1/query", method="POST")]
    if FRAMEWORK not in ("wsgi", "asgi"):
        meters.append(Meter("by_route", route="/v1/query"))
    meters.append(Meter("read", path="*", value="request_bytes"))
    directory = tempfile.mkdtemp(dir=os.environ["HOSTILE_DIRECTORY"])
    return MeterKit(
        meters=meters,
        identify=_who,
        data_dir=directory,
        governance=governance,
        flush_interval=3600.0,
        stripe_key="sk_x",
    )


kits: dict[str, MeterKit | None] = {
    "bare": None,
    "metered": _kit(),
    "stopped": _kit(Governance(check=lambda exchange, known: "stopped", exempt=["/open/*"])),
    "spent": _kit(Governance(quotas=[Quota(BY_PATH, 0)], exempt=["/open/*"])),
}


def report() -> bytes:
    """What happened so far."""
    counted: dict[str, dict[str, dict[str, int]]] = {}
    problems: dict[str, Any] = {}
    for mode, kit in kits.items():
        if kit is not None:
            kit.flush()
            counted[mode] = {}
            for row in kit.usage():
                of_meter = counted[mode].setdefault(row.meter, {})
                of_meter[row.company or ""] = of_meter.get(row.company or "", 0) + row.quantity
            problems[mode] = kit.health()["problems"]
    return json.dumps({"ran": ran, "counted": counted, "problems": problems}).encode()


# WSGI


def bare_wsgi(mode: str) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        path = environ.get("PATH_INFO", "")
        status, body = "404 Not Found", b"nothing"
        if path == "/v1/query":
            length = environ.get("CONTENT_LENGTH") or "0"
            read = environ["wsgi.input"].read(int(length) if _is_short({"content-length": length}) else 0)
            allowed = runs(mode, environ.get("HTTP_X_API_KEY"), environ["REQUEST_METHOD"], len(read))
            status, body = ("200 OK", b"query") if allowed else ("401 Unauthorized", b"key")
        elif path.startswith("/open/"):
            status, body = "200 OK", b"open"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def overriding(app: Any) -> Any:
    """The recipe in Flask's docs, inside of the middleware."""

    def override(environ: Any, start_response: Any) -> Any:
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
        if method:
            environ["REQUEST_METHOD"] = method
        return app(environ, start_response)

    return override


def flask_app(mode: str) -> Any:
    app = flask.Flask("hostile")

    @app.route("/v1/query", methods=VERBS)
    def query() -> Any:
        headers = flask.request.headers
        size = len(flask.request.get_data()) if _is_short(headers) else 0
        allowed = runs(mode, headers.get("X-Api-Key"), flask.request.method, size)
        return "query" if allowed else ("key", 401)

    app.add_url_rule("/open/<path:rest>", view_func=lambda rest: "open")
    app.wsgi_app = overriding(app.wsgi_app)  # type: ignore[method-assign]
    kit = kits[mode]
    if kit is not None:
        meterkit.flask.init_app(app, kit)
    return app


# Django


def django_app(mode: str, *, is_async: bool = False) -> Any:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path, re_path

    def query(request: Any) -> HttpResponse:
        size = len(request.body) if _is_short(request.headers) else 0
        allowed = runs(request.mode, request.headers.get("X-Api-Key"), request.method, size)
        return HttpResponse("query" if allowed else "key", status=200 if allowed else 401)

    urls = (path("v1/query", query), re_path("^open/", lambda request: HttpResponse("open")))
    settings.ROOT_URLCONF = urls
    middleware = [f"hostile_app.{mode}_mode"]
    kit = kits[mode]
    if kit is not None:
        middleware.insert(0, "meterkit.django.MeterMiddleware")
    with override_settings(METERKIT=kit, MIDDLEWARE=middleware):
        return ASGIHandler() if is_async else WSGIHandler()


def _with_mode(mode: str) -> Callable[[Any], Any]:
    def middleware(get_response: Any) -> Any:
        def handle(request: Any) -> Any:
            request.mode = mode
            return get_response(request)

        return handle

    return middleware


bare_mode, metered_mode, stopped_mode, spent_mode = map(_with_mode, MODES)


# ASGI


def bare_asgi(mode: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        status, body = 404, b"nothing"
        if scope["path"] == "/v1/query":
            keys = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-api-key"]
            size = await _read(receive) if _is_short(_text(scope["headers"])) else 0
            status, body = (200, b"query") if runs(mode, ", ".join(keys), scope["method"], size) else (401, b"key")
        elif scope["path"].startswith("/open/"):
            status, body = 200, b"open"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    kit = kits[mode]
    return app if kit is None else meterkit.asgi.MeterMiddleware(app, kit)


async def _read(receive: Any) -> int:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    return size


def starlette_app(mode: str) -> Any:
    async def query(request: Request) -> Response:
        size = len(await request.body()) if _is_short(request.headers) else 0
        keys = request.headers.getlist("x-api-key")
        allowed = runs(mode, ", ".join(keys), request.method, size)
        return PlainTextResponse("query" if allowed else "key", 200 if allowed else 401)

    async def opened(request: Request) -> Response:
        return PlainTextResponse("open")

    app: Any
    if FRAMEWORK == "fastapi":
        app = fastapi.FastAPI()
        app.api_route("/v1/query", methods=VERBS)(_annotated(query))
        app.add_route("/open/{rest:path}", opened)
    else:
        app = Starlette(routes=[Route("/v1/query", query, methods=VERBS), Route("/open/{rest:path}", opened)])
    kit = kits[mode]
    if kit is not None:
        app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def _annotated(query: Any) -> Any:
    async def view(request: fastapi.Request) -> Response:
        return await query(request)  # type: ignore[no-any-return]

    view.__annotations__["request"] = fastapi.Request
    return view


def _metered_wsgi(mode: str) -> Any:
    kit = kits[mode]
    app = overriding(bare_wsgi(mode))
    return app if kit is None else meterkit.wsgi.MeterMiddleware(app, kit)


WSGI = {"wsgi": _metered_wsgi, "flask": flask_app, "django": django_app}
ASGI = {
    "asgi": bare_asgi,
    "starlette": starlette_app,
    "fastapi": starlette_app,
    "django-asgi": lambda mode: django_app(mode, is_async=True),
}

if "django" in FRAMEWORK:
    settings.configure(ALLOWED_HOSTS=["*"], DATABASES={}, LOGGING_CONFIG=None, SECRET_KEY="x", ROOT_URLCONF=())
    django.setup()

_apps = {mode: {**WSGI, **ASGI}[FRAMEWORK](mode) for mode in MODES}


def wsgi(environ: Any, start_response: Any) -> Any:
    """Choose the copy."""
    mode = environ.get("HTTP_X_MODE", "")
    if mode == "report":
        body = report()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    return _apps[mode](environ, start_response)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Choose the copy."""
    if scope["type"] != "http":
        return
    mode = next((value.decode() for name, value in scope["headers"] if name == b"x-mode"), "")
    if mode == "report":
        body = report()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
    await _apps[mode](scope, receive, send)
