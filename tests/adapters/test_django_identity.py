"""Who a request of a Django project belongs to: known late, or only outside of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from adapter_django import django_handler
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_usage import looked_once, usage_of
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.asyncio import async_unsafe

import meterkit
from meterkit import Governance, Meter, MeterKit, Quota
from meterkit.django import govern

pytestmark = pytest.mark.long

CALLS = Meter("calls", path="*")
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])


def serve(kit: MeterKit, view: Any, *, is_async: bool, times: int = 1, **how: Any) -> list[Answer]:
    """What so many requests are answered with."""
    app = django_handler(kit, is_async=is_async, ROOT_URLCONF=type("P", (), {"urlpatterns": [path("", view)]}))
    if kit.governor is not None:
        looked_once(kit)
    return [(call_asgi if is_async else call_wsgi)(app, **how) for _ in range(times)]


def statuses(*args: Any, **named: Any) -> list[int | None]:
    return [each.status for each in serve(*args, **named)]


def of_the_view(exchange: Any) -> str | None:
    """Who pays, as an API's framework leaves it on the request once its view has authenticated."""
    return getattr(exchange.native, "organisation", None)


def authenticating(request: HttpRequest) -> HttpResponse:
    request.organisation = "acme"  # type: ignore[attr-defined]
    return HttpResponse(b"done")


@BOTH
def test_who_is_known_too_late_is_reported(make_kit: Callable[..., MeterKit], is_async: bool) -> None:
    """It is counted; that governance could not block it is a problem, with the cure."""
    kit = make_kit(CALLS, identify=of_the_view, governance=Governance(quotas=[Quota(CALLS, 1)]))

    assert [200, 200, 200] == statuses(kit, authenticating, is_async=is_async, times=3)
    assert {"calls": 3} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}
    assert 3 == kit.health()["problems"]["identified_late"]["count"]
    assert "govern()" in kit.health()["problems"]["identified_late"]["message"]


@BOTH
def test_without_governance_nobody_is_late(make_kit: Callable[..., MeterKit], is_async: bool) -> None:
    """Nor is a request that is nobody's in the end."""
    statuses(kit := make_kit(CALLS, identify=of_the_view), authenticating, is_async=is_async)
    governed = make_kit(CALLS, identify=lambda exchange: None, governance=Governance(quotas=[Quota(CALLS, 1)]))
    statuses(governed, authenticating, is_async=is_async)

    assert {"calls": 1} == usage_of(kit)
    assert not {"identified_late"} & (kit.health()["problems"].keys() | governed.health()["problems"].keys())


@BOTH
@pytest.mark.parametrize("exact", [False, True])
def test_a_view_that_has_authenticated_asks_again(
    make_kit: Callable[..., MeterKit], is_async: bool, exact: bool
) -> None:
    """What is stopped then is not billed, and nobody is late."""
    ran = []

    def view(request: HttpRequest) -> HttpResponseBase:
        blocked = govern(request, "acme", user="ada")
        if blocked is None:
            ran.append(request.path)
        return blocked or HttpResponse(b"done")

    kit = make_kit(CALLS, identify=lambda exchange: None, governance=Governance(quotas=[Quota(CALLS, 2, exact=exact)]))

    assert [200, 200, 429, 429] == statuses(kit, view, is_async=is_async, times=4)
    assert 2 == len(ran)
    assert {"calls": 2} == usage_of(kit)
    assert {("acme", "ada")} == {(row.company, row.user) for row in kit.usage()}
    assert [("acme", "quota", 2)] == [(each.company, each.reason, each.count) for each in kit.stopped()]
    assert "identified_late" not in kit.health()["problems"]


@BOTH
def test_who_was_known_reserves_no_second_unit(make_kit: Callable[..., MeterKit], is_async: bool) -> None:
    """Asked again for the same company, an exact quota has decided already; another company is another matter."""

    def view(request: HttpRequest) -> HttpResponseBase:
        return govern(request, "acme") or govern(request, request.headers.get("As", "acme")) or HttpResponse(b"done")

    limits = {"acme": 3, "globex": 0}
    kit = make_kit(CALLS, governance=Governance(quotas=[Quota(CALLS, limits.get, exact=True)]))

    assert [200, 200] == statuses(kit, view, is_async=is_async, times=2)
    assert [429] == statuses(kit, view, is_async=is_async, headers={"As": "globex"})


@BOTH
def test_to_ask_again_where_nothing_governs(make_kit: Callable[..., MeterKit], is_async: bool) -> None:
    """It is allowed; and who pays is said."""
    kit = make_kit(CALLS, identify=lambda exchange: None)

    assert [200] == statuses(kit, lambda request: govern(request, "acme") or HttpResponse(b"done"), is_async=is_async)
    assert {"calls": 1} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}


@async_unsafe
def _from_the_database() -> str:
    """What Django does with each query."""
    return "acme"


def chunks(request: HttpRequest) -> StreamingHttpResponse:
    async def content() -> Any:
        yield b"a"
        yield b"b"

    return StreamingHttpResponse(content())


async def adding(request: HttpRequest) -> HttpResponse:
    meterkit.add_usage("tokens", 5)
    return HttpResponse(b"done")


@pytest.mark.parametrize(
    ("view", "how", "counted"),
    [
        (authenticating, {}, {"calls": 1, "bytes": 4}),
        (adding, {}, {"calls": 1, "bytes": 4, "tokens": 5}),
        (adding, {"method": "HEAD"}, {"calls": 1, "tokens": 5}),
        (chunks, {}, {"calls": 1, "bytes": 2}),
        (chunks, {"method": "HEAD"}, {"calls": 1}),
    ],
    ids=["plain", "adding", "head", "stream", "head of a stream"],
)
@pytest.mark.parametrize("governed", [False, True])
def test_identify_may_query_under_asgi(
    make_kit: Callable[..., MeterKit], view: Any, how: Any, counted: dict[str, int], governed: bool
) -> None:
    """In a thread, because Django refuses queries in the event loop; the answer is as ever."""
    asked = []

    def identify(exchange: Any) -> str:
        asked.append((exchange.native.path, exchange.headers.get("as")))
        return _from_the_database()

    meters = [CALLS, Meter("tokens", path="*", value="tokens"), Meter("bytes", path="*", value="response_bytes")]
    governance = {"governance": Governance(quotas=[Quota(CALLS, 1)])} if governed else {}
    kit = make_kit(*meters, identify=identify, **governance)
    answers = serve(kit, view, is_async=True, times=2, headers={"As": "me"}, **how)

    assert [200, 429 if governed else 200] == [each.status for each in answers]
    assert {name: quantity * (1 if governed else 2) for name, quantity in counted.items()} == usage_of(kit)
    assert {"acme"} == {row.company for row in kit.usage()}
    assert {("/", "me")} == set(asked)
    assert {"no_stripe_key"} >= kit.health()["problems"].keys()
