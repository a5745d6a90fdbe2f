"""However a client spells a path, and whatever prefix it claims, what is served is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import usage_of
from django.http import HttpResponse
from django.urls import path as django_path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Meter, MeterKit

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]
PATH = "/RetrieveCreditScore"
BY_PATH = Meter("scores", path=PATH, method="POST")


def flask_app(rule: str = PATH) -> flask.Flask:
    app = flask.Flask("shop")
    app.url_map.strict_slashes = False
    app.post(rule)(lambda **_: "700")
    return app


def served(kit: MeterKit, *answers: Any) -> dict[str, int]:
    """What was counted, where each of the answers is a success."""
    assert {200} == {answer.status for answer in answers}
    return usage_of(kit)


@pytest.mark.parametrize(
    "environ",
    [
        {"PATH_INFO": PATH},
        {"PATH_INFO": "/" + PATH},
        {"PATH_INFO": PATH + "/"},
        {"PATH_INFO": PATH[1:]},  # of a request without a slash
        {"PATH_INFO": PATH[1:], "SCRIPT_NAME": "/x"},
        {"PATH_INFO": PATH, "SCRIPT_NAME": "/x"},
        {"PATH_INFO": "//" + PATH, "SCRIPT_NAME": "/\xc3\xa9"},
    ],
)
@pytest.mark.parametrize("meter", [BY_PATH, Meter("scores", route=PATH)], ids=["path", "route"])
def test_flask(make_kit: MakeKit, meter: Meter, environ: dict[str, str]) -> None:
    """Werkzeug drops leading slashes, may be told to forgive others, and knows nothing of the prefix."""
    kit = make_kit(meter)
    app = flask_app()
    meterkit.flask.init_app(app, kit)

    assert {"scores": 1} == served(kit, call_wsgi(app, "POST", environ=environ))


def test_starlette_and_a_line_break(make_kit: MakeKit) -> None:
    """Its patterns end in ``$``, which matches before a last line break, too."""
    kit = make_kit(BY_PATH)
    app = Starlette(routes=[Route(PATH, lambda _: PlainTextResponse("700"), methods=["POST"])])
    metered = meterkit.asgi.MeterMiddleware(app, kit)

    assert {"scores": 2} == served(kit, call_asgi(metered, "POST", PATH), call_asgi(metered, "POST", PATH + "\n"))


@pytest.mark.parametrize("scope", [{"root_path": "/proxy"}, {"root_path": "/proxy", "path": "/proxy" + PATH}])
@pytest.mark.parametrize("path", [PATH, "/proxy" + PATH])
def test_a_root_path(make_kit: MakeKit, path: str, scope: dict[str, str]) -> None:
    """A proxy, or the server, may have cut the prefix off; ``path=`` is right with it and without it."""
    kit = make_kit(Meter("scores", path=path))
    app = Starlette(routes=[Route(PATH, lambda _: PlainTextResponse("700"))])

    assert {"scores": 1} == served(kit, call_asgi(meterkit.asgi.MeterMiddleware(app, kit), path=PATH, scope=scope))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("prefix", ["", "/x", "/RetrieveCreditScore"])
def test_django(make_kit: MakeKit, prefix: str, is_async: bool) -> None:
    """A server may take the prefix from a header line."""

    class Project:
        urlpatterns = (django_path(PATH[1:], lambda _: HttpResponse("700")),)

    kit = make_kit(Meter("scores", path=PATH), Meter("route", route=PATH))
    app = django_handler(kit, is_async=is_async, ROOT_URLCONF=Project)
    if is_async:
        answer = call_asgi(app, path=prefix + PATH, scope={"root_path": prefix})
    else:
        answer = call_wsgi(app, environ={"PATH_INFO": PATH, "SCRIPT_NAME": prefix})

    assert {"scores": 1, "route": 1} == served(kit, answer)


def test_a_mount_of_starlette_around_the_middleware(make_kit: MakeKit) -> None:
    """The prefix is the mount's."""
    kit = make_kit(Meter("scores", path=PATH), Meter("mounted", path="/api" + PATH), Meter("other", path="/api"))
    inner = Starlette(routes=[Route(PATH, lambda _: PlainTextResponse("700"))])
    app = Starlette(routes=[Mount("/api", meterkit.asgi.MeterMiddleware(inner, kit))])

    assert {"scores": 1, "mounted": 1} == served(kit, call_asgi(app, path="/api" + PATH))


@pytest.mark.parametrize("prefix", ["", "/x", "/v1", "/v1/scores", "/api", "/api/v1", "x"])
@pytest.mark.parametrize("side", ["inside", "outside"])
@pytest.mark.parametrize("mounted", [False, True])
def test_a_prefix_that_a_header_claims(make_kit: MakeKit, mounted: bool, side: str, prefix: str) -> None:
    """ProxyFix believes it; the route is the rule with the prefixes of mounts, and the path is counted either way."""
    rule, path = "/v1/scores/<int:person>", "/v1/scores/7"
    if mounted:
        rule, path = "/api" + rule, "/api" + path
    kit = make_kit(Meter("route", route=rule), Meter("path", path=path.replace("7", "*")))
    inner = flask_app("/v1/scores/<int:person>")
    app: Any = DispatcherMiddleware(flask_app("/"), {"/api": inner}) if mounted else inner
    app = ProxyFix(app, x_prefix=1) if side == "inside" else app
    app = meterkit.wsgi.MeterMiddleware(app, kit)
    app = ProxyFix(app, x_prefix=1) if side == "outside" else app
    headers = {"X-Forwarded-Prefix": prefix} if prefix else {}

    assert {"route": 1, "path": 1} == served(kit, call_wsgi(app, "POST", path, headers=headers))


def test_a_mount_whose_app_rewrites_the_path(make_kit: MakeKit) -> None:
    """The mount's prefix stays in the route."""
    kit = make_kit(Meter("scores", route="/api/scores"))
    inner = flask_app("/scores")

    def rewriting(environ: Any, start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removesuffix(".json").removeprefix("/v1")
        return inner(environ, start_response)

    app = meterkit.wsgi.MeterMiddleware(DispatcherMiddleware(flask_app("/"), {"/api": rewriting}), kit)

    assert {"scores": 2} == served(
        kit, call_wsgi(app, "POST", "/api/v1/scores"), call_wsgi(app, "POST", "/api/scores.json")
    )
