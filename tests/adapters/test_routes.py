"""The route is the framework's own template, with the prefixes of blueprints, includes, routers and mounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from adapter_stacks import bare_asgi_app, bare_wsgi_app, flask_app
from django.http import HttpResponse
from django.urls import include, path, re_path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import meterkit.asgi
import meterkit.flask
import meterkit.templates
import meterkit.wsgi
from meterkit import Meter, MeterKit

MakeKit = Callable[..., MeterKit]


def flask_shop() -> flask.Flask:
    app = flask.Flask("shop")
    blueprint = flask.Blueprint("v1", "v1", url_prefix="/v1")
    blueprint.add_url_rule("/items/<int:id>", view_func=lambda id: "item")  # noqa: A006 - as the template says
    outer = flask.Blueprint("api", "api", url_prefix="/api")
    outer.register_blueprint(blueprint)
    app.register_blueprint(outer)
    app.add_url_rule("/boom", view_func=lambda: 1 / 0)
    return app


def django_view(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    return HttpResponse(b"item")


urlpatterns = [
    path("api/", include([path("items/<int:id>/", django_view), re_path(r"^old/(?P<id>\d+)/$", django_view)])),
    re_path(r"^plain/(\d+)$", django_view),
    path("boom", lambda request: 1 / 0),
]


async def item(request: Any) -> PlainTextResponse:
    return PlainTextResponse("item")


def starlette_shop() -> Starlette:
    tenant = Mount("/{tenant}", routes=[Route("/items/{id:int}", item, methods=["GET"]), Mount("/deep", app=inner())])
    return Starlette(
        routes=[
            Route("/boom", lambda request: 1 / 0),
            Mount("/files", app=StaticFiles(directory="/")),
            Mount("/wrapped", app=CORSMiddleware(inner())),
            Mount("/layered", routes=[Route("/x", item)], middleware=[Middleware(CORSMiddleware)]),
            Host("api.example.org", app=Router([Mount("/hosted", routes=[Route("/{x}", item)])])),
            Mount("/star", routes=[tenant]),
        ]
    )


def inner() -> Starlette:
    return Starlette(routes=[Route("/", item), Route("/things/{thing}", item)])


def fastapi_shop() -> fastapi.FastAPI:
    app, outer, deep, sub = fastapi.FastAPI(), fastapi.APIRouter(prefix="/v1"), fastapi.APIRouter(), fastapi.FastAPI()

    @deep.get("/items/{id}")
    async def read(id: int) -> str:  # noqa: A002 - as the template says
        return "item"

    sub.include_router(deep, prefix="/sub")
    outer.include_router(deep, prefix="/deep")
    outer.mount("/mounted", inner())
    outer.add_route("/plain/{x}", item)
    app.include_router(outer, prefix="/api")
    app.mount("/apps/{tenant}", sub)
    app.get("/direct/{id}")(read)
    return app


def make_flask(kit: MeterKit) -> Any:
    app = flask_shop()
    meterkit.flask.init_app(app, kit)
    return app


def wsgi(app: Any) -> Callable[[MeterKit], Any]:
    return lambda kit: meterkit.wsgi.MeterMiddleware(app, kit)


def added(make: Callable[[], Any]) -> Callable[[MeterKit], Any]:
    def made(kit: MeterKit) -> Any:
        app = make()
        app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
        return app

    return made


def around(make: Callable[[], Any]) -> Callable[[MeterKit], Any]:
    return lambda kit: meterkit.asgi.MeterMiddleware(make(), kit)


def django_sync(kit: MeterKit) -> Any:
    return django_handler(kit, ROOT_URLCONF=__name__)


def django_async(kit: MeterKit) -> Any:
    return django_handler(kit, is_async=True, ROOT_URLCONF=__name__)


def dispatched(kit: MeterKit) -> Any:
    return wsgi(DispatcherMiddleware(flask_app(), {"/shop": ProxyFix(flask_shop())}))(kit)


FLASK = {
    "/api/v1/items/7": (200, "/api/v1/items/<int:id>"),
    "POST /api/v1/items/7": (405, None),
    "/api/v1/items/x": (404, None),
    "/boom": (500, "/boom"),
}
DJANGO = {
    "/api/items/7/": (200, "/api/items/<int:id>/"),
    "/api/old/7/": (200, r"/api/old/(?P<id>\d+)/$"),
    "/plain/7": (200, r"/^plain/(\d+)$"),
    "/api/items/x/": (404, None),
    "/boom": (500, "/boom"),
}
STARLETTE = {
    "/star/acme/items/7": (200, "/star/{tenant}/items/{id:int}"),
    "/star/acme/deep/things/7": (200, "/star/{tenant}/deep/things/{thing}"),
    "/star/acme/deep/": (200, "/star/{tenant}/deep/"),
    "POST /star/acme/items/7": (405, "/star/{tenant}/items/{id:int}"),
    "/star/acme/nothing": (404, None),
    "/nothing": (404, None),
    "/files/etc/hostname": (200, None),
    "/wrapped/things/7": (200, "/wrapped/things/{thing}"),
    "/layered/x": (200, "/layered/x"),
    "/boom": (500, "/boom"),
}
FASTAPI = {
    "/direct/7": (200, "/direct/{id}"),
    "/api/v1/deep/items/7": (200, "/api/v1/deep/items/{id}"),
    "/api/v1/deep/items/x": (422, "/api/v1/deep/items/{id}"),
    "POST /api/v1/deep/items/7": (405, "/api/v1/deep/items/{id}"),
    "/api/mounted/things/7": (200, "/api/mounted/things/{thing}"),
    "/api/plain/7": (200, "/api/plain/{x}"),
    "/apps/acme/sub/items/7": (200, "/apps/{tenant}/sub/items/{id}"),
    "/nothing": (404, None),
    "/openapi.json": (200, None),
}
SHOPS: dict[str, tuple[Any, Callable[[MeterKit], Any], dict[str, tuple[int, str | None]]]] = {
    "flask": (call_wsgi, make_flask, FLASK),
    "flask-wsgi_app": (call_wsgi, wsgi(flask_shop().wsgi_app), FLASK),
    "flask-app": (call_wsgi, wsgi(flask_shop()), FLASK),
    "flask-mounted": (
        call_wsgi,
        dispatched,
        {
            f"/shop{path}": (status, route and "/shop" + route)
            for path, (status, route) in FLASK.items()
            if path[0] == "/"
        }
        | {"/whole": (201, "/<what>")},
    ),
    "django-wsgi": (call_wsgi, django_sync, DJANGO),
    "django-asgi": (call_asgi, django_async, DJANGO),
    "starlette": (call_asgi, added(starlette_shop), STARLETTE),
    "starlette-around": (call_asgi, around(starlette_shop), STARLETTE),
    "starlette-mounted": (
        call_asgi,
        lambda kit: Starlette(routes=[Mount("/in/{x}", app=added(inner)(kit))]),
        {"/in/7/things/8": (200, "/in/{x}/things/{thing}")},
    ),
    "fastapi": (call_asgi, added(fastapi_shop), FASTAPI),
    "fastapi-around": (call_asgi, around(fastapi_shop), FASTAPI),
    "wsgi": (call_wsgi, wsgi(bare_wsgi_app), {"/whole": (201, None)}),
    "asgi": (call_asgi, around(lambda: bare_asgi_app), {"/whole": (201, None)}),
}
CASES = [(shop, request) for shop, (_, _, requests) in SHOPS.items() for request in requests]


@pytest.mark.parametrize(("shop", "request_line"), CASES)
def test_the_route_is_the_frameworks_template(make_kit: MakeKit, shop: str, request_line: str) -> None:
    """
    Where it matched; None where it did not, or where what it matched is no view.
    """
    call, make, requests = SHOPS[shop]
    status, route = requests[request_line]
    seen: list[Any] = []
    kit = make_kit(
        Meter("calls", path="*", status="*", when=lambda exchange: not seen.append((exchange.status, exchange.route)))
    )
    method, _, path = request_line.rpartition(" ")
    call(make(kit), method or "GET", path)
    kit.flush()

    assert [(status, route)] == seen
    assert [1] == [row.quantity for row in kit.usage()]
    assert "internal_error" not in kit.health()["problems"]


@pytest.mark.parametrize(("shop", "request_line"), [case for case in CASES if SHOPS[case[0]][2][case[1]][1]])
def test_a_route_that_exists_is_no_problem(make_kit: MakeKit, shop: str, request_line: str) -> None:
    """
    Every template that is matched is among those that the app is found to have.
    """
    call, make, requests = SHOPS[shop]
    status, route = requests[request_line]
    kit = make_kit(Meter("calls", route=route, status=status))
    method, _, path = request_line.rpartition(" ")
    call(make(kit), method or "GET", path)

    assert not {"route_unknown", "route_missing"} & set(kit.health()["problems"])


@pytest.mark.parametrize("shop", SHOPS)
def test_a_route_that_does_not_exist_is_said_loudly(make_kit: MakeKit, shop: str, caplog: Any) -> None:
    """
    It would count nothing, and nobody would be billed: with the first success there is an error in the log.
    """
    call, make, requests = SHOPS[shop]
    kit = make_kit(Meter("typo", route="/itmes/{id}"))
    call(make(kit), path=next(path for path, (status, _) in requests.items() if status < 300))

    assert {"route_unknown", "route_missing"} & set(kit.health()["problems"])
    assert ["ERROR"] == [
        record.levelname for record in caplog.records if "/itmes/{id}" in record.message or "typo" in record.message
    ]


def test_a_route_that_is_never_published_is_said_loudly(make_kit: MakeKit) -> None:
    """
    Something between the middleware and the router may hide what matched.
    """

    async def hiding(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope}, receive, send)

    app = starlette_shop()
    kit = make_kit(Meter("calls", route="/layered/x"))
    metered = meterkit.asgi.MeterMiddleware(hiding, kit)
    call_asgi(metered, path="/layered/x")

    assert "route_missing" in kit.health()["problems"]


def test_templates_that_are_there_but_never_published(make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A middleware inside may hand the router a copy of the scope; after many successes without a template, it is said.
    """

    class Copying:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope}, receive, send)

    monkeypatch.setattr("meterkit.routewatch.PATIENCE", 3)
    kit = make_kit(Meter("calls", route="/layered/x"))
    app = starlette_shop()
    app.add_middleware(Copying)
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    for expected in (False, False, True):
        call_asgi(app, path="/layered/x")
        assert expected == ("route_missing" in kit.health()["problems"])


