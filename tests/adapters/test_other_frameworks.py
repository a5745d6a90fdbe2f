"""Frameworks that no guide describes: their route templates are read, or it is said that they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import usage_of
from starlette.applications import Starlette
from starlette.routing import Mount

import meterkit.asgi
import meterkit.wsgi
from meterkit import Meter, MeterKit

MakeKit = Callable[..., MeterKit]
ROUTES = [Meter("items", route="/v1/items/{n:int}"), Meter("plain", route="/plain"), Meter("typo", route="/v1/itmes")]


def route_problems(kit: MeterKit) -> dict[str, str]:
    problems = kit.health()["problems"]
    return {reason: problem["message"] for reason, problem in problems.items() if reason.startswith("route_")}


def litestar_app() -> Any:
    litestar = pytest.importorskip("litestar")

    @litestar.get("/items/{n:int}", sync_to_thread=False)
    def item() -> str:
        return "item"

    @litestar.get("/plain", sync_to_thread=False)
    def plain() -> str:
        return "plain"

    return litestar.Litestar([litestar.Router("/v1", route_handlers=[item]), plain])


def test_litestar(make_kit: MakeKit) -> None:
    """The path as it was declared; one that does not exist is said, with those that do."""
    kit = make_kit(*ROUTES, Meter("path", path="/v1/items/*"))
    app = meterkit.asgi.MeterMiddleware(litestar_app(), kit)
    answers = [call_asgi(app, path=path).status for path in ("/v1/items/7", "/v1/items/7/", "/v1//items/7", "/plain")]

    assert [200] * 4 == answers
    assert {"items": 3, "plain": 1, "path": 3} == usage_of(kit)
    assert {"route_unknown"} == set(route_problems(kit))
    assert "did you mean '/v1/items/{n:int}'?" in route_problems(kit)["route_unknown"]
    assert "Meter('items')" not in route_problems(kit)["route_unknown"]


def test_litestar_mounted_in_starlette(make_kit: MakeKit) -> None:
    """The mount's prefix is part of the route."""
    inner = litestar_app()
    kit = make_kit(Meter("items", route="/api/v1/items/{n:int}"))
    app = meterkit.asgi.MeterMiddleware(Starlette(routes=[Mount("/api", inner)]), kit)
    call_asgi(app, path="/api/v1/items/7")

    assert ({"items": 1}, {}) == (usage_of(kit), route_problems(kit))


def test_bottle(make_kit: MakeKit) -> None:
    """The rule as it was declared, with the prefix of a mount; and undecodable bytes, which Bottle drops."""
    bottle = pytest.importorskip("bottle")
    app, inner = bottle.Bottle(), bottle.Bottle()
    inner.route("/items/<n:int>", callback=lambda n: "item")
    app.route("/plain", callback=lambda: "plain")
    app.mount("/v1/", inner)
    items = Meter("items", route="/v1/items/<n:int>")
    kit = make_kit(items, Meter("plain", path="/plain"), Meter("typo", route="/v1/itmes/<n:int>"))
    metered = meterkit.wsgi.MeterMiddleware(app, kit)
    answers = [call_wsgi(metered, path="/v1/items/7"), call_wsgi(metered, environ={"PATH_INFO": "/plain\xff"})]

    assert [200, 200] == [answer.status for answer in answers]
    assert {"items": 1, "plain": 1} == usage_of(kit)
    assert ["route_unknown"] == list(route_problems(kit))
    assert "did you mean '/v1/items/<n:int>'?" in route_problems(kit)["route_unknown"]


def test_an_app_whose_templates_cannot_be_compared(make_kit: MakeKit) -> None:
    """An attribute of the same name is no router: the message does not send anybody to look for a typing mistake."""

    class App:
        routes = (object(),)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["app"] = self
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    kit = make_kit(Meter("items", route="/items"))
    call_asgi(meterkit.asgi.MeterMiddleware(App(), kit), path="/items")

    assert ["route_missing"] == list(route_problems(kit))


def test_connexion(make_kit: MakeKit) -> None:
    """Its own pages are routes that can be read, and its operations are not."""
    connexion = pytest.importorskip("connexion")
    operation = {"operationId": f"{__name__}.found", "responses": {"200": {"description": "ok"}}}
    app = connexion.AsyncApp("shop")
    app.add_api({"openapi": "3.0.0", "info": {"title": "x", "version": "1"}, "paths": {"/items": {"get": operation}}})
    kit = make_kit(Meter("items", route="/items"))
    answer = call_asgi(meterkit.asgi.MeterMiddleware(app, kit), path="/items")

    assert (200, ["route_missing"]) == (answer.status, list(route_problems(kit)))


def found() -> str:
    """What Connexion calls."""
    return "found"
