"""django-ninja: governance is asked once a key has been checked, and before the operation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import adapter_django  # configures Django, before ninja reads its settings
import pytest
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_usage import looked_once, usage_of
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.asyncio import async_unsafe
from ninja import NinjaAPI
from ninja.security import APIKeyHeader, HttpBearer

from meterkit import Governance, Meter, MeterKit, Quota
from meterkit.django import agovern
from meterkit.django.ninja import BlockedError, GovernedAuth

pytestmark = pytest.mark.long

CALLS = Meter("calls", path="/calls")
EXACT = pytest.mark.parametrize("exact", [False, True])


class Bearer(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> str | None:
        return token if token != "wrong" else None


class AsyncBearer(HttpBearer):
    async def authenticate(self, request: HttpRequest, token: str) -> str | None:
        return token if token != "wrong" else None


class Key(APIKeyHeader):
    param_name = "Authorization"

    def authenticate(self, request: HttpRequest, key: str | None) -> str | None:
        return Bearer().authenticate(request, key.removeprefix("Bearer ")) if key else None


def function(request: HttpRequest) -> str | None:
    return Key()(request)  # type: ignore[no-any-return]


async def async_function(request: HttpRequest) -> str | None:
    return function(request)


AUTHS = pytest.mark.parametrize(
    "auth",
    [Bearer(), AsyncBearer(), Key(), function, async_function],
    ids=["bearer", "async", "key", "def", "async def"],
)
SERVED = pytest.mark.parametrize("served", ["wsgi", "asgi", "async operation"])


@async_unsafe
def _from_the_database(company: str | None) -> str | None:
    """What Django does with each query: it refuses one in an event loop."""
    return company


def of_the_key(exchange: Any) -> str | None:
    return _from_the_database(getattr(exchange.native, "auth", None))


def of_the_header(exchange: Any) -> str | None:
    return (exchange.headers.get("authorization") or "").removeprefix("Bearer ") or None


@pytest.fixture
def serve(make_kit: Callable[..., MeterKit]) -> Callable[..., Any]:
    """A function that serves an API with the kit's options, and returns a function that asks it."""

    def serve(auth: Any, served: str, *, handlers: Any = None, identify: Any = of_the_key, **options: Any) -> Any:
        kit = make_kit(CALLS, identify=identify, **options)
        api = NinjaAPI(auth=auth, urls_namespace=f"api-{id(kit)}")
        ran: list[str] = []

        def operation(request: HttpRequest) -> dict[str, bool]:
            ran.append(request.auth)  # type: ignore[attr-defined]
            return {"served": True}

        async def async_operation(request: HttpRequest) -> dict[str, bool]:
            return operation(request)

        api.get("/calls")(async_operation if served == "async operation" else operation)
        if handlers is not None:
            api.exception_handler(BlockedError)(handlers)
        is_async = served != "wsgi"
        project = type("Project", (), {"urlpatterns": [path("", api.urls)]})
        app = adapter_django.django_handler(kit, is_async=is_async, ROOT_URLCONF=project)
        if kit.governor is not None:
            looked_once(kit)

        def call(company: str = "acme", at: str = "/calls") -> Answer:
            headers = {"Authorization": f"Bearer {company}"} if company else {}
            return (call_asgi if is_async else call_wsgi)(app, "GET", at, headers=headers)

        call.kit, call.ran = kit, ran  # type: ignore[attr-defined]
        return call

    return serve


@AUTHS
@SERVED
@EXACT
def test_a_quota_stops_whom_a_key_belongs_to(serve: Any, auth: Any, served: str, exact: bool) -> None:
    """With ninja's own shape, and the time after which it may be tried again; what is stopped is not counted."""
    call = serve(GovernedAuth(auth), served, governance=Governance(quotas=[Quota(CALLS, 2, exact=exact)]))
    found = [call() for _ in range(3)]

    assert [200, 200, 429] == [each.status for each in found]
    assert {"detail": "The quota of 2 calls for this billing period is used up."} == json.loads(found[2].body)
    assert int(dict(found[2].headers)["Retry-After"]) > 0
    assert [200, 401, 401] == [call(each).status for each in ("globex", "wrong", "")]
    assert ["acme", "acme", "globex"] == call.ran
    assert {"calls": 3} == usage_of(call.kit)
    assert "identified_late" not in call.kit.health()["problems"]
    assert "internal" not in call.kit.health()["problems"]


