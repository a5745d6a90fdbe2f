"""A client that leaves before the first byte: charged if the app answers all the same, a 499 if it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import django
import fastapi
import pytest
from adapter_django import django_handler
from adapter_drivers import call_wsgi, scope_for
from adapter_usage import DJANGO_LEAVES_ITS_FILE, usage_of
from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import meterkit
import meterkit.asgi
import meterkit.wsgi
from meterkit import Meter, MeterKit

MakeKit = Callable[..., MeterKit]


@pytest.fixture
def kit(make_kit: MakeKit) -> MeterKit:
    """Counts tokens of successes, failures, and of all."""
    kinds = {"succeeded": "2xx", "left": 499, "broke": "5xx", "any": "*"}
    return make_kit(*(Meter(name, path="*", value="tokens", status=status) for name, status in kinds.items()))


class View:
    """Says that it used 50 tokens, sees the client leave, and goes on when it is told to."""

    def __init__(self) -> None:
        self.entered, self.may_answer = asyncio.Event(), asyncio.Event()

    async def work(self) -> None:
        meterkit.add_usage("tokens", 50)
        self.entered.set()
        await self.may_answer.wait()

    async def starlette(self, request: Request) -> PlainTextResponse:
        await self.work()
        return PlainTextResponse("done")

    async def django(self, request: HttpRequest) -> HttpResponse:
        await self.work()
        return HttpResponse("done")

    async def listener(self, scope: Any, receive: Any, send: Any) -> None:
        """As Quart does it: stop the view when the client has left, and return."""
        while (await receive())["type"] != "http.disconnect":
            view = asyncio.create_task(self.work())
        view.cancel()
        await asyncio.wait([view])

    async def raises(self, scope: Any, receive: Any, send: Any) -> None:
        """As a view that reads its body in Starlette."""
        await receive()
        meterkit.add_usage("tokens", 50)
        self.entered.set()
        if (await receive())["type"] == "http.disconnect":
            raise ClientDisconnect


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def starlette(view: View, kit: MeterKit) -> Any:
    app = Starlette(routes=[Route("/", view.starlette)])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def fastapi_app(view: View, kit: MeterKit) -> Any:
    app = fastapi.FastAPI()
    app.add_route("/", view.starlette)
    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def django_app(view: View, kit: MeterKit) -> Any:
    return django_handler(kit, is_async=True, ROOT_URLCONF=(path("", view.django),))


def around(name: str) -> Any:
    return lambda view, kit: meterkit.asgi.MeterMiddleware(getattr(view, name), kit)


ANSWER = {"starlette": starlette, "fastapi with a BaseHTTPMiddleware": fastapi_app}
STOP = {"quart's way": around("listener"), "raises": around("raises")}
if django.VERSION >= (5,):  # the first that listens
    STOP["django"] = django_app


async def _leave(make: Any, kit: MeterKit, *, answers: bool, cancel: bool = False) -> None:
    view = View()
    sent = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in sent:
            return message
        await view.entered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    app = make(view, kit)
    task = asyncio.create_task(app(scope_for(), receive, send))
    await view.entered.wait()
    if answers:
        view.may_answer.set()
    if cancel:
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


@pytest.mark.parametrize("make", ANSWER.values(), ids=ANSWER)
def test_an_app_that_answers_all_the_same(kit: MeterKit, make: Any) -> None:
    """
    It has done its work, so its answer counts, like that to a client who leaves after the first byte.
    """
    asyncio.run(_leave(make, kit, answers=True))

    assert {"succeeded": 50, "any": 50} == usage_of(kit)


@DJANGO_LEAVES_ITS_FILE
@pytest.mark.parametrize("make", STOP.values(), ids=STOP)
def test_an_app_that_stops(kit: MeterKit, make: Any) -> None:
    """
    There is no answer: neither a success nor a failure. What the view had used is counted by who asks for all.
    """
    asyncio.run(_leave(make, kit, answers=False))

    assert {"left": 50, "any": 50} == usage_of(kit)


@DJANGO_LEAVES_ITS_FILE
@pytest.mark.parametrize("make", [starlette, django_app], ids=["starlette", "django"])
def test_an_app_that_the_server_cancels(kit: MeterKit, make: Any) -> None:
    """
    The same, where the server notices first.
    """
    asyncio.run(_leave(make, kit, answers=False, cancel=True))

    assert {"left": 50, "any": 50} == usage_of(kit)


def test_a_wsgi_app_that_is_not_asked(kit: MeterKit) -> None:
    """
    It has answered when it returns.
    """

    def app(environ: Any, start_response: Any) -> Any:
        meterkit.add_usage("tokens", 50)
        start_response("200 OK", [])
        return iter([b"done"])

    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), leave_after=0)

    assert {"succeeded": 50, "any": 50} == usage_of(kit)


def test_an_app_that_breaks_is_a_500(kit: MeterKit) -> None:
    """
    As long as the client is there.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        meterkit.add_usage("tokens", 50)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        asyncio.run(meterkit.asgi.MeterMiddleware(app, kit)(scope_for(), None, None))  # type: ignore[arg-type]

    assert {"broke": 50, "any": 50} == usage_of(kit)
