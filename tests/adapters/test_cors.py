"""What meterkit answers itself is readable in a browser: what adds CORS headers elsewhere adds them here, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flask
import pytest
from adapter_drivers import Answer, call_asgi, call_wsgi
from fastapi import FastAPI
from flask_cors import CORS
from guard import GUARD
from starlette.middleware.cors import CORSMiddleware

import meterkit.asgi
import meterkit.flask
from meterkit import Governance, Meter, MeterKit, Quota

pytestmark = pytest.mark.long

CALLS = Meter("calls", path="/calls")
ORIGIN = "https://shop.example"
ALLOWED = "access-control-allow-origin"
EXPOSED = "access-control-expose-headers"


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    """A kit with a quota of one call, and a customer page."""
    kit = make_kit(
        CALLS,
        identify=lambda exchange: exchange.headers.get("x-company"),
        governance=Governance(quotas=[Quota(CALLS, 1)]),
        customer_page="/usage",
    )
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    return kit


def fastapi_app(kit: MeterKit) -> Any:
    app = FastAPI()
    app.get("/calls")(lambda: "ok")
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    app.add_middleware(
        CORSMiddleware, allow_origins=[ORIGIN], allow_headers=["x-company"], expose_headers=["retry-after"]
    )
    return app


def flask_app(kit: MeterKit, *, cors_first: bool = True) -> flask.Flask:
    app = flask.Flask("browsed")
    if cors_first:
        CORS(app, origins=[ORIGIN], expose_headers=["Retry-After"])
    app.get("/calls")(lambda: "ok")
    meterkit.flask.init_app(app, kit)
    if not cors_first:
        CORS(app, origins=[ORIGIN], expose_headers=["Retry-After"])
    return app


APPS: dict[str, tuple[Callable[..., Answer], Callable[[MeterKit], Any]]] = {
    "fastapi": (call_asgi, fastapi_app),
    "flask": (call_wsgi, flask_app),
    "flask, cors last": (call_wsgi, lambda kit: flask_app(kit, cors_first=False)),
}


@pytest.fixture(params=APPS)
def ask(request: pytest.FixtureRequest, kit: MeterKit) -> Callable[..., Answer]:
    """Sends what a browser sends."""
    call, make = APPS[request.param]
    app = make(kit)

    def ask(path: str = "/calls", method: str = "GET", **headers: str) -> Answer:
        return call(app, method, path, headers={"Origin": ORIGIN, **headers})

    return ask


def of(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers}


def test_a_refusal(ask: Callable[..., Answer], kit: MeterKit) -> None:
    """Its status, why, and when to ask again; it is no usage."""
    allowed, refused = (ask(**{"X-Company": "acme"}) for _ in range(2))
    kit.flush()

    assert [200, 429] == [allowed.status, refused.status]
    assert [ORIGIN, ORIGIN] == [of(answer)[ALLOWED] for answer in (allowed, refused)]
    assert "retry-after" == of(refused)[EXPOSED].lower()
    assert "quota" == json.loads(refused.body)["reason"]
    assert str(len(refused.body)) == of(refused)["content-length"]
    assert 1 == sum(row.quantity for row in kit.usage())


def test_the_customer_page(ask: Callable[..., Answer]) -> None:
    """Also to whom it is not shown."""
    answers = [ask("/usage", **{"X-Company": "acme"}), ask("/usage")]

    assert [200, 401] == [answer.status for answer in answers]
    assert [ORIGIN, ORIGIN] == [of(answer)[ALLOWED] for answer in answers]
    assert "acme" == json.loads(answers[0].body)["company"]


@pytest.mark.parametrize("path", ["/usage", "/calls"])
def test_a_preflight(ask: Callable[..., Answer], path: str) -> None:
    """Carries no key, and is answered all the same."""
    wanted = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-company"}
    answer = ask(path, "OPTIONS", **wanted)

    assert 200 == answer.status
    assert ORIGIN == of(answer)[ALLOWED]
    assert "x-company" in of(answer)["access-control-allow-headers"].lower()


def test_a_blueprint_of_its_own_origin(kit: MeterKit) -> None:
    """Flask knows which blueprint would have answered."""
    blueprint = flask.Blueprint("api", "api")
    CORS(blueprint, origins=[ORIGIN])
    blueprint.get("/calls")(lambda: "ok")
    app = flask.Flask("browsed")
    app.register_blueprint(blueprint)
    meterkit.flask.init_app(app, kit)
    answers = [call_wsgi(app, path="/calls", headers={"Origin": ORIGIN, "X-Company": "acme"}) for _ in range(2)]

    assert [(200, ORIGIN), (429, ORIGIN)] == [(answer.status, of(answer)[ALLOWED]) for answer in answers]


def test_only_what_comes_after_runs(kit: MeterKit) -> None:
    """No view and nothing before it: the request is blocked. What the app has opened for it is closed."""
    app = flask.Flask("browsed")
    ran: list[str] = []
    app.before_request(lambda: ran.append("before"))
    app.after_request(lambda response: (ran.append("after"), response)[1])
    app.teardown_request(lambda _: ran.append("teardown"))
    app.get("/calls")(lambda: (ran.append("view"), "ok")[1])
    meterkit.flask.init_app(app, kit)
    for _ in range(2):
        call_wsgi(app, path="/calls", headers={"X-Company": "acme"})

    assert ["before", "view", "after", "teardown", "after", "teardown"] == ran


@pytest.mark.parametrize("where", ["after_request", "teardown_request"])
def test_a_function_that_relies_on_the_one_before(kit: MeterKit, where: str) -> None:
    """The refusal is sent as it is, and the operator learns why."""
    app = flask.Flask("browsed")

    def set_it() -> None:
        flask.g.user = "ann"

    def relies(response: Any) -> Any:
        assert flask.g.user == "ann"
        return response

    app.before_request(set_it)
    getattr(app, where)(relies)
    app.get("/calls")(lambda: "ok")
    meterkit.flask.init_app(app, kit)
    answers = [call_wsgi(app, path="/calls", headers={"X-Company": "acme"}) for _ in range(2)]

    assert [(200, None), (429, None)] == [(answer.status, answer.error) for answer in answers]
    assert "quota" == json.loads(answers[1].body)["reason"]
    assert "before_request" in kit.health()["problems"]["after_request_raised"]["message"]
