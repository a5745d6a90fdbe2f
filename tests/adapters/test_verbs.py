"""What the app serves is counted and governed, whichever method a client sends for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from adapter_django import django_handler
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_usage import usage_of
from django.http import HttpResponse
from django.urls import path

import meterkit.asgi
import meterkit.wsgi
from meterkit import Exchange, Governance, Meter, MeterKit, Quota

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]
Serve = Callable[..., Answer]


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    environ["REQUEST_METHOD"] = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", environ["REQUEST_METHOD"])
    start_response("200 OK", [("Content-Length", "3")])
    return [b"700"]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    scope["method"] = dict(scope["headers"]).get(b"x-http-method-override", scope["method"].encode()).decode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"700"})


class Project:
    """A URLconf with one view, which any method runs."""

    urlpatterns = (path("", lambda _: HttpResponse("700")),)


def overriding(get_response: Any) -> Any:
    """Middleware of Django that lets the client replace the method."""

    def middleware(request: Any) -> Any:
        request.method = request.headers.get("X-HTTP-Method-Override", request.method)
        return get_response(request)

    return middleware


def wsgi(kit: MeterKit) -> Serve:
    app = meterkit.wsgi.MeterMiddleware(wsgi_app, kit)
    return lambda method, **how: call_wsgi(app, method, **how)


def asgi(kit: MeterKit) -> Serve:
    app = meterkit.asgi.MeterMiddleware(asgi_app, kit)
    return lambda method, **how: call_asgi(app, method, **how)


def django(kit: MeterKit) -> Serve:
    chain = ["meterkit.django.MeterMiddleware", f"{__name__}.overriding"]
    app = django_handler(kit, ROOT_URLCONF=Project, MIDDLEWARE=chain)
    return lambda method, **how: call_wsgi(app, method, **how)


STACKS = pytest.mark.parametrize("stack", [wsgi, asgi, django])


def by_header(exchange: Exchange) -> str:
    """The company; a preflight has no such header, so this raises."""
    return exchange.headers["x-company"]


ACME = {"X-Company": "acme"}


@STACKS
def test_methods_are_compared_in_capitals(make_kit: MakeKit, stack: Callable[[MeterKit], Serve]) -> None:
    """Frameworks make capitals of them, so the view runs; filters and functions see capitals, too."""
    seen: list[str] = []
    kit = make_kit(Meter("scores", method="POST", when=lambda exchange: not seen.append(exchange.method)))  # type: ignore[func-returns-value]
    stack(kit)("post")

    assert (["POST"], {"scores": 1}) == (seen, usage_of(kit))


@STACKS
def test_a_head_is_a_get_without_a_body(make_kit: MakeKit, stack: Callable[[MeterKit], Serve]) -> None:
    """Frameworks run the view of the GET for it."""
    kit = make_kit(Meter("scores", method="GET"), Meter("egress", method="GET", value="response_bytes"))
    serve = stack(kit)
    serve("GET")
    serve("HEAD")

    assert {"scores": 2, "egress": 3} == usage_of(kit)


@STACKS
def test_an_options_that_names_a_company_is_counted(make_kit: MakeKit, stack: Callable[[MeterKit], Serve]) -> None:
    """A browser's preflight, which names none, is free and no problem; where ``method=`` asks for it, it counts."""
    kit = make_kit(Meter("calls"), Meter("gets", method="GET"), Meter("asked", method="OPTIONS"), identify=by_header)
    serve = stack(kit)
    serve("OPTIONS", headers=ACME)
    assert {"calls": 1, "asked": 1} == usage_of(kit)
    assert {"no_stripe_key"} == set(kit.health()["problems"])
    serve("OPTIONS")

    assert {"calls": 1, "asked": 2} == usage_of(kit)


def test_an_options_whose_company_only_the_view_knows(make_kit: MakeKit) -> None:
    """It is counted for that company."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        meterkit.identify("acme")
        return wsgi_app(environ, start_response)

    kit = make_kit(Meter("calls"), identify=lambda exchange: None)
    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), "OPTIONS")
    kit.flush()

    assert [("acme", 1)] == [(row.company, row.quantity) for row in kit.usage()]


@STACKS
@pytest.mark.parametrize(
    ("governance", "reason"),
    [
        (Governance(check=lambda exchange, known: "Not paid for."), "check"),
        (Governance(quotas=[Quota(Meter("calls"), 0)]), "quota"),
        (Governance(quotas=[Quota(Meter("calls"), 0, exact=True)]), "quota"),
        (Governance(unknown="block"), "unknown"),
    ],
    ids=["check", "quota", "exact", "unknown"],
)
def test_an_options_that_names_a_company_is_governed(
    make_kit: MakeKit, stack: Callable[[MeterKit], Serve], governance: Governance, reason: str
) -> None:
    """Of a browser's preflight nobody has said whose it is, so it passes."""
    kit = make_kit(Meter("calls"), identify=by_header, governance=governance)
    kit.process().begin()
    kit.flush()
    serve = stack(kit)
    named, preflight = serve("OPTIONS", headers=ACME), serve("OPTIONS")

    assert reason == json.loads(named.body)["reason"]
    assert (200, b"700") == (preflight.status, preflight.body)
    assert "identify_early_raised" not in kit.health()["problems"]
    assert {} == usage_of(kit)


@STACKS
@pytest.mark.parametrize("sent", ["OPTIONS", "GET", "PUT"])
def test_a_method_that_the_app_replaces(make_kit: MakeKit, stack: Callable[[MeterKit], Serve], sent: str) -> None:
    """The view of the new one runs, so that is what counts, and what a quota holds for."""
    meter = Meter("scores", method="POST")
    kit = make_kit(meter, identify=by_header, governance=Governance(quotas=[Quota(meter, 2)]))
    kit.process().begin()
    kit.flush()
    serve = stack(kit)
    headers = {**ACME, "X-HTTP-Method-Override": "post"}
    statuses = [serve(sent, headers=headers).status for _ in range(3)]

    assert [200, 200, 429] == statuses
    assert 200 == serve(sent, headers=ACME).status
    assert {"scores": 2} == usage_of(kit)


def test_a_head_that_is_served_as_a_get(make_kit: MakeKit) -> None:
    """Middleware may have the app serve a GET; the server sends no body all the same."""
    kit = make_kit(Meter("egress", value="response_bytes"), Meter("scores"))
    wsgi(kit)("HEAD", headers={"X-HTTP-Method-Override": "GET"})

    assert {"scores": 1} == usage_of(kit)