@SERVED
@EXACT
def test_who_was_known_before_the_view_is_decided_once(serve: Any, served: str, exact: bool) -> None:
    """No second unit of an exact quota is reserved for the same request."""
    governance = Governance(quotas=[Quota(CALLS, 3, exact=exact)])
    call = serve(GovernedAuth(Bearer()), served, identify=of_the_header, governance=governance)

    assert [200, 200, 200, 429] == [call().status for _ in range(4)]
    assert {"calls": 3} == usage_of(call.kit)


@SERVED
def test_a_402_and_a_handler_of_the_project_s_own(serve: Any, served: str) -> None:
    """It sees the reason, and the response that the kit would have sent."""

    def handler(request: HttpRequest, error: BlockedError) -> Any:
        error.response["X-Reason"] = error.reason
        return error.response

    governance = Governance(check=lambda exchange, known: "Please pay.")
    plain = serve(GovernedAuth(Bearer()), served, governance=governance)()
    handled = serve(GovernedAuth(Bearer()), served, governance=governance, handlers=handler)()

    assert (402, {"detail": "Please pay."}) == (plain.status, json.loads(plain.body))
    assert (402, "check") == (handled.status, dict(handled.headers)["X-Reason"])
    assert "application/problem+json" == dict(handled.headers)["Content-Type"]


@SERVED
def test_of_several_the_one_that_knows_the_key_asks(serve: Any, served: str) -> None:
    """One that refuses is no decision."""
    several = [GovernedAuth(lambda request: None), GovernedAuth(Bearer())]
    call = serve(several, served, governance=Governance(quotas=[Quota(CALLS, 1, exact=True)]))

    assert [200, 429] == [call().status for _ in range(2)]


def test_the_document_has_each_security_scheme(serve: Any) -> None:
    """Under the name that each has without this."""
    call = serve([GovernedAuth(Bearer()), GovernedAuth(Key())], "wsgi")
    schemes = json.loads(call(at="/openapi.json").body)["components"]["securitySchemes"]

    assert {"Bearer": "http", "Key": "apiKey"} == {name: each["type"] for name, each in schemes.items()}


@EXACT
def test_an_async_view_asks_itself(make_kit: Callable[..., MeterKit], exact: bool) -> None:
    """For a company that it has authenticated in whatever way."""

    async def view(request: HttpRequest) -> Any:
        return await agovern(request, "acme", user="ada") or HttpResponse(b"done")

    kit = make_kit(CALLS, identify=lambda exchange: None, governance=Governance(quotas=[Quota(CALLS, 2, exact=exact)]))
    project = type("Project", (), {"urlpatterns": [path("calls", view)]})
    app = adapter_django.django_handler(kit, is_async=True, ROOT_URLCONF=project)
    looked_once(kit)

    assert [200, 200, 429] == [call_asgi(app, "GET", "/calls").status for _ in range(3)]
    assert {"calls": 2} == usage_of(kit)
    assert {("acme", "ada")} == {(row.company, row.user) for row in kit.usage()}


@SERVED
@EXACT
def test_an_async_identify_is_called_again(serve: Any, served: str, exact: bool) -> None:
    """It returns None before the view, and the key's company after it."""

    async def identify(exchange: Any) -> str | None:
        return getattr(exchange.native, "auth", None)

    governance = Governance(quotas=[Quota(CALLS, 1, exact=exact)])
    call = serve(GovernedAuth(Bearer()), served, identify=identify, governance=governance)

    assert [200, 429] == [call().status for _ in range(2)]
    assert {"calls": 1} == usage_of(call.kit)
    assert {"acme"} == {row.company for row in call.kit.usage()}
