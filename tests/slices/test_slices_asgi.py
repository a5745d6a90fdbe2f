"""An event loop waits for the ledger only while a slice has too few units, and then in a thread."""

from __future__ import annotations

import asyncio

import pytest
from governed import CALLS

from meterkit import Quota
from meterkit import asgi as asgi_module


@pytest.fixture
def threads(monkeypatch):
    """An item for each call in a thread."""
    found = []
    in_thread = asgi_module.in_thread

    async def noted(call):
        found.append(1)
        return await in_thread(call)

    monkeypatch.setattr(asgi_module, "in_thread", noted)
    return found


async def app(_scope, _receive, send):
    """Answers."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def ask(server):
    """The status of a request of acme."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"x-company", b"acme")]
    scope = {"type": "http", "method": "GET", "path": "/calls", "headers": headers, "query_string": b""}
    await server(scope, receive, send)
    return sent[0]["status"]


def test_a_request_with_a_slice_is_served_in_the_loop(govern, threads, pace, in_background):
    """The others wait in a thread, so that no other request does."""
    governed = govern(Quota(CALLS, 1_000_000, exact=True))
    server = asgi_module.MeterMiddleware(app, governed.kit)

    async def serve():
        found = []
        for _ in range(50):
            has_units = governed.free() >= 1
            before = len(threads)
            assert 200 == await ask(server)
            found.append((has_units, len(threads) - before))
        return found

    found = asyncio.run(serve())

    assert (False, 1) == found[0]
    assert {(True, 0), (False, 1)} >= {*found[1:]}
    assert (True, 0) in found


def test_a_request_without_a_unit_is_blocked(govern, threads):
    """By the ledger, which a thread has asked."""
    server = asgi_module.MeterMiddleware(app, govern(Quota(CALLS, 2, exact=True)).kit)

    async def serve():
        return [await ask(server) for _ in range(4)]

    assert [200, 200, 429, 429] == asyncio.run(serve())
    assert 4 == len(threads)
