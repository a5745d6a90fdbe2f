"""Django REST framework: governance is asked once its view has authenticated, and before its handler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from adapter_django import django_handler
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_usage import looked_once, usage_of
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from meterkit import Governance, Meter, MeterKit, Quota, Refusal
from meterkit.django.drf import UsageThrottle

CALLS = Meter("calls", path="*")
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])
EXACT = pytest.mark.parametrize("exact", [False, True])


class Account:
    is_authenticated = True

    def __init__(self, company: str) -> None:
        self.company = company


class ByToken(BaseAuthentication):
    """A token is the company's name."""

    def authenticate(self, request: Any) -> tuple[Account, str]:
        token = request.headers.get("Authorization", "")
        if not token:
            raise AuthenticationFailed
        return Account(token), token


class View(APIView):
    authentication_classes = (ByToken,)
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    throttle_classes: Any = (UsageThrottle,)
    served: ClassVar[list[str]] = []

    def get(self, request: Any) -> Response:
        self.served.append(request.user.company)
        if request.query_params.get("wrong"):
            raise ValidationError("wrong")
        return Response({"served": True})


def of_the_user(exchange: Any) -> str | None:
    return getattr(getattr(exchange.native, "user", None), "company", None)


@pytest.fixture
def ask(make_kit: Callable[..., MeterKit]) -> Callable[..., Answer]:
    """A function that serves a project with the kit's options, and asks it."""
    View.served.clear()

    def serve(*, is_async: bool, view: Any = View, identify: Any = of_the_user, **options: Any) -> Any:
        kit = make_kit(CALLS, identify=identify, **options)
        project = type("Project", (), {"urlpatterns": [path("", view.as_view())]})
        app = django_handler(
            kit, is_async=is_async, ROOT_URLCONF=project, REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}
        )
        if kit.governor is not None:
            looked_once(kit)

        def call(company: str = "acme", **how: Any) -> Answer:
            headers = {"Authorization": company} if company else {}
            return (call_asgi if is_async else call_wsgi)(app, headers=headers, **how)

        call.kit = kit  # type: ignore[attr-defined]
        return call

    return serve


@BOTH
@EXACT
def test_a_quota_stops_whom_the_view_authenticates(ask: Any, is_async: bool, exact: bool) -> None:
    """With the framework's own 429; what is stopped never reaches the handler, and is not counted."""
    call = ask(is_async=is_async, governance=Governance(quotas=[Quota(CALLS, 2, exact=exact)]))
    found = [call() for _ in range(4)]

    assert [200, 200, 429, 429] == [each.status for each in found]
    assert ["acme", "acme"] == View.served
    assert {"calls": 2} == usage_of(call.kit)
    assert {"detail": "The quota of 2 calls for this billing period is used up."} == json.loads(found[2].body)
    assert int(dict(found[2].headers)["Retry-After"]) > 0
    assert 200 == call("globex").status
    assert [("acme", "quota", 2)] == [(each.company, each.reason, each.count) for each in call.kit.stopped()]
    assert "identified_late" not in call.kit.health()["problems"]


@BOTH
@EXACT
def test_who_was_known_before_the_view_is_decided_once(ask: Any, is_async: bool, exact: bool) -> None:
    """No second unit of an exact quota is reserved for the same request."""
    call = ask(
        is_async=is_async,
        identify=lambda exchange: exchange.headers.get("authorization"),
        governance=Governance(quotas=[Quota(CALLS, 3, exact=exact)]),
    )

    assert [200, 200, 200, 429] == [call().status for _ in range(4)]
    assert {"calls": 3} == usage_of(call.kit)


