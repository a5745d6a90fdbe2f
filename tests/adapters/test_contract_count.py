"""The contract's second half: the count is right, and it is made before the last byte leaves."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from adapter_stacks import LEAVING, STACKS, Stack
from adapter_usage import DJANGO_LEAVES_ITS_FILE, usage_of

from meterkit import Meter, MeterKit

SYNC = [stack for stack in STACKS if not stack.is_async]

Counted = Callable[[], dict[str, int]]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/whole", {"succeeded": 1, "bytes": 5}),
        ("/stream", {"succeeded": 1, "bytes": 13}),
        ("/sized", {"succeeded": 1, "bytes": 13}),
        ("/nothing", {"succeeded": 1}),
        ("/unchanged", {"other": 1}),
        ("/named", {"succeeded": 1, "bytes": 5}),
        ("/skipped", {}),
    ],
)
def test_each_response_counts_once(
    stack: Stack, kit: MeterKit, counted: Counted, path: str, expected: dict[str, int]
) -> None:
    """
    By its status, with the bytes of its body.
    """
    stack.call(stack.make(kit), path=path)

    assert expected == counted()


@pytest.mark.parametrize("path", ["/boom", "/break"])
def test_a_response_that_the_app_breaks_off_is_a_500(stack: Stack, kit: MeterKit, counted: Counted, path: str) -> None:
    """
    Before it answered or in the middle: nobody pays for it as a success.
    """
    stack.call(stack.make(kit), path=path)

    assert {"broke": 1} == {meter: n for meter, n in counted().items() if meter != "bytes"}


def test_a_head_request_has_no_bytes(stack: Stack, kit: MeterKit, counted: Counted) -> None:
    """
    The server keeps its body to itself, whatever the app handed over.
    """
    stack.call(stack.make(kit), "HEAD", "/whole")

    assert {"succeeded": 1} == counted()


@pytest.mark.parametrize("path", ["/whole", "/stream", "/sized", "/nothing", "/unchanged"])
def test_it_is_counted_before_the_last_byte_leaves(stack: Stack, kit: MeterKit, counted: Counted, path: str) -> None:
    """
    When the server gets what completes the response, the count is there; before, it is not.
    """
    answer = stack.call(
        stack.make(kit), path=path, watch=lambda: counted().get("succeeded", 0) + counted().get("other", 0)
    )
    received = [(event, count) for event, count in answer.watched if event[0] != "start" or stack.is_async]
    if path == "/sized":  # by its Content-Length, the client has it all with the third chunk
        received = [(event, count) for event, count in received if event[0] == "body" and event[1]]
        assert [0, 0, 1] == [count for _, count in received]
    elif path == "/stream":  # only the end of the stream tells
        assert 1 == received[-1][1]
        assert not any(count for _, count in received[:-1])
    elif path == "/whole":
        assert 1 == received[-1][1]
    else:  # over at once: servers send the head as soon as they get it
        assert all(count for _, count in received)


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("stack", SYNC, ids=lambda stack: stack.name)
def test_a_client_that_leaves_a_wsgi_app_pays(stack: Stack, kit: MeterKit, counted: Counted, chunks: int) -> None:
    """
    Else everyone would read all bytes but the last.
    """
    stack.call(stack.make(kit), path="/stream", leave_after=chunks)

    assert {"succeeded": 1, "bytes": 4 * chunks} == counted()


@DJANGO_LEAVES_ITS_FILE
@pytest.mark.parametrize(("stack", "leave"), LEAVING, ids=lambda each: getattr(each, "name", each))
def test_a_client_that_leaves_an_asgi_app_pays(stack: Stack, kit: MeterKit, counted: Counted, leave: str) -> None:
    """
    However the server tells that it is gone.
    """
    answer = stack.call(stack.make(kit), path="/stream" if leave == "send" else "/wait", leave=leave)
    answer.error = None
    gc.collect()  # Django's ASGI handler leaves a response to the garbage collector when it cannot send

    assert 1 == counted()["succeeded"]
    assert "broke" not in counted()


def test_the_view_says_who_and_how_much(stack: Stack, make_kit: Callable[..., MeterKit]) -> None:
    """
    `identify` outranks ``identify=``, and `add_usage` sums up.
    """
    kit = make_kit(Meter("calls", path="*"), Meter("tokens", path="*", value="tokens"))
    stack.call(stack.make(kit), path="/named")
    kit.flush()

    assert [("calls", "globex", "ann", 1), ("tokens", "globex", "ann", 42)] == [
        (row.meter, row.company, row.user, row.quantity) for row in kit.usage()
    ]


def test_the_exchange_tells_what_it_was(stack: Stack, make_kit: Callable[..., MeterKit]) -> None:
    """
    ``when=`` sees the request and the response, names of headers in any case.
    """
    seen: list[Any] = []
    native = {"flask": dict, "wsgi": dict, "asgi": dict, "starlette": dict, "fastapi": dict}.get(stack.name, object)

    def look(exchange: Any) -> bool:
        assert isinstance(exchange.native, native)
        seen.append((exchange.method, exchange.path, exchange.status, exchange.headers["X-Company"]))
        seen.append(exchange.headers.get("x-company"))
        seen.append(exchange.headers.get("not-there"))
        seen.append(exchange.response_headers.get("x-OTHER"))
        seen.append("x-company" in {name.lower() for name in exchange.headers})
        seen.append(len(exchange.headers) == len(list(exchange.headers)))
        return True

    stack.call(stack.make(make_kit(Meter("calls", path="*", when=look))), path="/whole", headers={"X-Company": "acme"})

    assert [("GET", "/whole", 201, "acme"), "acme", None, "-", True, True] == seen


def test_a_path_is_text(stack: Stack, make_kit: Callable[..., MeterKit]) -> None:
    """
    As the client sent it, percent-decoded, in any script.
    """
    kit = make_kit(Meter("calls", path="/größe", status="*"))
    stack.call(stack.make(kit), path="/größe")

    assert {"calls": 1} == usage_of(kit)