def test_a_templated_mount_is_remembered_within_bounds(make_kit: MakeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Clients choose what stands in it.
    """
    monkeypatch.setattr(meterkit.templates, "MAX_MOUNTS", 3)
    kit = make_kit(Meter("calls", route="/star/{tenant}/items/{id:int}"))
    app = starlette_shop()
    metered = meterkit.asgi.MeterMiddleware(app, kit)
    for number in range(10):
        call_asgi(metered, path=f"/star/tenant-{number}/items/1")
        assert len(metered._templates._mounts) <= 3
    kit.flush()

    assert [10] == [row.quantity for row in kit.usage()]


def test_a_host_and_a_mount_behind_it(make_kit: MakeKit) -> None:
    """
    A host adds nothing to the path.
    """
    kit = make_kit(Meter("calls", route="/hosted/{x}"))
    call_asgi(around(starlette_shop)(kit), path="/hosted/1", scope={"headers": [(b"host", b"api.example.org")]})
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]


def test_a_servers_root_path_is_no_mount(make_kit: MakeKit) -> None:
    """
    What a proxy stripped is in the path, and not in the template.
    """
    kit = make_kit(Meter("calls", route="/star/{tenant}/items/{id:int}", path="/proxy/*"))
    call_asgi(around(starlette_shop)(kit), path="/proxy/star/a/items/1", scope={"root_path": "/proxy"})
    kit.flush()

    assert [1] == [row.quantity for row in kit.usage()]
