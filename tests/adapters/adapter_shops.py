"""Apps with blueprints, includes, routers and mounts, and for each of their requests the status and the route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import flask
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

import meterkit.adapters.starlette_routes
import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import MeterKit


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
