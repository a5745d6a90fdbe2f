"""`identify`, `add_usage` and `skip` reach the exchange from wherever a view's code runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import call_asgi, call_wsgi
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import meterkit
import meterkit.asgi
import meterkit.flask
from meterkit import Meter, MeterKit

MakeKit = Callable[..., MeterKit]


def say() -> None:
    meterkit.identify("globex", user="ann")
    meterkit.add_usage("tokens", 7)


def thread_with_context() -> None:
    thread = threading.Thread(target=contextvars.copy_context().run, args=[say])
    thread.start()
    thread.join()


async def async_stream() -> AsyncIterator[bytes]:
    yield b"a"
    say()
    yield b"b"


def sync_stream() -> Iterator[bytes]:
    yield b"a"
    say()
    yield b"b"


async def async_view(request: Request) -> Response:
    say()
    return PlainTextResponse("done")


def sync_view(request: Request) -> Response:  # Starlette runs it in a thread pool
    say()
    return PlainTextResponse("done")


async def to_thread_view(request: Request) -> Response:
    await asyncio.to_thread(say)
    return PlainTextResponse("done")


async def task_view(request: Request) -> Response:
    async def work() -> None:
        say()

    await asyncio.create_task(work())
    return PlainTextResponse("done")


async def streaming_view(request: Request) -> Response:
    return StreamingResponse(async_stream())


def sync_streaming_view(request: Request) -> Response:
    return StreamingResponse(sync_stream())


STARLETTE_VIEWS = [async_view, sync_view, to_thread_view, task_view, streaming_view, sync_streaming_view]


class PassingOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        return await call_next(request)


def starlette(view: Any, *, passing_on: bool) -> Callable[[MeterKit], Any]:
    def make(kit: MeterKit) -> Any:
        app = Starlette(routes=[Route("/", view)])
        if passing_on:
            app.add_middleware(PassingOn)
        app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
        if passing_on:
            app.add_middleware(PassingOn)
        return app

    return make


def fastapi_app(kit: MeterKit) -> Any:
    app = fastapi.FastAPI()

    def who() -> None:  # a dependency, in a thread pool
        say()

    app.get("/", dependencies=[fastapi.Depends(who)])(lambda: "done")
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def flask_app(view: Any) -> Callable[[MeterKit], Any]:
    def make(kit: MeterKit) -> Any:
        app = flask.Flask("views")
        app.add_url_rule("/", view_func=view)
        meterkit.flask.init_app(app, kit)
        return app

    return make


def flask_view() -> str:
    say()
    return "done"


def flask_thread_view() -> str:
    thread_with_context()
    return "done"


def flask_before_request(kit: MeterKit) -> Any:
    app = flask_app(lambda: "done")(kit)
    app.before_request(say)
    return app


def django_sync_view(request: HttpRequest) -> HttpResponse:
    say()
    return HttpResponse(b"done")


async def django_async_view(request: HttpRequest) -> HttpResponse:
    say()
    return HttpResponse(b"done")


async def django_thread_view(request: HttpRequest) -> HttpResponse:
    await sync_to_async(say)()
    return HttpResponse(b"done")


def django_streaming_view(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(async_stream() if hasattr(request, "scope") else sync_stream())


class Project:
    """A URLconf with one view."""

    def __init__(self, view: Any) -> None:
        self.urlpatterns = [path("", view)]


DJANGO_VIEWS = [django_sync_view, django_async_view, django_thread_view, django_streaming_view]

PLACES: dict[str, tuple[Any, Callable[[MeterKit], Any]]] = {
    **{f"starlette {view.__name__}": (call_asgi, starlette(view, passing_on=False)) for view in STARLETTE_VIEWS},
    **{
        f"BaseHTTPMiddleware {view.__name__}": (call_asgi, starlette(view, passing_on=True)) for view in STARLETTE_VIEWS
    },
    "fastapi dependency": (call_asgi, fastapi_app),
    "flask view": (call_wsgi, flask_app(flask_view)),
    "flask before_request": (call_wsgi, flask_before_request),
    "flask thread": (call_wsgi, flask_app(flask_thread_view)),
    "flask stream": (call_wsgi, flask_app(sync_stream)),
}
for _view in DJANGO_VIEWS:
    for _is_async in (False, True):
        PLACES[f"{'asgi' if _is_async else 'wsgi'} {_view.__name__}"] = (
            call_asgi if _is_async else call_wsgi,
            lambda kit, view=_view, is_async=_is_async: django_handler(
                kit, is_async=is_async, ROOT_URLCONF=Project(view)
            ),
        )


@pytest.mark.parametrize("place", PLACES)
def test_a_view_says_who_pays_and_how_much(make_kit: MakeKit, place: str) -> None:
    """
    In sync and async views, streamed bodies, thread pools, tasks, and under ``BaseHTTPMiddleware``.
    """
    call, make = PLACES[place]
    kit = make_kit(Meter("calls", path="*"), Meter("tokens", path="*", value="tokens"))
    answer = call(make(kit))
    kit.flush()

    assert (200, None) == (answer.status, answer.error)
    assert [("calls", "globex", "ann", 1), ("tokens", "globex", "ann", 7)] == [
        (row.meter, row.company, row.user, row.quantity) for row in kit.usage()
    ]


def test_background_work_comes_too_late(make_kit: MakeKit) -> None:
    """
    The response was counted before its last byte left; what is said after that is put on record, and does nothing.
    """
    kit = make_kit(Meter("calls", path="*"))

    async def view(request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(say))

    call_asgi(starlette(view, passing_on=False)(kit))
    kit.flush()

    assert ["acme"] == [row.company for row in kit.usage()]
    assert 2 == kit.health()["problems"]["after_response"]["count"]