@BOTH
@EXACT
def test_what_fails_afterwards_gives_its_unit_back(ask: Any, is_async: bool, exact: bool) -> None:
    """A 400 of the handler, and a 429 of another throttle, are free."""

    class Never(BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            return "busy" not in request.query_params

        def wait(self) -> int:
            return 7

    class Both(View):
        throttle_classes = (UsageThrottle, Never)

    call = ask(is_async=is_async, view=Both, governance=Governance(quotas=[Quota(CALLS, 1, exact=exact)]))
    queries = [("wrong=1", 400), ("busy=1", 429), ("", 200), ("", 429)]
    sent = [
        {"scope": {"query_string": each.encode()}} if is_async else {"environ": {"QUERY_STRING": each}}
        for each, _ in queries
    ]
    found = [call(**each) for each in sent]

    assert [status for _, status in queries] == [each.status for each in found]
    assert "7" == dict(found[1].headers)["Retry-After"]
    assert {"calls": 1} == usage_of(call.kit)


@BOTH
def test_a_402_has_the_framework_s_shape(ask: Any, is_async: bool) -> None:
    """And the reason as its code, for an exception handler of the project's own."""
    seen = []

    class Handled(View):
        def handle_exception(self, exc: Any) -> Any:
            seen.append((type(exc).__name__, exc.get_full_details()))
            return super().handle_exception(exc)

    check = Governance(check=lambda exchange, known: "Please pay.")
    found = ask(is_async=is_async, view=Handled, governance=check)()

    assert (402, {"detail": "Please pay."}) == (found.status, json.loads(found.body))
    assert [("APIException", {"message": "Please pay.", "code": "check"})] == seen


@BOTH
@pytest.mark.parametrize(
    ("refusal", "detail"),
    [
        (Refusal(detail="Pay at {company}.example"), "Pay at acme.example"),
        (Refusal(body="<p>no</p>", media_type="text/html"), "Payment Required"),
        (Refusal(body=lambda block: [1]), "Payment Required"),
        (Refusal(body=b"\xff".decode("latin-1")), "Payment Required"),
    ],
    ids=["detail", "html", "json", "text"],
)
def test_a_refusal_of_the_kit_s_own(ask: Any, is_async: bool, refusal: Refusal, detail: str) -> None:
    """Its sentence and its status are the exception's; its body is not."""
    governance = Governance(check=lambda exchange, known: "no", refusals={"check": refusal})
    found = ask(is_async=is_async, governance=governance)()

    assert (402, {"detail": detail}) == (found.status, json.loads(found.body))


@BOTH
def test_a_project_names_the_company_itself(ask: Any, is_async: bool) -> None:
    """In a subclass, where the kit's ``identify=`` cannot know it."""

    class Named(UsageThrottle):
        def get_company(self, request: Any, view: Any) -> str:
            return f"{request.user.company} of {type(view).__name__}"

    class OfTheView(View):
        throttle_classes = (Named,)

    call = ask(
        is_async=is_async,
        view=OfTheView,
        identify=lambda exchange: None,
        governance=Governance(quotas=[Quota(CALLS, 1)]),
    )

    assert [200, 429] == [call().status for _ in range(2)]
    assert {"calls": 1} == usage_of(call.kit)
    assert {"acme of OfTheView"} == {row.company for row in call.kit.usage()}


@BOTH
def test_who_is_not_authenticated_is_not_asked_about(ask: Any, is_async: bool) -> None:
    """It is refused by the framework, with a 403 as it has no ``authenticate_header``."""
    call = ask(is_async=is_async, governance=Governance(quotas=[Quota(CALLS, 0)]))

    assert 403 == call("").status
    assert {} == usage_of(call.kit)


@BOTH
def test_without_governance_it_allows_everything(ask: Any, is_async: bool) -> None:
    """And asks for nobody."""
    call = ask(is_async=is_async)

    assert 200 == call().status
    assert {"calls": 1} == usage_of(call.kit)


def test_without_the_middleware_it_allows_everything() -> None:
    """There is nothing to decide about what nobody counts."""
    project = type("Project", (), {"urlpatterns": [path("", View.as_view())]})
    app = django_handler(None, ROOT_URLCONF=project, REST_FRAMEWORK={"UNAUTHENTICATED_USER": None})

    assert 200 == call_wsgi(app, headers={"Authorization": "acme"}).status
