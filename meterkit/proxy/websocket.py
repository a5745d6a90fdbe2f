"""
Pass a WebSocket on: its handshake, its messages in both directions, and how each side closes it.

The server has the client's side, and the library websockets that of the app. So each side is pinged, and compressed or
not, by itself; one message is on its way at a time, so that each side waits for the other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from meterkit.metering.exchange import Exchange
from meterkit.proxy import told
from meterkit.proxy.failures import Failure, bad_request, invalid, response, timed_out, unreachable
from meterkit.proxy.headers import Headers, Rules, request_headers, response_headers, target_of
from meterkit.proxy.relay import Receive, Send
from meterkit.proxy.upstream import Pool

MOST_BYTES = 1 << 24
"""Longest message from the app, bytes; the server's own limit for the client's messages is the same in uvicorn."""

NO_STATUS, ABNORMAL, GOING_AWAY, BAD_GATEWAY = 1005, 1006, 1001, 1014
"""Close codes of RFC 6455 and its registry. The first two are never sent."""

DENIAL = "websocket.http.response"
"""Extension of ASGI by which a handshake is refused with a response."""


class _Connect(connect):
    """A connection that follows no redirect: that is for the client to do."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return *exc*: a redirect is a refusal."""
        return exc


async def relay(
    scope: Any,
    receive: Receive,
    send: Send,
    *,
    pool: Pool,
    rules: Rules,
    company: bytes | None,
    exchange: Exchange | None,
    hides_usage: bool,
) -> None:
    """
    Pass one WebSocket on, whose client asks to connect, until it ends.

    Args:
        scope: ASGI scope.
        receive: The server's ``receive``.
        send: The server's ``send``.
        pool: Where the app is, and how long to wait for it.
        rules: What is passed on.
        company: Who pays, if the app is told.
        exchange: Exchange to which the app may add usage.
        hides_usage: Whether the headers in which the app tells usage are taken out.

    Raises:
        Failure: The app cannot be reached, and nothing was sent to the client.
    """
    try:
        app = await _opened(scope, pool, rules, company)
    except InvalidStatus as refusal:
        answer = refusal.response
        given = _raw(answer.headers)
        if hides_usage:
            given, _ = told.without_usage(given)
        await refuse(
            scope, send, answer.status_code, response_headers(answer.status_code, given), bytes(answer.body or b"")
        )
        return
    assert app.response is not None
    headers = [each for each in _raw(app.response.headers) if not each[0].lower().startswith(b"sec-websocket-")]
    if hides_usage:
        headers, values = told.without_usage(headers)
        told.count(exchange, values)
    try:
        accepted = response_headers(200, headers)
        await send({"type": "websocket.accept", "subprotocol": app.subprotocol, "headers": accepted})
        await _both_ways(app, receive, send)
    finally:
        app.transport.abort()


async def refuse(scope: Any, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Refuse a handshake with a response; with a 403 where the server can send nothing else."""
    if DENIAL not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": GOING_AWAY})
        return
    headers = [each for each in headers if each[0].lower() != b"content-length"]  # the server computes it
    await send({"type": f"{DENIAL}.start", "status": status, "headers": headers})
    await send({"type": f"{DENIAL}.body", "body": body})


async def refuse_with(failure: Failure, scope: Any, send: Send) -> None:
    """Refuse a handshake for *failure*."""
    headers, body = response(failure)
    await refuse(scope, send, failure.status, headers, body)


async def _opened(scope: Any, pool: Pool, rules: Rules, company: bytes | None) -> ClientConnection:
    given = [(name.lower(), value) for name, value in scope["headers"]]
    headers = request_headers(given, scope, rules)
    if company is not None:
        headers.append((b"x-meterkit-company", company))
    (host,) = [value.decode("latin-1") for name, value in headers if name == b"host"]
    passed = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in (b"host", b"content-length") and not name.startswith(b"sec-websocket-")
    ]
    address = pool.address
    scheme = "wss" if address.is_tls else "ws"
    where: dict[str, Any] = (
        {"unix": True, "path": address.socket}
        if address.socket is not None
        else {"host": address.host, "port": address.port}
    )
    if address.is_tls:
        where |= {"ssl": pool.context, "server_hostname": address.host}
    try:
        opening = _Connect(
            f"{scheme}://{host}{target_of(scope).decode('ascii')}",
            additional_headers=passed,
            subprotocols=_subprotocols(given) or None,
            user_agent_header=None,
            compression=None,
            proxy=None,
            max_size=MOST_BYTES,
            max_queue=1,
            open_timeout=pool.connect_timeout,
            **where,
        )
        return await opening
    except InvalidStatus:
        raise
    except InvalidURI:
        raise bad_request("The Host header, or the path, is not valid.") from None
    except (TimeoutError, asyncio.TimeoutError):
        raise timed_out("the app did not open a WebSocket within connect_timeout=") from None
    except OSError as error:
        raise unreachable(f"no connection to {address.text} for a WebSocket: {error}") from error
    except (InvalidHandshake, EOFError, ValueError) as error:
        raise invalid(f"the app answered a WebSocket's handshake with something else: {error}") from error


def _subprotocols(headers: Headers) -> list[Subprotocol]:
    """Return the subprotocols that a client offers. Not those in the scope, which some servers do not take apart."""
    offered = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
    return [Subprotocol(each.strip()) for value in offered for each in value.split(",") if each.strip()]


async def _both_ways(app: ClientConnection, receive: Receive, send: Send) -> None:
    """Pass messages on until a side closes, and then tell the other."""
    loop = asyncio.get_running_loop()
    down = loop.create_task(_to_client(app, send))
    up = loop.create_task(_to_app(app, receive))
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            down.cancel()
            with suppress(ConnectionClosed):
                up.result()
                return
            # The app has closed while a message was sent to it: its close code is at hand.
            await _tell_client(app, send)
        else:
            down.result()
    finally:
        for each in (down, up):
            each.cancel()


async def _to_client(app: ClientConnection, send: Send) -> None:
    try:
        while True:
            message = await app.recv()
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed:
        await _tell_client(app, send)


async def _tell_client(app: ClientConnection, send: Send) -> None:
    """Close the client's side as the app has closed its own."""
    code, reason = app.close_code, app.close_reason
    if code in (None, ABNORMAL):
        code, reason = BAD_GATEWAY, "the connection to the app was lost"
    elif code == NO_STATUS:
        code = 1000
    await send({"type": "websocket.close", "code": code, "reason": reason or ""})


async def _to_app(app: ClientConnection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", NO_STATUS)
            if code == ABNORMAL:
                app.transport.abort()
            else:
                await app.close(1000 if code == NO_STATUS else code, message.get("reason") or "")
            return
        text = message.get("text")
        await app.send(message["bytes"] if text is None else text)


def _raw(headers: Any) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.raw_items()]
