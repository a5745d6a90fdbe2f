"""What PEP 3333 allows an app to do, it can do inside the middleware, and the server sees no difference."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from adapter_drivers import Body, answering, call_wsgi, environ_for
from adapter_usage import usage_of

from meterkit import Meter, MeterKit
from meterkit.wsgi import MeterMiddleware

Counted = Callable[[], dict[str, int]]


@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a",), [], ()])
def test_a_list_is_handed_on_untouched(kit: MeterKit, counted: Counted, body: Any) -> None:
    """
    The very object, from whose length servers derive a Content-Length; it is counted when the app returns.
    """
    answer = call_wsgi(MeterMiddleware(answering(body), kit), watch=counted)

    assert body is answer.returned
    assert {1} == {count["succeeded"] for event, count in answer.watched if event[0] != "start"}


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Same")])
def test_a_body_that_nobody_gets_is_handed_on_untouched(
    kit: MeterKit, counted: Counted, method: str, status: str
) -> None:
    """
    There is nothing left to see once the response is complete without it.
    """
    body = Body(b"a")
    answer = call_wsgi(MeterMiddleware(answering(body, status=status), kit), method)

    assert body is answer.returned
    assert 1 == body.closed
    assert {"other" if status.startswith("304") else "succeeded": 1} == counted()


def test_a_sized_body_stays_sized(kit: MeterKit) -> None:
    """
    ``len()`` tells servers how many chunks there are, where the app's body tells it, and only there.
    """

    class Sized(Body):
        def __len__(self) -> int:
            return 2

    sized = MeterMiddleware(answering(Sized(b"a", b"b")), kit)(environ_for(), lambda *args: None)
    plain = MeterMiddleware(answering(Body(b"a", b"b")), kit)(environ_for(), lambda *args: None)

    assert 2 == len(sized)
    assert not hasattr(plain, "__len__")
    sized.close()
    plain.close()


@pytest.mark.parametrize("absent", ["SCRIPT_NAME", "PATH_INFO"])
def test_what_is_empty_may_be_absent(make_kit: Callable[..., MeterKit], absent: str) -> None:
    """
    PEP 3333 lets servers leave out the prefix of mounts, and the path below it.
    """
    there = {"SCRIPT_NAME": "", "PATH_INFO": "", {"SCRIPT_NAME": "PATH_INFO", "PATH_INFO": "SCRIPT_NAME"}[absent]: "/a"}
    environ = {name: value for name, value in {**environ_for(), **there}.items() if name != absent}
    kit = make_kit(Meter("calls", path="/a"))

    assert [b"a"] == MeterMiddleware(answering([b"a"]), kit)(environ, lambda *args: None)
    assert {"calls": 1} == usage_of(kit)


@pytest.mark.parametrize("leave_after", [None, 0, 1])
def test_a_body_is_closed_once(kit: MeterKit, leave_after: int | None) -> None:
    """
    At its end, in its middle, and if it was never begun.
    """
    body = Body(b"a", b"b")
    metered = MeterMiddleware(answering(body), kit)
    answer = call_wsgi(metered, leave_after=leave_after)
    answer.returned.close()

    assert 1 == body.closed


def test_a_body_that_cannot_be_closed(kit: MeterKit, counted: Counted) -> None:
    """
    A plain iterator is none the worse for it.
    """
    assert b"ab" == call_wsgi(MeterMiddleware(answering(iter([b"a", b"b"])), kit)).body
    assert 1 == counted()["succeeded"]


def test_an_exception_out_of_close_is_the_apps_own(kit: MeterKit, counted: Counted) -> None:
    """
    It reaches the server, and changes nothing about what was delivered.
    """
    error = RuntimeError("cannot close")

    class Failing(Body):
        def close(self) -> None:
            raise error

    assert error is call_wsgi(MeterMiddleware(answering(Failing(b"a")), kit)).error
    assert 1 == counted()["succeeded"]


@pytest.mark.parametrize("error", [RuntimeError(), SystemExit(1), KeyboardInterrupt(), StopIteration()])
def test_whatever_an_app_raises(kit: MeterKit, counted: Counted, error: BaseException) -> None:
    """
    The same object reaches the server, and it is a 500.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        raise error

    assert error is call_wsgi(MeterMiddleware(app, kit)).error
    assert {"broke": 1} == counted()


def test_an_exception_out_of_iter(kit: MeterKit, counted: Counted) -> None:
    """
    A body may fail before its first chunk.
    """
    error = RuntimeError("no iterator")

    class Failing(Body):
        def __iter__(self) -> Iterator[bytes]:
            raise error

    assert error is call_wsgi(MeterMiddleware(answering(Failing()), kit)).error
    assert {"broke": 1} == counted()


