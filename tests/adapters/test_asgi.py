"""What ASGI allows an app to do, it can do inside the middleware, and the server sees no difference."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

import anyio
import pytest
from adapter_drivers import Answer, call_asgi, scope_for

from meterkit import MeterKit
from meterkit.asgi import MeterMiddleware

Counted = Callable[[], dict[str, int]]


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(chunk: bytes = b"", *, more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": chunk, "more_body": more_body}


def sending(*messages: dict[str, Any], error: BaseException | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def both(kit: MeterKit, app: Any, **options: Any) -> Answer:
    """Serve bare and metered; the metered answer, which is the same."""
    bare, metered = call_asgi(app), call_asgi(MeterMiddleware(app, kit), **options)
    assert bare.log == metered.log
    assert bare.error is metered.error
    return metered


def test_trailers(kit: MeterKit, counted: Counted) -> None:
    """
    They follow the last body message, before which the count is made.
    """
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    app = sending(start(trailers=True), body(b"a", more_body=True), body(b"b"), trailers)
    answer = both(kit, app, watch=lambda: counted().get("succeeded"))

    assert [None, None, 1, 1] == [count for _, count in answer.watched]


@pytest.mark.parametrize(
    "hint", [{"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]}, start(103, (b"link", b"</a>"))]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_early_hints(kit: MeterKit, counted: Counted, hint: dict[str, Any], method: str) -> None:
    """
    They pass, and it is the status after them that counts.
    """
    answer = call_asgi(MeterMiddleware(sending(hint, start(404), body()), kit), method, watch=counted)

    assert 404 == answer.status
    assert 3 == len(answer.log)
    assert {"other": 1} == counted()
    assert {} == answer.watched[0][1]


@pytest.mark.parametrize(
    "file",
    [
        {"type": "http.response.pathsend", "path": "/tmp/file"},
        {"type": "http.response.zerocopysend", "file": 3},
    ],
)
def test_a_file_that_the_server_sends(kit: MeterKit, counted: Counted, file: dict[str, Any]) -> None:
    """
    It is counted before the server hears of it, with the bytes that the Content-Length says.
    """
    answer = both(kit, sending(start(200, (b"Content-Length", b"70")), file), watch=lambda: counted().get("succeeded"))

    assert [None, 1] == [count for _, count in answer.watched]
    assert {"succeeded": 1, "bytes": 70} == counted()


def test_a_file_in_parts(kit: MeterKit, counted: Counted) -> None:
    """
    Only the last part completes the response.
    """
    part = {"type": "http.response.zerocopysend", "file": 3, "count": 5}
    answer = both(kit, sending(start(), {**part, "more_body": True}, part), watch=lambda: counted().get("succeeded"))

    assert [None, None, 1] == [count for _, count in answer.watched]


def test_an_empty_response_counts_with_its_start(kit: MeterKit, counted: Counted) -> None:
    """
    Servers send the head when they get it, and with ``Content-Length: 0`` it is all there is.
    """
    answer = both(kit, sending(start(200, (b"content-length", b"0")), body()), watch=lambda: counted()["succeeded"])

    assert [1, 1] == [count for _, count in answer.watched]


def test_headers_that_can_be_read_once(kit: MeterKit) -> None:
    """
    The specification says iterable, and some apps take it at its word.
    """
    once = {**start(), "headers": iter([(b"x-a", b"1")])}

    assert [("x-a", "1")] == call_asgi(MeterMiddleware(sending(once, body()), kit)).headers


@pytest.mark.parametrize("error", [RuntimeError(), asyncio.CancelledError(), SystemExit(1)])
@pytest.mark.parametrize("sent", [0, 1, 2, 3])
def test_whatever_an_app_raises(kit: MeterKit, counted: Counted, error: BaseException, sent: int) -> None:
    """
    The same object reaches the server, after the same messages; what was complete before stays a success.
    """
    messages = [start(), body(b"a", more_body=True), body(b"b")][:sent]
    both(kit, sending(*messages, error=error))

    was_delivered = sent == 3
    is_cancelled_midway = isinstance(error, asyncio.CancelledError) and sent in (1, 2)
    is_unanswered = isinstance(error, asyncio.CancelledError) and sent == 0
    succeeded = was_delivered or is_cancelled_midway
    assert 1 == counted()["succeeded" if succeeded else "other" if is_unanswered else "broke"]


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_an_app_that_just_ends(kit: MeterKit, counted: Counted, sent: int) -> None:
    """
    Without completing its response: servers cut the connection, and it counts as a 500.
    """
    both(kit, sending(*[start(), body(b"a", more_body=True)][:sent]))

    assert 1 == counted()["broke"]


def test_an_app_that_sends_its_body_first(kit: MeterKit, counted: Counted) -> None:
    """
    The server's complaint is left to the server; nobody pays.
    """
    both(kit, sending(body(b"a")))

    assert {"broke": 1} == counted()


def test_background_work_runs_after_the_count(kit: MeterKit, counted: Counted) -> None:
    """
    And what it raises changes nothing about what was delivered.
    """
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"a"))
        seen.append(counted())
        raise RuntimeError

    assert isinstance(call_asgi(MeterMiddleware(app, kit)).error, RuntimeError)
    assert [{"succeeded": 1, "bytes": 1}] == seen
    assert {"succeeded": 1, "bytes": 1} == counted()


def test_a_client_that_leaves_before_the_response(kit: MeterKit, counted: Counted) -> None:
    """
    Nothing was answered: no success, and no failure of the app either.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert {"type": "http.disconnect"} == await receive()

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    asyncio.run(MeterMiddleware(app, kit)(scope_for(), gone, None))  # type: ignore[arg-type]

    assert {"other": 1} == counted()


