"""``request_bytes`` are the bytes of the body that the app read, whatever the client declares."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import Answer, call_asgi, call_wsgi
from adapter_usage import usage_of
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Governance, Meter, MeterKit, unique

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]
SENT = b"twelve bytes"
HUGE = "999999999999999"


def flask_reader(kit: MeterKit) -> Any:
    app = flask.Flask("reader")
    app.add_url_rule("/read", "read", view_func=lambda: str(len(flask.request.get_data())), methods=["POST"])
    app.add_url_rule("/leave", "leave", view_func=lambda: "0", methods=["POST"])
    meterkit.flask.init_app(app, kit)
    return app


def django_read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def django_leave(request: HttpRequest) -> HttpResponse:
    return HttpResponse("0")


def form(request: HttpRequest) -> HttpResponse:
    """A view with an upload."""
    return HttpResponse(str(request.FILES["file"].size))


urlpatterns = [path("read", django_read), path("leave", django_leave), path("form", form)]


def starlette_reader(kit: MeterKit) -> Any:
    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def leave(request: Request) -> PlainTextResponse:
        return PlainTextResponse("0")

    app = Starlette(routes=[Route("/read", read, methods=["POST"]), Route("/leave", leave, methods=["POST"])])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


def django_reader(kit: MeterKit, *, is_async: bool = False) -> Any:
    return django_handler(kit, is_async=is_async, ROOT_URLCONF=__name__)


SYNC = {"flask": flask_reader, "django-wsgi": django_reader}
ASYNC = {"starlette": starlette_reader, "django-asgi": lambda kit: django_reader(kit, is_async=True)}


def post(name: str, kit: MeterKit, what: str, payload: bytes, length: str | None) -> Answer:
    """Send *payload*; without a *length*, in chunks."""
    if name in SYNC:
        environ: dict[str, Any] = {"wsgi.input": io.BytesIO(payload), "wsgi.input_terminated": True}
        environ |= {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": length}
        return call_wsgi(SYNC[name](kit), "POST", f"/{what}", environ=environ)
    headers = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
    return call_asgi(ASYNC[name](kit), "POST", f"/{what}", headers=headers, payload=payload)


@pytest.mark.parametrize("name", [*SYNC, *ASYNC])
@pytest.mark.parametrize(
    ("what", "payload", "length", "expected"),
    [
        ("read", SENT, "12", 12),
        ("read", SENT, None, 12),
        ("read", SENT, "0" * 21 + "12", 12),
        ("read", b"", "0", 0),
        ("leave", SENT, None, 0),
        ("leave", b"", HUGE, 0),
        ("leave", b"", "9" * 23, 0),
    ],
    ids=["plain", "chunked", "zeros", "empty", "left", "lie", "digits"],
)
def test_what_was_read_counts(
    make_kit: MakeKit, name: str, what: str, payload: bytes, length: str | None, expected: int
) -> None:
    """
    With and without a Content-Length. One that is declared, and never sent, is nothing.
    """
    kit = make_kit(Meter("ingress", path="*", value="request_bytes"), Meter("calls", path="*"))
    answer = post(name, kit, what, payload, length)

    if name == "django-wsgi" and length is None:
        expected = 0  # Django reads no body without a Content-Length
    assert (200, str(expected).encode()) == (answer.status, answer.body)
    assert {"calls": 1, **({"ingress": expected} if expected else {})} == usage_of(kit)
    assert {"no_stripe_key"} == set(kit.health()["problems"])


READS: dict[str, Callable[[Any], Any]] = {
    "read": lambda body: body.read(),
    "read in parts": lambda body: [body.read(5), body.read(5), body.read(5)],
    "readline": lambda body: [body.readline(), body.readline()],
    "readlines": lambda body: body.readlines(),
    "for": list,
    "next": lambda body: [next(body), next(body)],
    "readinto": lambda body: body.readinto(bytearray(100)),
    "read1": lambda body: body.read1(100),
    "a buffer": lambda body: io.BufferedReader(body).read(),
    "read again": lambda body: [body.read(), body.seek(0), body.read()],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_way_to_read(make_kit: MakeKit, read: Callable[[Any], Any]) -> None:
    """
    Each method of ``wsgi.input`` that a server has; the app gets from it what it would get without the middleware.
    """
    kit = make_kit(Meter("ingress", path="*", value="request_bytes"))
    got = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        got.append(read(environ["wsgi.input"]))
        start_response("200 OK", [])
        return [b"done"]

    payload = b"two\nlines"
    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), "POST", payload=payload)

    assert read(io.BytesIO(payload)) == got[0]
    assert {"ingress": len(payload)} == usage_of(kit)


class OnlyRead:
    """All that PEP 3333 asks of a server, but for lines."""

    def read(self, size: int = -1) -> bytes:
        return b""


def test_the_input_has_no_more_methods_than_the_servers(make_kit: MakeKit) -> None:
    """
    An app that looks for a method finds what is there.
    """
    kit = make_kit(Meter("ingress", path="*", value="request_bytes"))
    found = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.extend(hasattr(environ["wsgi.input"], name) for name in ("read", "readinto", "seek", "fileno"))
        start_response("200 OK", [])
        return [b"done"]

    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), environ={"wsgi.input": OnlyRead()})

    assert [True, False, False, False] == found


@pytest.mark.parametrize(
    "meter",
    [
        Meter("large", path="*", when=lambda exchange: exchange.request_bytes == len(SENT)),
        Meter("large", path="*", value=unique(lambda exchange: str(exchange.request_bytes))),
    ],
    ids=["when", "unique"],
)
@pytest.mark.parametrize("name", ["flask", "starlette"])
def test_functions_that_ask(make_kit: MakeKit, name: str, meter: Meter) -> None:
    """
    They get what was read, too.
    """
    kit = make_kit(meter)
    post(name, kit, "read", SENT, None)

    assert {"large": 1} == usage_of(kit)


@pytest.mark.parametrize("name", [*SYNC, *ASYNC])
def test_before_the_app_runs(make_kit: MakeKit, name: str) -> None:
    """
    Access control knows only what the client declares.
    """
    seen = []
    governance = Governance(check=lambda exchange, known: seen.append(exchange.request_bytes))
    kit = make_kit(Meter("ingress", path="*", value="request_bytes"), governance=governance)
    kit.governor.begin()
    kit.flush()
    post(name, kit, "leave", SENT, "12")

    assert [12] == seen
    assert {} == usage_of(kit)


def test_the_input_of_other_kits_is_the_servers(make_kit: MakeKit) -> None:
    """
    Where no meter can ask, the body costs nothing.
    """
    kit = make_kit(Meter("calls", path="*"), Meter("egress", path="*", value="response_bytes"))
    body, found = io.BytesIO(b"x"), []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [b"done"]

    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), environ={"wsgi.input": body})

    assert [True] == [each is body for each in found]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_a_form_in_django(make_kit: MakeKit, is_async: bool, early: bool) -> None:
    """
    Files that are uploaded count, also where middleware outside of ours has read the body already.
    """
    request = RequestFactory().post("/form", {"file": SimpleUploadedFile("name", b"x" * 70_000)})
    sent: bytes = request.body
    kit = make_kit(Meter("ingress", path="*", value="request_bytes"))
    middleware = ["test_request_bytes.early"] if early else []
    handler = django_handler(
        kit,
        is_async=is_async,
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[*middleware, "meterkit.django.MeterMiddleware"],
    )
    kind = request.META["CONTENT_TYPE"]
    if is_async:
        headers = {"Content-Type": kind, "Content-Length": str(len(sent))}
        answer = call_asgi(handler, "POST", "/form", headers=headers, payload=sent)
    else:
        answer = call_wsgi(handler, "POST", "/form", payload=sent, environ={"CONTENT_TYPE": kind})

    assert b"70000" == answer.body
    assert {"ingress": len(sent)} == usage_of(kit)


def early(get_response: Any) -> Any:
    """Middleware that reads the body first."""

    def middleware(request: HttpRequest) -> Any:
        assert request.body
        return get_response(request)

    return middleware
