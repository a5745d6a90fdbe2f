"""Which requests a rule stops in a Django project, whatever its routes are and whatever instruments the middleware."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from adapter_usage import looked_once, usage_of
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils import translation
from django.utils.translation import gettext_lazy

from meterkit import Governance, Meter, MeterKit, Quota, Refusal
from meterkit.django import MeterMiddleware

pytestmark = pytest.mark.long

Ask = Callable[[str], int]


def view(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse(b"done")


async def async_view(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse(b"done")


def patterns(view: Any) -> list[Any]:
    """What a router makes of two resources, and what people write by hand."""
    return [
        re_path(r"^documents/$", view),
        path("v1/", include([re_path(r"^reports/(?P<pk>[^/.]+)/$", view), re_path(r"^reports/$", view)])),
        path("docs/", view),
        path("docs/<int:pk>/", view),
        path("docs/<int:pk>/pay/", view),
        path("docs/new/", view),
        path("v2/docs/", view),
        path("free/", view),
    ]


EVERY = [
    "/documents/", "/v1/reports/7/", "/v1/reports/", "/docs/", "/docs/7/", "/docs/7/pay/", "/docs/new/", "/v2/docs/",
    "/free/",
]  # fmt: skip


@pytest.fixture(params=["wsgi", "asgi", "asgi with sync views"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Ask]:
    """A function that serves the project with a kit that has looked, and answers a function that asks it."""
    is_async = request.param != "wsgi"

    def serve(kit: MeterKit, **settings: Any) -> Ask:
        found = patterns(async_view if request.param == "asgi" else view)
        project = type("Project", (), {"urlpatterns": found})
        app = django_handler(kit, is_async=is_async, ROOT_URLCONF=project, **settings)
        looked_once(kit)
        return lambda path: (call_asgi if is_async else call_wsgi)(app, "GET", path).status

    return serve


@pytest.mark.parametrize(
    ("route", "stopped"),
    [
        (r"/^documents/$", "/documents/"),
        (r"v1/reports/(?P<pk>[^/.]+)/$", "/v1/reports/7/"),
        ("docs/<int:pk>/", "/docs/7/"),
        ("docs/", "/docs/"),
        ("docs/new/", "/docs/new/"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_a_quota_stops_its_route_alone(
    make_kit: Callable[..., MeterKit], serve: Callable[..., Ask], route: str, stopped: str, exact: bool
) -> None:
    """An expression, as every router of an API makes them, or a template; what is like it goes on."""
    meter = Meter("listing", route=route)
    ask = serve(make_kit(meter, governance=Governance(quotas=[Quota(meter, 0, exact=exact)])))

    assert [stopped] == [each for each in EVERY if ask(each) == 429]


def test_a_used_up_quota_leaves_the_others(make_kit: Callable[..., MeterKit], serve: Callable[..., Ask]) -> None:
    """Two quotas on expressions, of which one is used up."""
    meters = [Meter("documents", route=r"/^documents/$"), Meter("reports", route=r"/v1/reports/$")]
    kit = make_kit(*meters, governance=Governance(quotas=[Quota(meters[0], 1), Quota(meters[1], 9)]))
    ask = serve(kit)
    found = [ask(each) for each in ("/documents/", "/documents/", "/v1/reports/", "/v1/reports/", "/free/")]

    assert [200, 429, 200, 200, 200] == found
    assert {"documents": 1, "reports": 2} == usage_of(kit)


def test_a_refusal_in_the_reader_s_language(make_kit: Callable[..., MeterKit]) -> None:
    """What ``gettext_lazy()`` returns is a text, translated when it is used."""
    calls = Meter("calls")
    text = gettext_lazy("Enter a number.")
    refusal = Refusal(detail=text, body=text)
    kit = make_kit(calls, governance=Governance(quotas=[Quota(calls, 0)], refusals={"quota": refusal}))
    app = django_handler(kit, ROOT_URLCONF=type("Project", (), {"urlpatterns": patterns(view)}), USE_I18N=True)
    looked_once(kit)

    with translation.override("de"):
        response = call_wsgi(app, "GET", "/docs/")
        expected = str(text)

    assert "Enter a number." != expected
    assert (429, expected) == (response.status, response.body.decode())


def _around(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware class that puts a function of *make* around meterkit's `process_view`, as agents do."""

    class Instrumented(MeterMiddleware):
        def __init__(self, get_response: Any) -> None:
            super().__init__(get_response)
            self.process_view = make(self.process_view)

    return Instrumented


def _plain(inner: Any) -> Any:
    def process_view(*args: Any, **named: Any) -> Any:
        return inner(*args, **named)

    return process_view


plainly_instrumented = _around(_plain)
wrapping_instrumented = _around(lambda inner: functools.wraps(inner)(_plain(inner)))


@pytest.mark.parametrize("agent", ["plainly_instrumented", "wrapping_instrumented"])
@pytest.mark.parametrize("exact", [False, True])
def test_an_agent_around_it_harms_nothing(
    make_kit: Callable[..., MeterKit], serve: Callable[..., Ask], agent: str, exact: bool
) -> None:
    """One that puts a plain function around every `process_view`, so that Django takes it for a sync one."""
    meter = Meter("calls", route="free/")
    kit = make_kit(meter, governance=Governance(quotas=[Quota(meter, 2, exact=exact)]))
    ask = serve(kit, MIDDLEWARE=[f"{__name__}.{agent}"])

    assert [200, 200, 429, 200] == [ask(each) for each in ("/free/", "/free/", "/free/", "/docs/")]
    assert {"calls": 2} == usage_of(kit)
    assert {"no_stripe_key"} >= kit.health()["problems"].keys()
