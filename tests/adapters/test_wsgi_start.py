"""How a WSGI app starts its response: early, late, twice, never, or by `write()`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from adapter_drivers import Body, answering, call_wsgi, environ_for
from adapter_usage import usage_of

from meterkit import MeterKit
from meterkit.wsgi import MeterMiddleware

Counted = Callable[[], dict[str, int]]


@pytest.mark.parametrize("by", ["position", "name"])
def test_start_response_twice(kit: MeterKit, counted: Counted, by: str) -> None:
    """
    An app that fails late may start again with ``exc_info``, by position or name; the last status counts.

    The server gets it by position, as PEP 3333 has it.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("X-A", "1")])
        try:
            int("late")
        except ValueError:
            if by == "name":
                start_response("500 Oops", [], exc_info=sys.exc_info())
            else:
                start_response("500 Oops", [], sys.exc_info())
        return [b"oops"]

    bare, metered = call_wsgi(app), call_wsgi(MeterMiddleware(app, kit))

    assert bare.body == metered.body
    assert [(200, 0, ()), (500, 1, ())] == [
        (event[1], event[3], event[4]) for event in metered.log if event[0] == "start"
    ]
    assert {"broke": 1, "bytes": 4} == counted()


def test_start_response_again_from_within_the_body(kit: MeterKit, counted: Counted) -> None:
    """
    The length that completes the response is the last one's, too.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "2")])

        def body() -> Iterator[bytes]:
            start_response("500 Oops", [("Content-Length", "4")], (None, None, None))
            yield b"oo"
            yield b"ps"

        return body()

    answer = call_wsgi(MeterMiddleware(app, kit), watch=lambda: counted().get("broke"))

    assert [None, None, None, 1, 1] == [count for _, count in answer.watched]
    assert {"broke": 1, "bytes": 4} == counted()


def test_an_app_that_starts_with_its_body(kit: MeterKit, counted: Counted) -> None:
    """
    A generator calls start_response at its first chunk; the status is known from then on.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("404 Not Found", [("Content-Length", "2")])
        yield b"a"
        yield b"b"

    answer = call_wsgi(MeterMiddleware(app, kit), watch=lambda: counted().get("other"))

    assert (404, b"ab") == (answer.status, answer.body)
    assert [None, None, 1, 1] == [count for _, count in answer.watched]


@pytest.mark.parametrize("body", [[b"a"], Body(b"a")])
def test_an_app_that_never_starts(kit: MeterKit, counted: Counted, body: Any) -> None:
    """
    Servers make a 500 of it, and so does the count.
    """
    call_wsgi(MeterMiddleware(lambda environ, start_response: body, kit))

    assert 1 == counted()["broke"]


def test_write(kit: MeterKit, counted: Counted) -> None:
    """
    The old way to send: counted before the write that completes the Content-Length.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Length", "4")])
        write(b"ab")
        write(b"cd")
        return []

    bare = call_wsgi(app)
    metered = call_wsgi(MeterMiddleware(app, kit), watch=lambda: counted().get("succeeded"))

    assert bare.log == metered.log
    assert [None, None, 1, 1] == [count for _, count in metered.watched]
    assert {"succeeded": 1, "bytes": 4} == counted()


def test_a_status_line_that_is_none(kit: MeterKit) -> None:
    """
    What cannot be understood is handed on, and put on record.
    """
    metered = MeterMiddleware(answering([b"a"], status="fine"), kit)
    got: list[Any] = []

    assert [b"a"] == metered(environ_for(), lambda *args: got.append(args))
    assert [("fine", [])] == got
    assert "internal_error" in kit.health()["problems"]
    assert {"broke": 1} == usage_of(kit)
