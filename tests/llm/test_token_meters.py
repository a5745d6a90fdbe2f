"""``value=llm.tokens(...)``: an app whose responses are a provider's, whole, streamed, compressed, broken off."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import suppress

import pytest
from plain_exchange import PlainExchange, counted, serve
from provider_bodies import CHAT, CHAT_STREAM, MESSAGE_STREAM, OPENAI_KINDS

import meterkit.asgi
import meterkit.wsgi
from meterkit import ConfigurationError, Meter, llm, response_json

JSON = {"content-type": "application/json"}


def kit_of(make_kit, *meters, **options):
    return make_kit(*meters, identify=lambda _: "acme", **options)


def each_kind():
    return [Meter(kind, path="/v1/chat", value=llm.tokens(kind), status="*") for kind in llm.KINDS]


def used(kit):
    return {meter: quantity for (meter, _), quantity in counted(kit).items()}


@pytest.mark.parametrize("encoded", [False, True])
def test_in_one_piece(make_kit, encoded):
    """Each kind is counted by its meter; they share what reads the body."""
    kit = kit_of(make_kit, *each_kind(), Meter("all", path="/v1/*", value=llm.tokens()))
    body = json.dumps(CHAT).encode()
    headers = {**JSON, "content-encoding": "gzip"} if encoded else JSON
    serve(kit, PlainExchange("POST", "/v1/chat"), body=gzip.compress(body) if encoded else body, headers=headers)

    assert {**OPENAI_KINDS, "all": 1300} == used(kit)


def test_beside_a_field_of_the_body(make_kit):
    """Another meter may read the same body whole."""
    kit = kit_of(make_kit, Meter("all", value=llm.tokens()), Meter("total", value=response_json("usage.total_tokens")))
    serve(kit, body=json.dumps(CHAT).encode(), headers=JSON)

    assert {"all": 1300, "total": 1300} == used(kit)


def asgi_app(body, *, size=40, breaks=None):
    """An app that streams *body*, and raises after *breaks* bytes."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for at in range(0, len(body), size):
            if breaks is not None and at >= breaks:
                raise ConnectionError
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def ask(app, *, leaves_after=None):
    """One request; the client leaves after some messages."""
    sent = []

    async def send(message):
        if leaves_after is not None and len(sent) >= leaves_after:
            raise OSError
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "POST", "path": "/v1/chat", "headers": [], "query_string": b""}

    async def asked():
        with suppress(OSError):
            await app(scope, receive, send)

    asyncio.run(asked())
    return b"".join(message.get("body", b"") for message in sent)


def test_a_stream(make_kit):
    """Passes as it is, and counts at its end."""
    kit = kit_of(make_kit, *each_kind())
    app = meterkit.asgi.MeterMiddleware(asgi_app(CHAT_STREAM), kit)

    assert CHAT_STREAM == ask(app)
    assert OPENAI_KINDS == used(kit)


@pytest.mark.parametrize("how", ["breaks", "leaves"])
def test_a_stream_that_ends_early(make_kit, how):
    """Counts what it has told: with status="*" also if it is the app that breaks it off."""
    kit = kit_of(make_kit, *each_kind())
    at = MESSAGE_STREAM.index(b"event: content_block_delta")
    app = asgi_app(MESSAGE_STREAM, breaks=at if how == "breaks" else None)
    ask(meterkit.asgi.MeterMiddleware(app, kit), leaves_after=at // 40 if how == "leaves" else None)

    assert {"input": 200, "cached_input": 640, "cache_write": 128, "output": 1} == used(kit)


def test_wsgi(make_kit):
    """The same under WSGI, in pieces."""
    kit = kit_of(make_kit, *each_kind())

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return iter([CHAT_STREAM[:100], CHAT_STREAM[100:]])

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/chat", "wsgi.input": None}
    body = meterkit.wsgi.MeterMiddleware(app, kit)(environ, lambda *_: None)

    assert CHAT_STREAM == b"".join(body)
    body.close()
    assert OPENAI_KINDS == used(kit)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"body": b"{}"}, "tokens_missing"),
        ({"body": b""}, "tokens_missing"),
        ({"body": b'{"usage": {"prompt_tokens": "7"}}'}, "tokens_not_countable"),
        ({"body": b"\x0b", "headers": {"content-encoding": "br"}}, "body_encoded"),
    ],
)
def test_nothing_to_count(make_kit, options, reason):
    """Is a problem with its cure, and other meters still count."""
    kit = kit_of(make_kit, Meter("all", value=llm.tokens()), Meter("requests", path="*"))
    serve(kit, **options)

    assert {"requests": 1} == used(kit)
    assert "Meter('all')" in kit.health()["problems"][reason]["message"]


def test_a_head_has_no_body(make_kit):
    """Nothing is read of what the server does not send."""
    kit = kit_of(make_kit, Meter("all", value=llm.tokens()))
    serve(kit, PlainExchange("HEAD", "/v1/chat"), body=json.dumps(CHAT).encode())

    assert {} == used(kit)


@pytest.mark.parametrize(
    ("kinds", "cure"), [(["inputs"], "did you mean 'input'?"), (["total"], "the kinds are"), ([5], "is no kind")]
)
def test_wrong_kinds(kinds, cure):
    """The error says which there are."""
    with pytest.raises(ConfigurationError, match=cure):
        llm.tokens(*kinds)


def test_wrong_values():
    """A meter that only records reads no body; and what reads it must be called."""
    with pytest.raises(ConfigurationError, match="value= would do nothing"):
        Meter("all", http=False, value=llm.tokens())
    with pytest.raises(ConfigurationError, match=r"llm.tokens\(...\)"):
        Meter("all", value=llm.tokens)


def test_equal_meters_are_equal():
    """A meter stays a value."""
    assert Meter("all", value=llm.tokens()) == Meter("all", value=llm.tokens(*llm.KINDS, "input"))
    assert llm.tokens("input") != llm.tokens("output")
