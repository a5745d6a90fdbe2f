"""
Streams in every framework, for the real servers: each says what it has used as it ends, and notes the truth in a file.

``/sync`` and ``/async`` stream to the company in ``X-Company``, a number of chunks or, without one, until the client
leaves. ``/late`` adds usage from a thread, once ``/other`` has been asked, whose company uses nothing at all.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import threading
from pathlib import Path

import django
import fastapi
import flask
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from fastapi.responses import StreamingResponse
from served_app import gate_address
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Meter, MeterKit

if "SERVED_SAYS_UP" in os.environ:
    socket.create_connection(gate_address()).close()

CHUNK = b"x" * 20_000
PER_CHUNK = 7
TRUTH = Path(os.environ["SERVED_TRUTH"])

kit = MeterKit(
    meters=[Meter("tokens", value="tokens")],
    identify=lambda exchange: exchange.headers.get("x-company"),
    flush_interval=0.2,
)
other_asked = threading.Event()


def say(usage, company, units):
    """Add *units*, and note on disk who is to pay for them."""
    usage.add("tokens", units)
    with TRUTH.open("a") as truth:
        truth.write(f"{company} {units}\n")


def late(usage, company):
    """Say it when the response is long complete, and somebody else has been served."""

    def work():
        other_asked.wait()
        say(usage, company, PER_CHUNK)

    threading.Thread(target=work).start()


def numbers(count):
    return range(int(count)) if count else itertools.count()


def sync_chunks(usage, company, count):
    units = 0
    try:
        for _ in numbers(count):
            units += PER_CHUNK
            yield CHUNK
    finally:
        say(usage, company, units)


async def async_chunks(usage, company, count):
    units = 0
    try:
        for _ in numbers(count):
            units += PER_CHUNK
            yield CHUNK
            await asyncio.sleep(0)
    finally:
        say(usage, company, units)


def respond(where, company, count):
    """What the view at *where* returns: a stream, or a text."""
    if where == "other":
        other_asked.set()
        gc.collect()  # streams that were left may be in cycles: they end here, in another company's request
        return "ok"
    usage = meterkit.usage()
    if where == "late":
        late(usage, company)
        return "ok"
    return (async_chunks if where == "async" else sync_chunks)(usage, company, count)


def plain_wsgi(environ, start_response):
    made = respond(environ["PATH_INFO"][1:], environ["HTTP_X_COMPANY"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([made.encode()]) if isinstance(made, str) else made


flask_app = flask.Flask(__name__)


@flask_app.get("/<where>")
def flask_view(where):
    request = flask.request
    return flask.Response(respond(where, request.headers["X-Company"], request.query_string.decode()))


meterkit.flask.init_app(flask_app, kit)


async def plain_asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    made = await starlette_view(Request(scope, receive))
    await made(scope, receive, send)


async def starlette_view(request):
    where = request.url.path[1:]
    made = respond(where, request.headers["x-company"], request.url.query)
    return PlainTextResponse(made) if isinstance(made, str) else StreamingResponse(made)


fastapi_app = fastapi.FastAPI()


@fastapi_app.get("/{where}")
async def fastapi_view(where: str, request: fastapi.Request):
    return await starlette_view(request)


def django_view(request, where):
    made = respond(where, request.headers["X-Company"], request.META["QUERY_STRING"])
    return HttpResponse(made) if isinstance(made, str) else StreamingHttpResponse(made)


settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={},
    LOGGING_CONFIG=None,
    METERKIT=kit,
    MIDDLEWARE=["meterkit.django.MeterMiddleware"],
    ROOT_URLCONF=(path("<str:where>", django_view),),
    SECRET_KEY="x",
)
django.setup()

wsgi = meterkit.wsgi.MeterMiddleware(plain_wsgi, kit)
asgi = meterkit.asgi.MeterMiddleware(plain_asgi, kit)
starlette_app = meterkit.asgi.MeterMiddleware(Starlette(routes=[Route("/{where}", starlette_view)]), kit)
fastapi_app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
django_wsgi = get_wsgi_application()
django_asgi = get_asgi_application()
