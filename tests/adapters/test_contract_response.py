"""The contract's first half: what the client receives is what it would receive without the middleware."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from adapter_drivers import call_wsgi
from adapter_stacks import BOOM, LEAVING, STACKS, Stack
from adapter_usage import DJANGO_LEAVES_ITS_FILE

from meterkit import Meter, MeterKit

pytestmark = pytest.mark.long

PATHS = ["whole", "stream", "sized", "nothing", "unchanged", "boom", "break", "named", "skipped", "a/b/not-there"]
SYNC = [stack for stack in STACKS if not stack.is_async]


def same(stack: Stack, kit: MeterKit, path: str, **options: Any) -> None:
    bare = stack.call(stack.make(None), path=path, **options)
    metered = stack.call(stack.make(kit), path=path, **options)

    assert bare.log == metered.log
    assert bare.error is metered.error or (type(bare.error), str(bare.error)) == (
        type(metered.error),
        str(metered.error),
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_everything_is_the_same(stack: Stack, kit: MeterKit, method: str, path: str) -> None:
    """
    Status, headers in their order and number, chunks, trailers' promise, and what the app does in between.
    """
    same(stack, kit, f"/{path}", method=method)


def test_the_comparison_compares_something(stack: Stack, kit: MeterKit) -> None:
    """
    The small app answers as its description says, in each stack.
    """
    app = stack.make(kit)

    whole = stack.call(app, path="/whole")
    stream = stack.call(app, path="/stream")

    assert (201, b"whole") == (whole.status, whole.body)
    assert [value for name, value in whole.headers if name.lower() in ("x-twice", "set-cookie")][-2:] in (
        ["1", "2"],
        [" a=1; Path=/", " b=2; Path=/"],
        ["a=1; Path=/", "b=2; Path=/"],
    )
    assert (200, b"one,two,three") == (stream.status, stream.body)
    assert "closed" in stream.log
    assert 204 == stack.call(app, path="/nothing").status
    assert 304 == stack.call(app, path="/unchanged").status
    assert 404 == stack.call(app, path="/a/b/not-there").status or stack.name in ("wsgi", "asgi")


def test_a_stream_is_handed_on_as_it_is_made(stack: Stack, kit: MeterKit) -> None:
    """
    The server has each chunk before the app makes the next one.
    """
    log = [event[:2] for event in stack.call(stack.make(kit), path="/stream").log if event[0] in ("made", "body")]
    chunks = [event for event in log if event[1]]

    assert [
        ("made", b"one,"),
        ("body", b"one,"),
        ("made", b"two,"),
        ("body", b"two,"),
        ("made", b"three"),
        ("body", b"three"),
    ] == chunks


@pytest.mark.parametrize("path", ["/boom", "/break"])
@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.name in ("wsgi", "asgi", "starlette", "fastapi")])
def test_an_exception_is_the_same_object(stack: Stack, kit: MeterKit, path: str) -> None:
    """
    What the app raises reaches the server as it is.
    """
    assert BOOM is stack.call(stack.make(kit), path=path).error


@pytest.mark.parametrize("chunks", [0, 1, 2])
@pytest.mark.parametrize("path", ["/stream", "/sized"])
@pytest.mark.parametrize("stack", SYNC, ids=lambda stack: stack.name)
def test_a_client_that_leaves_a_wsgi_app(stack: Stack, kit: MeterKit, path: str, chunks: int) -> None:
    """
    The app sees the same end: its body is closed once, also if it was never begun.
    """
    same(stack, kit, path, leave_after=chunks)


@DJANGO_LEAVES_ITS_FILE
@pytest.mark.parametrize(("stack", "leave"), LEAVING, ids=lambda each: getattr(each, "name", each))
def test_a_client_that_leaves_an_asgi_app(stack: Stack, kit: MeterKit, leave: str) -> None:
    """
    Messages and exceptions stay the same, and a cancellation is not swallowed.
    """
    same(stack, kit, "/stream" if leave == "send" else "/wait", leave=leave)
    gc.collect()  # here, where the file that Django leaves is expected


@pytest.mark.parametrize("mistake", ["identify", "when", "sink", "routes", "length"])
@pytest.mark.parametrize("path", ["/whole", "/stream", "/nothing"])
def test_metering_that_fails_changes_nothing(
    stack: Stack, make_kit: Callable[..., MeterKit], monkeypatch: pytest.MonkeyPatch, path: str, mistake: str
) -> None:
    """
    Whatever raises while an exchange is counted, the response goes out, and the failure is on record.
    """

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    kit = make_kit(
        Meter("calls", path="*", when=fail if mistake == "when" else None),
        Meter("routed", route="/{what}"),
        identify=fail if mistake == "identify" else lambda exchange: "acme",
    )
    if mistake == "sink":
        monkeypatch.setattr(kit._supervisor, "count", fail)
    app = stack.make(kit)
    if mistake == "routes":
        monkeypatch.setattr("meterkit.metering.unmatched.RouteCheck.check", fail)
    if mistake == "length":
        monkeypatch.setattr("meterkit.metering.recorder.Recorder._complete_at", fail)

    bare = stack.call(stack.make(None), path=path)
    metered = stack.call(app, path=path)

    assert bare.log == metered.log
    assert metered.error is None
    reasons = {"identify": "identify_raised", "when": "when_raised"}
    if mistake != "length" or path == "/stream":  # what goes out in one piece needs none
        assert reasons.get(mistake, "internal_error") in kit._problems.as_dict()


def test_the_small_servers_client_leaves() -> None:
    """
    The servers in miniature do stop asking, so that the tests above see an early end.
    """
    answer = call_wsgi(STACKS[2].make(None), path="/stream", leave_after=1)

    assert (b"one,", None) == (answer.body, answer.error)
    assert "closed" == answer.log[-1]
