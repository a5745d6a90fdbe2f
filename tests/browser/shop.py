"""
A shop that sells calls in plans, on Flask, Django and FastAPI: what the browser visits, and its own small pages.

Who is logged in is in a cookie, which a browser may set by asking for ``/login``: a shop for tests alone.
"""

from __future__ import annotations

import json
import os
import urllib.request
from http.cookies import SimpleCookie
from typing import Any

from meterkit import Governance, Meter, MeterKit, Pages, Plan, Price, Quota, Tier, Webhook

WEBHOOK_SECRET = "whsec_of_the_shop"

CALLS = Meter("calls", path="/v1/score")
EXPORTS = Meter("exports", path="/v1/export")
PLANS = [
    Plan(
        "pro",
        fee="20.00",
        prices=[
            Price.graduated(CALLS, Tier(up_to=100, unit_price="0.50"), Tier(unit_price="0.20")),
            Price.per_unit(EXPORTS, "2.00"),
        ],
        limits=[Quota(CALLS, 10_000)],
    ),
    Plan("team", fee="90.00", prices=[Price.per_unit(EXPORTS, "1.00")], includes={EXPORTS: 50}),
]


class SandboxClock:
    """The sandbox's time, which the shop lives in; the last that was heard, once the sandbox is gone."""

    def __init__(self, base: str) -> None:
        self._url = f"{base}/_sandbox/clock"
        self._now = 0.0

    def __call__(self) -> float:
        try:
            with urllib.request.urlopen(self._url, timeout=300) as response:
                self._now = float(json.load(response)["now"])
        except OSError:
            pass
        return self._now


def cookie(exchange: Any, name: str) -> str | None:
    """What the browser says it is."""
    found = SimpleCookie(exchange.headers.get("cookie") or "").get(name)
    return None if found is None else found.value


def make_kit(*, base: str, **options: Any) -> MeterKit:
    """The shop's kit, in the account of the sandbox at *base*."""
    return MeterKit(
        meters=[CALLS, EXPORTS],
        plans=PLANS,
        identify=lambda exchange: cookie(exchange, "company"),
        governance=Governance(overdue_days=0, exempt=["/login", "/billing", "/billing/*"]),
        webhook=Webhook("/stripe/webhook", secret=WEBHOOK_SECRET),
        pages=Pages(
            "/billing",
            team=lambda exchange: cookie(exchange, "staff") == "yes",
            name="Scores & Sons",
            color="#0b7285",
            plans=["pro", "team"],
        ),
        stripe_base=base,
        clock=SandboxClock(base),
        flush_interval=0.2,
        **options,
    )


if "SHOP_SANDBOX" in os.environ:  # in a server's process
    kit = make_kit(base=os.environ["SHOP_SANDBOX"])


def _log_in(query: dict[str, str]) -> list[tuple[str, str]]:
    return [("Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax") for name, value in query.items()]


def flask() -> Any:
    """The shop on Flask."""
    from flask import Flask, Response, request

    import meterkit.flask

    app = Flask(__name__)
    app.get("/login")(lambda: Response("welcome", headers=_log_in(request.args.to_dict())))
    app.get("/v1/<name>", endpoint="view")(lambda name: {name: 1})
    meterkit.flask.init_app(app, kit)
    return app


def django() -> Any:
    """The shop on Django."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, JsonResponse
    from django.urls import path

    def log_in(request: Any) -> HttpResponse:
        response = HttpResponse("welcome")
        for name, value in request.GET.items():
            response.set_cookie(name, value, httponly=True, samesite="Lax")
        return response

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        METERKIT="shop.kit",
        MIDDLEWARE=["meterkit.django.MeterMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
        ROOT_URLCONF=(
            path("login", log_in),
            path("v1/<name>", lambda _, name: JsonResponse({name: 1})),
        ),
        SECRET_KEY="of a shop that sells nothing",
    )
    return get_wsgi_application()


def fastapi() -> Any:
    """The shop on FastAPI."""
    from fastapi import FastAPI
    from starlette.responses import PlainTextResponse, Response

    from meterkit.asgi import MeterMiddleware

    app = FastAPI()

    def log_in(request: Any) -> Response:
        response = PlainTextResponse("welcome")
        for name, value in request.query_params.items():
            response.set_cookie(name, value, httponly=True, samesite="lax")
        return response

    app.add_route("/login", log_in)

    @app.get("/v1/{name}")
    def view(name: str) -> dict[str, int]:
        return {name: 1}

    app.add_middleware(MeterMiddleware, kit=kit)
    return app
