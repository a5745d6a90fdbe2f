"""A request that crosses a bridge between ASGI and WSGI is one exchange, also if both sides are metered."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

import flask
import pytest
from a2wsgi import ASGIMiddleware, WSGIMiddleware
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import usage_of
from asgiref.wsgi import WsgiToAsgi
from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Governance, Meter, MeterKit, Quota

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]
BRIDGES: dict[str, Any] = {"a2wsgi": WSGIMiddleware, "asgiref": WsgiToAsgi}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is deprecated, and will be gone one day
    try:
        from starlette.middleware.wsgi import WSGIMiddleware as StarlettesOwn
    except ImportError:
        pass
    else:
        BRIDGES["starlette"] = StarlettesOwn

METERS = (
    Meter("calls", path="/old/*"),
    Meter("other", path="*", status=["4xx", "5xx"]),
    Meter("tokens", path="*", value="tokens"),
    Meter("items", route="/old/items/<int:n>"),
)


def old_app(kit: MeterKit | None) -> flask.Flask:
    app = flask.Flask("old")

    @app.route("/items/<int:n>", methods=["GET", "POST"])
    def item(n: int) -> str:
        meterkit.identify("globex", user="ann")
        meterkit.add_usage("tokens", n)
        return flask.request.get_data(as_text=True) or "item"

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("the app broke")

    if kit is not None:
        meterkit.flask.init_app(app, kit)
    return app


def bridged(bridge: Any, inner: Any, outer: MeterKit | None) -> Any:
    app = Starlette(routes=[Mount("/old", app=bridge(inner))])
    if outer is not None:
        app.add_middleware(meterkit.asgi.MeterMiddleware, kit=outer)
    return app


@pytest.fixture(params=BRIDGES.values(), ids=BRIDGES)
def bridge(request: pytest.FixtureRequest) -> Any:
    """Each of the bridges from ASGI to WSGI."""
    return request.param


def test_both_sides_metered(make_kit: MakeKit, bridge: Any) -> None:
    """
    The outer exchange counts, for whom the inner view says, with the inner view's usage and route.
    """
    kit = make_kit(*METERS)
    bare = Context().run(lambda: call_asgi(bridged(bridge, old_app(None), None), path="/old/items/5"))
    metered = call_asgi(bridged(bridge, old_app(kit), kit), path="/old/items/5")

    assert bare.log == metered.log
    assert {"calls": 1, "tokens": 5, "items": 1} == usage_of(kit)
    assert {("globex", "ann")} == {(row.company, row.user) for row in kit.usage()}
    # The bare app called outside of an exchange.
    assert {"no_stripe_key", "outside_exchange"} == set(kit.health()["problems"])


def test_a_form_with_many_headers(make_kit: MakeKit, bridge: Any) -> None:
    """
    A body, a query, and headers of every sort are on both sides of the bridge.
    """
    kit = make_kit(*METERS)
    headers = {"Content-Type": "text/plain", "X-Api_Key": "a, b", "Cookie": "a=1; b=2", "Content-Length": "5"}
    scope = {"query_string": b"a=%20&b=,"}
    metered = call_asgi(
        bridged(bridge, old_app(kit), kit), "POST", "/old/items/7", headers=headers, scope=scope, payload=b"hello"
    )

    assert b"hello" == metered.body
    assert {"calls": 1, "tokens": 7, "items": 1} == usage_of(kit)


def test_what_fails_within(make_kit: MakeKit, bridge: Any) -> None:
    """
    A failure is one failure.
    """
    kit = make_kit(*METERS)
    for each in ("/old/boom", "/old/nothing"):
        call_asgi(bridged(bridge, old_app(kit), kit), path=each)

    assert {"other": 2} == usage_of(kit)


def test_a_quota(make_kit: MakeKit, bridge: Any) -> None:
    """
    A request is checked once, and a blocked one does not reach the app.
    """
    governance = Governance(quotas=[Quota(METERS[0], 2, exact=True)])
    kit = make_kit(*METERS, identify=lambda exchange: "globex", governance=governance)
    app = bridged(bridge, old_app(kit), kit)

    assert [200, 200, 429] == [call_asgi(app, path="/old/items/1").status for _ in range(3)]
    assert 2 == usage_of(kit)["calls"]


def test_two_kits(make_kit: MakeKit, bridge: Any) -> None:
    """
    The outer one counts, and the inner one says that it does not.
    """
    outer, inner = make_kit(*METERS), make_kit(*METERS)
    call_asgi(bridged(bridge, old_app(inner), outer), path="/old/items/5")

    assert ({"calls": 1, "tokens": 5, "items": 1}, {}) == (usage_of(outer), usage_of(inner))
    assert 1 == inner.health()["problems"]["two_kits"]["count"]


def test_only_the_inner_side_metered(make_kit: MakeKit, bridge: Any) -> None:
    """
    Then that one counts, as ever; its routes begin at the mount.
    """
    kit = make_kit(*METERS, Meter("inside", route="/items/<int:n>"))
    call_asgi(bridged(bridge, old_app(kit), None), path="/old/items/5")

    assert {"calls": 1, "tokens": 5, "inside": 1} == usage_of(kit)


def django_item(request: HttpRequest, n: int) -> HttpResponse:
    meterkit.identify("globex")
    meterkit.add_usage("tokens", n)
    return HttpResponse("item")


def test_django_within(make_kit: MakeKit, bridge: Any) -> None:
    """
    The same with a Django project behind the bridge.
    """
    kit = make_kit(*METERS)
    handler = django_handler(kit, ROOT_URLCONF=(path("items/<int:n>", django_item),))
    answer = call_asgi(bridged(bridge, handler, kit), path="/old/items/5")

    assert b"item" == answer.body
    assert {"calls": 1, "tokens": 5, "items": 1} == usage_of(kit)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread, for the bridge in the other direction."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def test_an_asgi_app_within_a_wsgi_app(make_kit: MakeKit, loop: asyncio.AbstractEventLoop) -> None:
    """
    The other way round.
    """
    kit = make_kit(Meter("calls", path="*"), Meter("tokens", value="tokens"), Meter("items", route="/items/{n}"))

    async def item(request: Request) -> PlainTextResponse:
        meterkit.identify("globex")
        meterkit.add_usage("tokens", 5)
        return PlainTextResponse("item")

    inner = Starlette(routes=[Route("/items/{n}", item)])
    inner.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    answer = call_wsgi(meterkit.wsgi.MeterMiddleware(ASGIMiddleware(inner, loop=loop), kit), path="/items/5")

    assert (200, b"item") == (answer.status, answer.body)
    assert {"calls": 1, "tokens": 5, "items": 1} == usage_of(kit)
    assert {"globex"} == {row.company for row in kit.usage()}


@pytest.mark.parametrize("different", [{"path": "/whole"}, {"method": "POST"}, {"headers": {"X-Key": "1"}}])
def test_a_wsgi_app_that_an_asgi_view_calls(make_kit: MakeKit, different: dict[str, Any]) -> None:
    """
    A request of its own, which counts as one.
    """
    kit = make_kit(Meter("calls", path="*"))

    def inner(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"inner"]

    metered = meterkit.wsgi.MeterMiddleware(inner, kit)
    same = {"path": "/items", "headers": {"Host": "testserver"}}

    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(call_wsgi(metered, **{**same, **different}).body)

    app = Starlette(routes=[Route("/items", view)])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    call_asgi(app, path="/items")

    assert {"calls": 2} == usage_of(kit)
