"""The service as an ASGI app: what there is, what is wrong with a request, and how it lives in another app."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from service_client import AS_GATEWAY, GATEWAY, OPERATOR, ask, problem_of
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute

from meterkit import ConfigurationError
from meterkit.asgi import MeterMiddleware
from meterkit.core.responses import json_response
from meterkit.service import Key, Service
from meterkit.service.routes import Route

KEYS = {"gateway": GATEWAY, "operator": Key(OPERATOR, scopes=["health"])}


@pytest.fixture
def service(kit):
    return Service(kit, keys=KEYS)


@pytest.fixture
def echo(kit, monkeypatch):
    """A service with a route that gives the body back, and one that raises."""

    async def give_back(call):
        return json_response(200, {"source": call.source.name, "bytes": len(await call.body())})

    async def fail(_call):
        raise ZeroDivisionError

    routes = [Route("/echo", give_back, methods=("POST",), scope="events"), Route("/fail", fail)]
    monkeypatch.setattr(Service, "_routes", lambda _: routes)
    return Service(kit, keys=KEYS, max_body=1000)


def test_what_there_is_not(service):
    """A path that there is not, and a method that a path does not take."""
    gone, wrong = ask(service, "/v2/events"), ask(service, "/livez", "POST")

    assert (404, "not_found") == problem_of(gone)
    assert (405, "method_wrong") == problem_of(wrong)
    assert "GET" == wrong.headers["allow"]


def test_head_is_get_without_a_body(service):
    """With the same headers."""
    found = ask(service, "/livez", "HEAD")

    assert (200, b"", "12") == (found.status_code, found.content, found.headers["content-length"])


def test_a_handler_knows_its_source(echo):
    """And reads the body."""
    found = ask(echo, "/echo", "POST", headers=AS_GATEWAY, content=b"x" * 1000)

    assert {"source": "gateway", "bytes": 1000} == found.json()


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_that_is_too_large(echo, in_chunks):
    """It is refused, whether it says so or not."""

    async def chunks():
        for _ in range(11):
            yield b"x" * 100

    content = chunks() if in_chunks else b"x" * 1001
    found = ask(echo, "/echo", "POST", headers=AS_GATEWAY, content=content)

    assert (413, "too_large") == problem_of(found)


def asgi(app, messages, *, path="/echo", headers=()):
    """Send *messages* to the app; what it sends, and how many of them it has received."""
    sent, left = [], list(messages)

    async def receive():
        return left.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "client": ("192.0.2.1", 1)}
    asyncio.run(app({**scope, "headers": [(b"x-meterkit-key", GATEWAY.encode()), *headers]}, receive, send))
    return sent, len(messages) - len(left)


def test_a_body_without_an_end(echo):
    """Of one that is far too large no more is read than a client sends before it reads the response."""
    endless = [{"type": "http.request", "body": b"x" * 900, "more_body": True}] * 100
    sent, received = asgi(echo, endless, headers=[(b"content-length", b"1000000000")])

    assert 413 == sent[0]["status"]
    assert received < 5


def test_a_client_that_leaves(echo):
    """Nobody is there to respond to."""
    sent, _ = asgi(echo, [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    assert [] == sent


def test_a_failure_is_said(kit, echo):
    """The response says that it is the service's, the log says why, and so does health."""
    found = ask(echo, "/fail")

    assert (500, "failed") == problem_of(found)
    assert "ZeroDivisionError" in kit.health()["problems"]["service_failed"]["message"]
    assert "ZeroDivision" not in found.text


def test_a_websocket_is_closed(service):
    """There are none."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(service({"type": "websocket", "path": "/v1/check", "headers": []}, receive, send))

    assert ["websocket.close"] == sent


def lifespan(app):
    """Start and stop *app*."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    return sent


def test_the_kit_is_closed_with_the_service(kit, service):
    """What was counted is in the ledger by then."""
    kit.record("calls", "acme", 3)

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == lifespan(service)
    assert [("acme", 3)] == [(row.company, row.quantity) for row in kit.usage()]


def test_a_kit_that_cannot_start_keeps_nobody_waiting(kit, service, monkeypatch):
    """The service starts, and says that it is not ready."""
    monkeypatch.setattr(type(kit), "process", lambda *_, **__: 1 / 0)

    assert "lifespan.startup.complete" == lifespan(service)[0]


def hello(_request):
    return PlainTextResponse("hello")


@pytest.mark.parametrize("prefix", ["/metering", "/internal/metering"])
def test_it_can_be_mounted(kit, service, prefix):
    """Below any path, with the app's own lifespan; the middleware around the app counts nothing of it."""
    began = []

    @contextlib.asynccontextmanager
    async def of_app(_app):
        began.append(True)
        yield

    app = Starlette(routes=[Mount(prefix, service), StarletteRoute("/hello", hello)], lifespan=of_app)
    metered = MeterMiddleware(app, kit)
    assert 200 == ask(metered, f"{prefix}/v1/check?company=acme", headers=AS_GATEWAY).status_code
    assert (404, "not_found") == problem_of(ask(metered, f"{prefix}/nothing"))
    assert "hello" == ask(metered, "/hello").text
    lifespan(metered)

    assert [True] == began
    assert 1 == sum(row.quantity for row in kit.usage())


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "1", 1 << 40])
def test_a_wrong_limit(kit, most):
    """It is refused when the service is built."""
    with pytest.raises(ConfigurationError, match="max_body"):
        Service(kit, keys=KEYS, max_body=most)


def test_what_is_no_kit():
    """It is refused when the service is built."""
    with pytest.raises(ConfigurationError, match="needs a MeterKit"):
        Service(object(), keys=KEYS)


def test_problems_are_json_that_anybody_can_read(service):
    """ASCII, whatever a client has sent."""
    found = ask(service, "/d%C3%BCrer%0a%00")

    assert "There is no '/dürer" in json.loads(found.content)["detail"]
    assert found.content.isascii()