async def cannot(_message: Any) -> None:
    raise OSError("the client is gone")


def cannot_at_once(_message: Any) -> Any:
    raise OSError("the client is gone")


def cannot_in_the_end(_message: Any) -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError("the client is gone"))
    return future


async def as_it_is(send: Any) -> None:
    await send(start())


async def as_another(send: Any) -> None:
    try:
        await send(start())
    except OSError:
        raise RuntimeError from None


async def in_a_group(send: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(send, start())


@pytest.mark.parametrize("raise_it", [as_it_is, as_another, in_a_group])
@pytest.mark.parametrize("server_sends", [cannot, cannot_at_once, cannot_in_the_end])
def test_a_client_that_is_gone_when_the_response_starts(
    kit: MeterKit, counted: Counted, server_sends: Any, raise_it: Any
) -> None:
    """
    The app has done its work, so it counts as what it answered, however that comes to an end.
    """

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await raise_it(send)

    with suppress(Exception):
        asyncio.run(MeterMiddleware(app, kit)(scope_for(), None, server_sends))  # type: ignore[arg-type]

    assert {"succeeded": 1} == counted()


class Several(Exception):
    """An app's own, which is no group of Python's."""

    exceptions = None


def test_an_error_that_only_looks_like_a_group(kit: MeterKit, counted: Counted) -> None:
    """
    It is looked at, and reaches the server as it is.
    """
    both(kit, sending(start(), error=Several()))

    assert {"broke": 1} == counted()


def test_errors_that_led_to_each_other(kit: MeterKit, counted: Counted) -> None:
    """
    An app may make a circle of them. It is the app's own mistake, with whatever the server was sent.
    """
    error, other = RuntimeError(), RuntimeError()
    error.__context__, other.__context__ = other, error
    both(kit, sending(start(), error=error))

    assert {"broke": 1} == counted()


def test_a_websocket_passes_untouched(kit: MeterKit, counted: Counted) -> None:
    """
    With the server's own scope, receive and send.
    """
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    scope, receive, send = {"type": "websocket", "path": "/"}, object(), object()
    asyncio.run(MeterMiddleware(app, kit)(scope, receive, send))  # type: ignore[arg-type]

    assert [scope, receive, send] == got
    assert {"type": "websocket", "path": "/"}.items() <= scope.items()
    assert {} == counted()


@pytest.mark.parametrize("end", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_the_kit_is_closed_before_the_app_says_that_it_has_shut_down(
    kit: MeterKit, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """
    Some servers end the process at that message, and no exit hook runs.
    """
    log: list[Any] = []
    monkeypatch.setattr(kit, "close", lambda: log.append("kit closed"))

    async def send(message: Any) -> None:
        log.append(message)

    app = MeterMiddleware(sending({"type": "lifespan.startup.complete"}, {"type": end}), kit)
    asyncio.run(app({"type": "lifespan"}, None, send))  # type: ignore[arg-type]

    assert [{"type": "lifespan.startup.complete"}, "kit closed", {"type": end}] == log


def test_a_lifespan_around_each_invocation(make_kit: Callable[..., MeterKit], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As Mangum runs it on AWS Lambda: each leaves nothing in the journal, and only the first ends the kit.
    """
    kit, log = make_kit(), []
    close = kit.close

    def noted_close() -> None:
        log.append("closed")
        close()

    monkeypatch.setattr(kit, "close", noted_close)
    app = MeterMiddleware(sending({"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}), kit)

    async def send(_: Any) -> None:
        pass

    for _ in range(3):
        kit.record("calls", "acme")
        asyncio.run(app({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
        log.append(kit.health()["books"]["calls"]["journal"])

    assert ["closed", 0, 0, 0] == log
    assert [3] == [row.quantity for row in kit.usage()]


@pytest.mark.parametrize(("lifespans", "broken"), [(1, "close"), (2, "rotate")])
def test_a_lifespan_that_cannot_flush(
    kit: MeterKit, monkeypatch: pytest.MonkeyPatch, lifespans: int, broken: str
) -> None:
    """Whatever fails, the server hears that the app has shut down: it may wait for that for ever."""
    log: list[Any] = []
    app = MeterMiddleware(sending({"type": "lifespan.shutdown.complete"}), kit)

    async def send(message: Any) -> None:
        log.append(message["type"])

    for number in range(1, lifespans + 1):
        kit.record("other", "acme")
        with monkeypatch.context() as patched:  # as an app's own tests may, which put a function of theirs for open()
            if number == lifespans:
                patched.setattr(kit.process().journal, broken, None)
            asyncio.run(app({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    kit.flush()

    assert ["lifespan.shutdown.complete"] * lifespans == log
    assert [lifespans] == [row.quantity for row in kit.usage()]


def test_nothing_outlives_the_request(kit: MeterKit) -> None:
    """
    The middleware keeps no request, and leaves no cycle to the garbage collector.
    """

    class Held:
        pass

    metered = MeterMiddleware(sending(start(), body(b"a")), kit)
    call_asgi(metered)
    gc.collect()
    gc.disable()
    try:
        held = Held()
        gone = weakref.ref(held)
        call_asgi(metered, scope={"held": held})
        del held
        assert gone() is None
    finally:
        gc.enable()


def test_what_keeps_the_context_keeps_nothing_of_the_servers(kit: MeterKit) -> None:
    """
    A server's timer keeps a copy of the context that it was set in, as uvicorn's for idle connections do.
    """
    contexts: list[Context] = []

    class Connection:
        def __init__(self) -> None:
            self.scope = scope_for()

        async def receive(self) -> Any:
            raise AssertionError("the app does not ask")

        async def send(self, _message: Any) -> None:
            contexts.append(copy_context())

    metered = MeterMiddleware(sending(start(), body(b"a")), kit)
    gc.collect()
    gc.disable()
    try:
        connection = Connection()
        gone = weakref.ref(connection)
        asyncio.run(metered(connection.scope, connection.receive, connection.send))
        del connection
        assert gone() is None
    finally:
        gc.enable()
    assert 2 == len(contexts)


def test_when_the_app_has_returned_nobody_is_there(kit: MeterKit) -> None:
    """
    A task that it left behind is told so: the server has no use for what it says.
    """
    left: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        left.extend([receive, send])
        await send(start())
        await send(body(b"a"))

    call_asgi(MeterMiddleware(app, kit))
    receive, send = left

    assert {"type": "http.disconnect"} == asyncio.run(receive())
    with pytest.raises(RuntimeError, match="has returned"):
        asyncio.run(send(body(b"b")))
