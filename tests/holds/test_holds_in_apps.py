"""Holds in requests of every kind of app: refused as a blocked request is, and given back however a stream ends."""

import gc
from typing import Annotated, Any

import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import LEAVES, call_asgi, call_wsgi
from adapter_usage import looked_once, usage_of
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path as django_path
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse as FastAPIStream
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette_client import TestClient

import meterkit.asgi
import meterkit.flask
import meterkit.starlette
import meterkit.wsgi
from meterkit import ConfigurationError, Governance, Hold, InsufficientBalanceError, Meter, Quota, Refusal
from meterkit.fastapi import Billing

TOKENS = Meter("tokens", http=False)
ADDED = Meter("added", path="/*", value="tokens", status="*")
ACME = {"X-Company": "acme"}

kits: list[Any] = []
"""The kit that the apps' views use is the last one."""


@pytest.fixture
def kit(make_kit):
    """A kit with 1,000 units for each company."""
    return made(make_kit)


def made(make_kit, *, refusals=None, identify=lambda exchange: exchange.headers.get("x-company")):
    rules = Governance(quotas=[Quota(each, 1000, exact=True) for each in (TOKENS, ADDED)], refusals=refusals or {})
    kit = make_kit(TOKENS, ADDED, identify=identify, governance=rules)
    looked_once(kit)
    kits.append(kit)
    return kit


def fits(kit, quantity, meter=TOKENS):
    try:
        with kit.hold("acme", quantity, meter=meter):
            return True
    except InsufficientBalanceError:
        return False


def held(estimate):
    return kits[-1].hold("acme", estimate, meter=TOKENS)


def pieces():
    """A stream: it uses 100 units for each piece, and settles whatever ends it."""
    with held(1000) as hold:
        used = 0
        try:
            for _ in range(3):
                used += 100
                yield b"piece"
        finally:
            hold.settle(used)


async def async_pieces():
    async with held(1000) as hold:
        used = 0
        try:
            for _ in range(3):
                used += 100
                yield b"piece"
        finally:
            hold.settle(used)


def flask_app(kit):
    app = flask.Flask(__name__)

    @app.get("/whole/<int:estimate>")
    def whole(estimate):
        with held(estimate) as hold:
            hold.settle(7)
        return "whole"

    @app.get("/stream")
    def stream():
        return flask.Response(pieces())

    meterkit.flask.init_app(app, kit)
    return app


def bare_wsgi(kit):
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/stream":
            start_response("200 OK", [])
            return pieces()
        with held(int(path.rpartition("/")[2])) as hold:
            hold.settle(7)
        start_response("200 OK", [])
        return [b"whole"]

    return meterkit.wsgi.MeterMiddleware(app, kit)


async def starlette_whole(request):
    async with held(request.path_params["estimate"]) as hold:
        hold.settle(7)
    return PlainTextResponse("whole")


async def starlette_stream(_request):
    return StreamingResponse(async_pieces())


def starlette_app():
    return Starlette(routes=[Route("/whole/{estimate:int}", starlette_whole), Route("/stream", starlette_stream)])


def starlette_added(kit):
    app = starlette_app()
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def starlette_around(kit):
    app = starlette_app()
    app.add_exception_handler(InsufficientBalanceError, meterkit.starlette.send_refusal)
    return meterkit.asgi.MeterMiddleware(app, kit)


async def bare_asgi_app(scope, receive, send):
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for each in async_pieces():
            await send({"type": "http.response.body", "body": each, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    async with held(int(scope["path"].rpartition("/")[2])) as hold:
        hold.settle(7)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})


def fastapi_app(kit):
    app = FastAPI()
    Billing(kit).install(app)

    @app.get("/whole/{estimate}")
    def whole(estimate: int):
        with held(estimate) as hold:
            hold.settle(7)

    @app.get("/stream")
    async def stream():
        return FastAPIStream(async_pieces())

    return app


def django_whole(request: HttpRequest, estimate: int) -> HttpResponse:
    with held(estimate) as hold:
        hold.settle(7)
    return HttpResponse("whole")


async def django_async_whole(request: HttpRequest, estimate: int) -> HttpResponse:
    async with held(estimate) as hold:
        hold.settle(7)
    return HttpResponse("whole")


def django(*, is_async):
    def make(kit):
        async def async_stream(request):
            return StreamingHttpResponse(async_pieces())

        def stream(request):
            return StreamingHttpResponse(pieces())

        whole = django_async_whole if is_async else django_whole
        patterns = [
            django_path("whole/<int:estimate>", whole),
            django_path("stream", async_stream if is_async else stream),
        ]
        return django_handler(kit, is_async=is_async, ROOT_URLCONF=tuple(patterns))

    return make


