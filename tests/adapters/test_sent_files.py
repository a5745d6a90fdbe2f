"""Files that the server, or a web server before it, sends in place of the app: their bytes count, or are named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
from adapter_django import django_handler
from adapter_drivers import answering, call_asgi, call_wsgi
from adapter_usage import usage_of
from django.http import HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import meterkit.asgi
import meterkit.flask
import meterkit.wsgi
from meterkit import Meter, MeterKit

pytestmark = pytest.mark.long

MakeKit = Callable[..., MeterKit]
CONTENT = b"x" * 1000


@pytest.fixture
def kit(make_kit: MakeKit) -> MeterKit:
    """Counts responses, and their bytes."""
    return make_kit(Meter("calls", path="*"), Meter("egress", path="*", value="response_bytes"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a thousand bytes, whose name has a space."""
    found = tmp_path / "a file"
    found.write_bytes(CONTENT)
    return found


def _wsgi(kit: MeterKit, name: str, value: str, sent: bytes) -> Any:
    return meterkit.wsgi.MeterMiddleware(answering([sent], (name, value)), kit)


def _flask(kit: MeterKit, name: str, value: str, sent: bytes) -> Any:
    app = flask.Flask("files")
    app.add_url_rule("/", view_func=lambda: flask.Response(sent, headers={name: value}))
    meterkit.flask.init_app(app, kit)
    return app


def _django(kit: MeterKit, name: str, value: str, sent: bytes) -> Any:
    view = path("", lambda request: HttpResponse(sent, headers={name: value}))
    return django_handler(kit, ROOT_URLCONF=(view,))


def _starlette(kit: MeterKit, name: str, value: str, sent: bytes) -> Any:
    async def view(request: Request) -> Response:
        return Response(sent, headers={name: value})

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(meterkit.asgi.MeterMiddleware, kit=kit)
    return app


FRAMEWORKS = {
    "wsgi": (call_wsgi, _wsgi),
    "flask": (call_wsgi, _flask),
    "django": (call_wsgi, _django),
    "starlette": (call_asgi, _starlette),
}


@pytest.mark.parametrize("sent", [b"", b"null"], ids=["empty", "placeholder"])
@pytest.mark.parametrize("name", ["X-Sendfile", "x-sendfile", "X-LIGHTTPD-send-file"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_x_sendfile(kit: MeterKit, file: Path, framework: str, name: str, sent: bytes) -> None:
    """
    The file that the header names counts, whatever stands in the body; its path may be percent-encoded.
    """
    call, make = FRAMEWORKS[framework]
    for value in (str(file), str(file).replace(" ", "%20")):
        assert 200 == call(make(kit, name, value, sent)).status

    assert {"calls": 2, "egress": 2000} == usage_of(kit)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        *[("bytes=0-99", 100), ("bytes=900-", 100), ("bytes=-50", 50), ("bytes=0-99999", 1000), ("bytes=5000-", 0)],
        *[("bytes=9-1", 1000), ("bytes=-", 1000), ("lines=1-2", 1000), ("bytes=0-1,5-6", 1000), ("bytes=-9999", 1000)],
        ("bytes=" + "9" * 5000 + "-", 1000),
    ],
)
def test_a_range_of_the_file(kit: MeterKit, file: Path, wanted: str, expected: int) -> None:
    """
    The web server sends only the part that the client asks for.
    """
    call_wsgi(_wsgi(kit, "X-Sendfile", str(file), b""), headers={"Range": wanted})

    assert {"calls": 1, **({"egress": expected} if expected else {})} == usage_of(kit)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "204 No Content"])
def test_responses_without_a_body(kit: MeterKit, file: Path, method: str, status: str) -> None:
    """
    No file is sent with them.
    """
    app = answering([], ("X-Sendfile", str(file)), status=status)
    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), method)

    assert (1000 if (method, status) == ("GET", "200 OK") else 0) == usage_of(kit).get("egress", 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Accel-Redirect", "/internal/a"),
        ("X-Sendfile", "relative"),
        ("X-Sendfile", "/no/such/file"),
        ("X-Sendfile", "/dev/zero"),
        ("X-Sendfile", "/"),
        ("X-Sendfile", "/a\0b"),
    ],
)
@pytest.mark.parametrize("framework", ["wsgi", "django", "starlette"])
def test_a_file_that_only_the_web_server_knows(kit: MeterKit, framework: str, name: str, value: str) -> None:
    """
    The call counts. That its bytes do not is said, with the cure.
    """
    call, make = FRAMEWORKS[framework]
    call(make(kit, name, value, b""))

    assert {"calls": 1} == usage_of(kit)
    assert "add_usage()" in kit.health()["problems"]["length_unknown"]["message"]


def test_a_content_length_that_says_it(kit: MeterKit) -> None:
    """
    As Flask sets it for ``USE_X_SENDFILE``: then it need not be looked up.
    """
    app = answering([], ("X-Accel-Redirect", "/internal/a"), ("Content-Length", "700"))
    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit))

    assert {"calls": 1, "egress": 700} == usage_of(kit)


def test_flask_with_use_x_sendfile(kit: MeterKit, file: Path) -> None:
    """
    Flask's own ``send_file``.
    """
    app = flask.Flask("files")
    app.config["USE_X_SENDFILE"] = True
    app.add_url_rule("/", view_func=lambda: flask.send_file(file))
    meterkit.flask.init_app(app, kit)
    assert b"" == call_wsgi(app).body

    assert {"calls": 1, "egress": 1000} == usage_of(kit)


def test_a_long_body_is_the_response(kit: MeterKit, file: Path) -> None:
    """
    A header that happens to have the name changes nothing for a response with a body of its own.
    """
    call_wsgi(_wsgi(kit, "X-Sendfile", str(file), b"y" * 64))

    assert {"calls": 1, "egress": 64} == usage_of(kit)


@pytest.mark.parametrize("function", [False, True])
def test_a_file_wrapper_without_a_content_length(kit: MeterKit, file: Path, function: bool) -> None:
    """
    The file's own size, from where it is to be read.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        opened = file.open("rb")
        opened.seek(100)
        return environ["wsgi.file_wrapper"](opened)

    def wrapper(opened: Any, size: int = 8192) -> FileWrapper:
        return FileWrapper(opened, size)

    wraps: Any = wrapper if function else FileWrapper
    answer = call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), environ={"wsgi.file_wrapper": wraps})

    assert CONTENT[100:] == answer.body
    assert {"calls": 1, "egress": 900} == usage_of(kit)


def test_a_file_wrapper_around_no_file(kit: MeterKit) -> None:
    """
    Its length cannot be known.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(CONTENT))

    call_wsgi(meterkit.wsgi.MeterMiddleware(app, kit), environ={"wsgi.file_wrapper": FileWrapper})

    assert {"calls": 1} == usage_of(kit)
    assert 1 == kit.health()["problems"]["length_unknown"]["count"]


def test_pathsend_without_a_content_length(kit: MeterKit, file: Path) -> None:
    """
    ASGI's extension, in which the server opens the file.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(file)})

    call_asgi(meterkit.asgi.MeterMiddleware(app, kit))

    assert {"calls": 1, "egress": 1000} == usage_of(kit)
