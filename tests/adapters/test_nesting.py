"""One exchange counts once, however many middlewares stand around it; exchanges keep apart, however they interleave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import flask
import pytest
from adapter_django import METER, django_handler
from adapter_drivers import LOG, call_asgi, call_wsgi, environ_for, scope_for
from adapter_stacks import STACKS, Stack, bare_asgi_app, bare_wsgi_app, fastapi_app, flask_app, starlette_app
from adapter_usage import usage_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import meterkit
import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import ConfigurationError, Meter, MeterKit

pytestmark = pytest.mark.long

Counted = Callable[[], dict[str, int]]
MakeKit = Callable[..., MeterKit]
SYNC = [stack for stack in STACKS if not stack.is_async]


def around(stack: Stack) -> Any:
    return meterkit.asgi.MeterMiddleware if stack.is_async else meterkit.wsgi.MeterMiddleware


@pytest.mark.parametrize("path", ["/whole", "/stream", "/boom", "/break", "/nothing"])
def test_installed_twice(stack: Stack, kit: MeterKit, counted: Counted, path: str) -> None:
    """
    In the app and around it: the outer one counts, the inner one passes on, and the client sees no difference.
    """
    bare = stack.call(stack.make(None), path=path)
    twice = stack.call(around(stack)(stack.make(kit), kit), path=path)

    assert bare.log == twice.log
    assert 1 == sum(quantity for meter, quantity in counted().items() if meter != "bytes")
    assert "two_kits" not in kit.health()["problems"]


def test_listed_twice_in_django(kit: MeterKit, counted: Counted) -> None:
    """
    The same for a ``MIDDLEWARE`` that was merged from two settings files.
    """
    call_wsgi(django_handler(kit, MIDDLEWARE=[METER, METER]), path="/whole")

    assert 1 == counted()["succeeded"]


def test_init_app_twice(kit: MeterKit, make_kit: MakeKit, counted: Counted) -> None:
    """
    Flask's ``init_app`` changes nothing the second time, and refuses a second kit.
    """
    app = flask_app()
    meterkit.flask.init_app(app, kit)
    installed = app.wsgi_app
    meterkit.flask.init_app(app, kit)

    assert installed is app.wsgi_app
    with pytest.raises(ConfigurationError, match="use a single kit"):
        meterkit.flask.init_app(app, make_kit(Meter("calls")))


def test_two_kits_around_one_exchange(stack: Stack, kit: MeterKit, make_kit: MakeKit, caplog: Any) -> None:
    """
    The outer one counts, and the inner one says loudly that it does not.
    """
    inner = make_kit(Meter("calls", path="*"))
    app = around(stack)(stack.make(inner), kit)
    stack.call(app, path="/whole")
    stack.call(app, path="/whole")

    assert (2, {}) == (usage_of(kit)["succeeded"], usage_of(inner))
    assert 2 == inner.health()["problems"]["two_kits"]["count"]
    assert ["ERROR"] == [record.levelname for record in caplog.records if "two_kits" in record.message]


@pytest.mark.parametrize("where", ["outer", "inner", "both"])
def test_mounted_wsgi_apps(kit: MeterKit, make_kit: MakeKit, where: str) -> None:
    """
    The path is the whole one, with the prefix of the mount, wherever the middleware stands.
    """
    kit = make_kit(Meter("mounted", path="/sub/whole"))
    meter = meterkit.wsgi.MeterMiddleware
    inner = meter(bare_wsgi_app, kit) if where != "outer" else bare_wsgi_app
    mounted = DispatcherMiddleware(flask_app(), {"/sub": inner})
    app = meter(mounted, kit) if where != "inner" else mounted

    assert b"whole" == call_wsgi(app, path="/sub/whole").body
    assert {"mounted": 1} == usage_of(kit)


@pytest.mark.parametrize("where", ["outer", "inner", "both"])
@pytest.mark.parametrize("sub", [starlette_app, fastapi_app, lambda: bare_asgi_app])
def test_mounted_asgi_apps(make_kit: MakeKit, sub: Any, where: str) -> None:
    """
    The same for ASGI.
    """
    kit = make_kit(Meter("mounted", path="/sub/*"))
    meter = meterkit.asgi.MeterMiddleware
    inner = meter(sub(), kit) if where != "outer" else sub()
    app = Starlette(routes=[Mount("/sub", app=inner), Route("/sub2", lambda request: None)])
    metered = meter(app, kit) if where != "inner" else app
    if sub() is bare_asgi_app:
        assert 201 == call_asgi(metered, path="/sub/nothing/else").status
    else:
        assert b"whole" == call_asgi(metered, path="/sub/whole").body
    assert {"mounted": 1} == usage_of(kit)


def test_a_second_request_made_from_the_first_ones_environ(kit: MeterKit, counted: Counted) -> None:
    """
    As some test clients and batch endpoints do, once the first is complete: it is an exchange of its own.
    """
    app = meterkit.wsgi.MeterMiddleware(bare_wsgi_app, kit)
    environ = {**environ_for(path="/whole"), LOG: []}
    app(environ, lambda *args: None)
    app(environ, lambda *args: None)

    assert 2 == counted()["succeeded"]


def calling(make_inner_call: Callable[[], Any], kit: MeterKit) -> Any:
    """A metered Flask app whose view calls another app in process, and then says who pays for itself."""

    def view() -> str:
        make_inner_call()
        meterkit.identify("outer")
        return "done"

    app = flask.Flask("outer")
    app.add_url_rule("/", view_func=view)
    meterkit.flask.init_app(app, kit)
    return app


@pytest.mark.parametrize("path", ["/whole", "/stream", "/boom"])
@pytest.mark.parametrize("stack", SYNC, ids=lambda stack: stack.name)
def test_a_wsgi_app_that_calls_another_in_process(make_kit: MakeKit, stack: Stack, path: str) -> None:
    """
    The inner exchange is its own; the outer view has its own again afterwards.
    """
    kit = make_kit(Meter("calls", path="*", status="*"), identify=lambda exchange: "inner")
    inner = stack.make(kit)
    call_wsgi(calling(lambda: stack.call(inner, path=path), kit))
    kit.flush()

    assert [("inner", 1), ("outer", 1)] == sorted((row.company, row.quantity) for row in kit.usage())
    assert "after_response" not in kit.health()["problems"]


def test_a_stream_that_is_read_within_another_view(make_kit: MakeKit) -> None:
    """
    What its generator says is about the inner exchange, until it is exhausted.
    """

    def streaming(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"a"
        meterkit.identify("inner")

    kit = make_kit(Meter("calls", path="*"))
    inner = meterkit.wsgi.MeterMiddleware(streaming, kit)
    call_wsgi(calling(lambda: call_wsgi(inner), kit))
    kit.flush()

    assert ["inner", "outer"] == sorted(str(row.company) for row in kit.usage())


@pytest.mark.parametrize("path", ["/whole", "/stream", "/boom"])
@pytest.mark.parametrize("sub", [bare_asgi_app, starlette_app(), fastapi_app()])
def test_an_asgi_app_that_calls_another_in_process(make_kit: MakeKit, sub: Any, path: str) -> None:
    """
    Also where the inner response was sent from a task of its own, in a copy of the context.
    """
    kit = make_kit(Meter("calls", path="*", status="*"), identify=lambda exchange: "inner")
    inner = meterkit.asgi.MeterMiddleware(sub, kit)

    async def view(request: Request) -> PlainTextResponse:
        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        try:
            await inner({**scope_for(path=path), LOG: []}, receive, send)
        except RuntimeError:
            assert path == "/boom"
        meterkit.identify("outer")
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    call_asgi(app)
    kit.flush()

    assert [("inner", 1), ("outer", 1)] == sorted((row.company, row.quantity) for row in kit.usage())
    assert "after_response" not in kit.health()["problems"]


@pytest.mark.parametrize("stack", SYNC, ids=lambda stack: stack.name)
def test_interleaved_wsgi_exchanges(make_kit: MakeKit, stack: Stack) -> None:
    """
    Two bodies that are read in turns keep their companies and their bytes apart.
    """
    kit = make_kit(
        Meter("bytes", path="*", value="response_bytes"), identify=lambda exchange: exchange.headers["x-company"]
    )
    app = stack.make(kit)
    bodies = []
    for company in ("acme", "globex"):
        stack.call(
            lambda environ, start_response: bodies.append(app(environ, start_response)) or [],
            path="/stream",
            headers={"X-Company": company},
        )
    first, second = (iter(body) for body in bodies)
    next(first)
    assert 3 == len(list(second))
    bodies[0].close()
    bodies[1].close()
    kit.flush()

    assert [("acme", 4), ("globex", 13)] == [(row.company, row.quantity) for row in kit.usage()]


def test_interleaved_asgi_exchanges(make_kit: MakeKit) -> None:
    """
    The same for ASGI: nothing of a request is kept on the middleware.
    """
    kit = make_kit(Meter("bytes", path="*", value="response_bytes"))
    turns = {"acme": asyncio.Event(), "globex": asyncio.Event()}

    async def view(request: Request) -> StreamingResponse:
        company = request.path_params["company"]
        other = "globex" if company == "acme" else "acme"

        async def stream() -> Any:
            for _ in range(2 if company == "acme" else 3):
                yield b"1234"
                turns[other].set()
                await turns[company].wait()
            meterkit.identify(company)

        return StreamingResponse(stream())

    app = Starlette(routes=[Route("/{company}", view)])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*(app(scope_for(path=f"/{company}"), receive, send) for company in turns))

    asyncio.run(both())
    kit.flush()

    assert [("acme", 8), ("globex", 12)] == [(row.company, row.quantity) for row in kit.usage()]
