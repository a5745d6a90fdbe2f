"""A quota on a route of Flask or Starlette stops its requests alone, wherever the app is mounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import looked_once
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import meterkit.asgi
import meterkit.flask
from meterkit import Governance, Meter, MeterKit, Quota


@pytest.fixture
def governed(make_kit: Callable[..., MeterKit]) -> Callable[[str], MeterKit]:
    """A function that makes a kit with a used-up quota on a route, which has looked."""

    def governed(route: str) -> MeterKit:
        meter = Meter("docs", route=route)
        kit = make_kit(meter, governance=Governance(quotas=[Quota(meter, 0)]))
        looked_once(kit)
        return kit

    return governed


async def view(request: Request) -> PlainTextResponse:
    return PlainTextResponse("done")


PATHS = ("/docs/7", "/docs/7/pay", "/v2/docs/7", "/free")


@pytest.mark.parametrize("mounted_at", ["", "/m\xc3\xa9"])
def test_flask_below_a_prefix(governed: Callable[[str], MeterKit], mounted_at: str) -> None:
    """The prefix is the server's, and no part of the route."""
    app = flask.Flask(__name__)
    for rule in ("/docs/<int:id>", "/docs/<int:id>/pay", "/v2/docs/<int:id>", "/free"):
        app.add_url_rule(rule, rule, lambda **_: "done")
    meterkit.flask.init_app(app, governed("/docs/<int:id>"))

    assert [429, 200, 200, 200] == [
        call_wsgi(app, path=path, environ={"SCRIPT_NAME": mounted_at}).status for path in PATHS
    ]


@pytest.mark.parametrize(("root_path", "prefix"), [("", ""), ("/api", "/api"), ("/api", "")])
def test_starlette_below_a_prefix(governed: Callable[[str], MeterKit], root_path: str, prefix: str) -> None:
    """Whether the path has the prefix, as the standard wants it, or a proxy has cut it off."""
    templates = ("/docs/{id:int}", "/docs/{id:int}/pay", "/v2/docs/{id:int}", "/free")
    app = meterkit.asgi.MeterMiddleware(
        Starlette(routes=[Route(each, view) for each in templates]), governed("/docs/{id:int}")
    )

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": root_path}, receive, send)

    assert [429, 200, 200, 200] == [call_asgi(mounted, path=prefix + path).status for path in PATHS]


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_route_below_a_mount(governed: Callable[[str], MeterKit], is_inside: bool) -> None:
    """With the mount's own template, wherever the middleware stands."""
    inner = Starlette(routes=[Route("/docs/{id}", view), Route("/free", view)])
    kit = governed("/v1/docs/{id}")
    mounted = Mount("/v1", app=meterkit.asgi.MeterMiddleware(inner, kit) if is_inside else inner)
    app: Any = Starlette(routes=[mounted])
    if not is_inside:
        app = meterkit.asgi.MeterMiddleware(app, kit)

    assert [429, 200] == [call_asgi(app, path=path).status for path in ("/v1/docs/7", "/v1/free")]