WSGI = {"flask": flask_app, "bare wsgi": bare_wsgi, "django": django(is_async=False)}
ASGI = {
    "starlette": starlette_added,
    "around starlette": starlette_around,
    "bare asgi": lambda kit: meterkit.asgi.MeterMiddleware(bare_asgi_app, kit),
    "fastapi": fastapi_app,
    "async django": django(is_async=True),
}


def call(name, kit, path, **options):
    make, serve = (WSGI[name], call_wsgi) if name in WSGI else (ASGI[name], call_asgi)
    return serve(make(kit), path=path, headers=ACME, **options)


@pytest.mark.parametrize("name", [*WSGI, *ASGI])
def test_too_little_is_left(kit, name):
    """The client gets what a blocked request gets, and pays nothing; what fits is served."""
    refused = call(name, kit, "/whole/1001")
    served = call(name, kit, "/whole/1000")

    assert (429, 200) == (refused.status, served.status)
    assert b'"reason": "quota"' in refused.body
    assert "application/problem+json" in dict(refused.headers).values()
    assert ({"tokens": 7}, True) == (usage_of(kit), fits(kit, 993))


@pytest.mark.parametrize("name", ["flask", "fastapi", "django"])
def test_it_is_refused_as_the_kit_says(make_kit, name):
    """The kit's `Refusal` shapes the response."""
    kit = made(make_kit, refusals={"quota": Refusal(status=402, body="{company} has used up {limit}")})
    refused = call(name, kit, "/whole/1001")

    assert (402, b"acme has used up 1000") == (refused.status, refused.body)
    assert [("acme", "quota")] == [(row.company, row.reason) for row in stopped(kit)]


def stopped(kit):
    kit.flush()
    return kit.stopped()


@pytest.mark.parametrize("name", [*WSGI, *ASGI])
def test_a_stream_that_ends(kit, name):
    """It counts what it has settled."""
    answer = call(name, kit, "/stream")

    assert (200, b"piece" * 3) == (answer.status, answer.body)
    assert ({"tokens": 300}, True) == (usage_of(kit), fits(kit, 700))


@pytest.mark.parametrize("name", WSGI)
def test_a_client_leaves_a_stream(kit, name):
    """What was generated counts, and nothing stays held."""
    call(name, kit, "/stream", leave_after=2)

    assert ({"tokens": 200}, True) == (usage_of(kit), fits(kit, 800))


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("name", ASGI)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_leaves_an_async_stream(kit, name, leave):
    """However the server tells the app."""
    call(name, kit, "/stream", leave=leave)
    gc.collect()  # what the server's end has left
    usage = usage_of(kit)["tokens"]

    assert usage in (100, 200, 300)
    assert (False, True) == (fits(kit, 1001 - usage), fits(kit, 1000 - usage))


class Chat(BaseModel):
    most: int


def most(body: Chat) -> int:
    return body.most


def test_a_dependency(make_kit):
    """It holds what another dependency says, until the last byte; what the view adds is covered."""
    kit = made(make_kit, identify="view")
    billing = Billing(kit, lambda: "acme")
    app = FastAPI()
    billing.install(app)
    seen = []

    @app.post("/chat")
    async def chat(hold: Annotated[Hold, Depends(billing.hold(ADDED, most))]):
        usage = meterkit.usage()

        async def stream():
            for _ in range(3):
                usage.add("tokens", 100)
                seen.append((hold.quantity, fits(kit, 1, ADDED)))
                yield b"piece"

        return FastAPIStream(stream())

    @app.post("/settled")
    def settled(hold: Annotated[Hold, Depends(billing.hold("added", 500))]):
        hold.settle(50)

    client = TestClient(app)
    statuses = [
        client.post("/chat", json={"most": 1001}).status_code,
        client.post("/chat", json={"most": 1000}).status_code,
        client.post("/settled").status_code,
    ]

    assert [429, 200, 200] == statuses
    assert [(1000, False)] * 3 == seen
    assert {"added": 350} == usage_of(kit)
    assert (False, True) == (fits(kit, 651, ADDED), fits(kit, 650, ADDED))


def test_a_dependency_of_nothing(make_kit):
    """It is said where the route is declared."""
    kit = make_kit(TOKENS)
    with pytest.raises(ConfigurationError, match="exact=True"):
        Billing(kit).hold(TOKENS, 1)
    with pytest.raises(ConfigurationError, match="not float"):
        Billing(made(make_kit)).hold(TOKENS, 1.5)


def test_an_app_that_catches_it(kit):
    """Then it answers as it likes."""
    app = flask.Flask(__name__)

    @app.errorhandler(InsufficientBalanceError)
    def handle(error):
        return f"{error.block.reason}", 418

    @app.get("/whole")
    def whole():
        with held(1001):
            return "whole"

    meterkit.flask.init_app(app, kit)
    answer = call_wsgi(app, path="/whole", headers=ACME)

    assert (418, b"quota") == (answer.status, answer.body)