@pytest.mark.parametrize("kind", ["class", "function"])
def test_a_file_stays_the_servers_own(kit: MeterKit, counted: Counted, kind: str) -> None:
    """
    What ``wsgi.file_wrapper`` made comes back as the very object, so that the server can use sendfile.
    """
    made: list[FileWrapper] = []

    def function(*args: Any) -> FileWrapper:
        made.append(FileWrapper(*args))
        return made[-1]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "7")])
        body = environ["wsgi.file_wrapper"](BytesIO(b"content"), 4)
        if kind == "class":
            assert environ["wsgi.file_wrapper"] is FileWrapper
            made.append(body)
        return body

    environ = {"wsgi.file_wrapper": FileWrapper if kind == "class" else function}
    answer = call_wsgi(MeterMiddleware(app, kit), environ=environ, watch=lambda: counted().get("succeeded"))

    assert made[0] is answer.returned
    assert (b"content", None) == (answer.body, answer.error)
    assert 1 == answer.watched[1][1]
    assert {"succeeded": 1, "bytes": 7} == counted()


def test_flasks_file_stays_the_servers_own(kit: MeterKit, counted: Counted) -> None:
    """
    ``send_file`` hands the wrapper through.
    """
    import flask

    import meterkit.flask

    app = flask.Flask("files")
    app.add_url_rule("/", view_func=lambda: flask.send_file(BytesIO(b"content"), "text/plain"))
    meterkit.flask.init_app(app, kit)
    answer = call_wsgi(app, environ={"wsgi.file_wrapper": FileWrapper})

    assert isinstance(answer.returned, FileWrapper)
    assert {"succeeded": 1, "bytes": 7} == counted()


def test_flasks_response_in_one_piece_is_handed_on_untouched(kit: MeterKit, counted: Counted) -> None:
    """
    The very iterator that Flask made, counted before it is iterated over; a stream is wrapped.

    Which of them it is, only werkzeug's own attributes tell. Should they change, this fails, and usage stays right.
    """
    import flask

    import meterkit.flask

    app = flask.Flask("pieces")
    app.add_url_rule("/piece", "piece", lambda: "content")
    app.add_url_rule(
        "/stream", "stream", lambda: flask.Response(iter([b"con", b"tent"]), headers={"Content-Length": 7})
    )
    meterkit.flask.init_app(app, kit)
    piece, stream = (call_wsgi(app, path=path) for path in ("/piece", "/stream"))

    assert b"content" == piece.body == stream.body
    assert "ClosingIterator" == type(piece.returned).__name__ != type(stream.returned).__name__
    assert {"succeeded": 2, "bytes": 14} == counted()


@pytest.mark.parametrize("path", ["list", "stream", "write", "gone"])
@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
def test_pep_3333_holds_on_both_sides(kit: MeterKit, path: str) -> None:
    """
    The standard library's validator finds no fault, neither as the server nor as the app.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        if path == "write":
            write(b"a")
        return Body(b"b", b"c") if path == "stream" else [b"b", b"c"]

    answer = call_wsgi(validator(MeterMiddleware(validator(app), kit)), leave_after=1 if path == "gone" else None)

    assert answer.error is None


def test_a_server_without_a_file_wrapper_may_say_so(kit: MeterKit, counted: Counted) -> None:
    """
    By None, or by leaving it out.
    """
    answer = call_wsgi(MeterMiddleware(answering(Body(b"a")), kit), environ={"wsgi.file_wrapper": None})

    assert b"a" == answer.body
    assert 1 == counted()["succeeded"]


@pytest.mark.parametrize("file_wrapper", [FileWrapper, lambda file: file])
def test_the_environ_is_what_it_was(kit: MeterKit, file_wrapper: Any) -> None:
    """
    But for one key, under which the middleware leaves its exchange.
    """
    environ = {**environ_for(), "wsgi.file_wrapper": file_wrapper}
    before = dict(environ)
    list(MeterMiddleware(answering([]), kit)(environ, lambda *args: None))
    environ.pop("meterkit.exchange")

    assert before == environ


@pytest.mark.parametrize("kind", ["piece", "pieces", "stream", "file", "error"])
def test_nothing_outlives_the_request(kit: MeterKit, kind: str) -> None:
    """
    The middleware leaves no cycle to the garbage collector, although a server's start_response may hold the environ.
    """
    bodies = {"piece": [b"a"], "pieces": [b"a", b"b"], "stream": Body(b"a", b"b"), "file": FileWrapper(BytesIO(b"a"))}

    class Handler:
        def __init__(self) -> None:
            self.environ = {**environ_for(), "wsgi.file_wrapper": FileWrapper}

        def start_response(self, *_args: Any) -> Any:
            return lambda _data: None

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        if kind == "error":
            raise ValueError
        return bodies[kind]

    metered = MeterMiddleware(app, kit)
    gc.collect()
    gc.disable()
    try:
        handler = Handler()
        gone = weakref.ref(handler)
        with suppress(ValueError):
            for _ in metered(handler.environ, handler.start_response):
                pass
        del handler
        assert gone() is None
    finally:
        gc.enable()
