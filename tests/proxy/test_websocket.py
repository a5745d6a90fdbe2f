"""WebSockets pass through the proxy: handshakes, messages, and how each side ends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from guard import GUARD
from proxy_ends import answering
from thorough import first
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

import meterkit
from meterkit import Governance, Meter, Quota
from meterkit.proxy import Proxy


@asynccontextmanager
async def app_of(handler, **options):
    """An app that handles WebSockets; its URL."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def run(coroutine):
    """Run a test's coroutine, which ends."""
    return asyncio.run(asyncio.wait_for(coroutine, GUARD))


class Client(connect):
    """Follows no redirect."""

    def process_redirect(self, exc):
        return exc


def opened(port, path="/", **options):
    """A client's connection."""
    return Client(f"ws://127.0.0.1:{port}{path}", proxy=None, max_size=None, **options)


def test_messages_pass_in_both_directions(proxied):
    """Texts and bytes, small and large; the path, the headers and the subprotocol; nothing is counted for them."""
    seen = []

    async def echo(socket):
        seen.append((socket.request.path, socket.request.headers))
        async for message in socket:
            await socket.send(message)

    async def test():
        def add(connection, request, response):
            response.headers["X-Of-App"] = "1"

        async with app_of(echo, subprotocols=["b", "a"], process_response=add) as url:
            through = proxied(url, Meter("calls"), proxy={"company_header": True})
            messages = ["", "é" * 100_000, b"", b"\x00" * 5_000_000, "last"]
            headers = {"X-Api-Key": "acme", "X-Meterkit-Company": "globex", "Origin": "http://o"}
            async with opened(
                through.port, "/a%2Fb?x=%20", subprotocols=["a", "z"], additional_headers=headers
            ) as client:
                for message in messages:
                    await client.send(message)
                    assert message == await client.recv()
                assert client.subprotocol == "a"
                assert client.response.headers["X-Of-App"] == "1"
            return through

    through = run(test())
    path, headers = seen[0]
    assert path == "/a%2Fb?x=%20"
    assert ["acme"] == headers.get_all("X-Meterkit-Company")
    assert headers["Origin"] == "http://o"
    assert [f"127.0.0.1:{through.port}"] == headers.get_all("Host")
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert {} == through.counted()


@pytest.mark.parametrize("close", first([(4001, "enough")], among=[(1000, ""), (4001, "enough"), (1011, "oops")]))
def test_how_a_side_closes_is_how_the_other_is_closed(proxied, close):
    """The code and the reason, in both directions."""
    code, reason = close
    closed = []

    async def app(socket):
        if await socket.recv() == "close":
            await socket.close(code, reason)
        else:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            closed.append((socket.close_code, socket.close_reason))

    async def test():
        async with app_of(app) as url:
            port = proxied(url).port
            async with opened(port) as client:
                await client.send("close")
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (code, reason) == (client.close_code, client.close_reason)
            async with opened(port) as client:
                await client.send("wait")
                await client.close(code, reason)

    run(test())
    assert [(code, reason)] == closed


def test_an_app_that_is_gone_in_the_middle(proxied):
    """The client is told that the connection behind was lost."""

    async def app(socket):
        await socket.recv()
        socket.transport.abort()

    async def test():
        async with app_of(app) as url, opened(proxied(url).port) as client:
            await client.send("x")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1014

    run(test())


REFUSALS = {
    "401": (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", 401),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", 302),
    "no http": (b"hello\r\n\r\n", 502),
}


@pytest.mark.parametrize("name", first(["401"], among=REFUSALS))
def test_a_refused_handshake(raw_app, proxied, name):
    """The client gets the app's own response, or a 502."""
    answer, status = REFUSALS[name]
    through = proxied(raw_app(answering(answer)))

    async def test():
        with pytest.raises(InvalidStatus) as refused:
            await opened(through.port)
        return refused.value.response

    response = run(test())
    assert status == response.status_code
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Basic"
        assert response.body == b"no"
    assert {} == through.counted()


def test_an_app_that_is_not_there(proxied):
    """A 502, as for any request."""
    through = proxied("http://127.0.0.1:1")

    async def test():
        with pytest.raises(InvalidStatus) as refused:
            await opened(through.port)
        return refused.value.response.status_code

    assert 502 == run(test())
    assert "upstream_unreachable" in through.problems()


def test_usage_that_the_app_tells_in_its_handshake(proxied):
    """It counts at once, as what a WebSocket's view adds."""

    async def app(socket):
        await socket.recv()

    async def test():
        def add(connection, request, response):
            response.headers["X-Meterkit-Usage"] = "sessions=1"

        async with app_of(app, process_response=add) as url:
            through = proxied(url, Meter("sessions", value="sessions"), proxy={"usage_headers": True})
            async with opened(through.port, additional_headers={"X-Api-Key": "acme"}) as client:
                assert "X-Meterkit-Usage" not in client.response.headers
                assert {("sessions", "acme"): 1} == through.counted()

    run(test())


def test_who_is_blocked_opens_none(proxied):
    """A quota that is used up refuses the handshake, as it would a request; others are let in."""
    asked = []

    async def app(socket):
        asked.append(socket.request.headers["X-Api-Key"])

    async def test():
        calls = Meter("calls")
        async with app_of(app) as url:
            governance = Governance(quotas=[Quota(calls, 1)])
            through = proxied(url, calls, governance=governance, stripe_key="sk_test_x")
            through.kit.record("calls", "acme", 1)
            through.kit.flush()
            with pytest.raises(InvalidStatus) as refused:
                await opened(through.port, additional_headers={"X-Api-Key": "acme"})
            assert 429 == refused.value.response.status_code
            assert b"quota" in refused.value.response.body
            async with opened(through.port, additional_headers={"X-Api-Key": "globex"}):
                pass
            return through

    through = run(test())
    assert ["globex"] == asked
    assert {("calls", "acme"): 1} == through.counted()


def test_the_proxy_is_public():
    """It is imported by its package's name."""
    assert meterkit.proxy.Proxy is Proxy
