"""
Pass one request on to the app, and its response on to the client.

The request's body is sent while the response may already be coming, and each side waits for the other: what the client
does not take, the app is not asked for, and the reverse. Once the client leaves, the connection to the app is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import h11

from meterkit.metering.exchange import Exchange
from meterkit.proxy import told
from meterkit.proxy.connection import MOST_AT_ONCE, Connection, ConnectionLostError
from meterkit.proxy.failures import BrokenResponseError, Failure, bad_request, invalid, timed_out
from meterkit.proxy.headers import RequestHead, response_headers
from meterkit.proxy.upstream import Pool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods by which a client asks for no change (RFC 9110, section 9.2.1)."""

MOST_STATUS = 599


@dataclass(frozen=True)
class Limits:
    """
    How long the proxy waits, seconds.

    Attributes:
        first_byte: For the start of the response, once the request is sent.
        idle: For the next bytes of a response, for the app to take more of a request, and for the client to send more.
    """

    first_byte: float
    idle: float


class Relay:
    """
    One request on its way to the app and back.

    Args:
        head: What is sent before the body.
        pool: Connections to the app.
        limits: How long to wait.
        receive: The server's ``receive``.
        send: The server's ``send``.
        exchange: Exchange to which the app may add usage; None if it may not, or if nothing meters it.
        hides_usage: Whether the headers in which the app tells usage are taken out.

    Attributes:
        has_begun: Whether the response has begun.
        client_left: Whether the client has disconnected before the response was complete.
    """

    def __init__(
        self,
        head: RequestHead,
        pool: Pool,
        limits: Limits,
        receive: Receive,
        send: Send,
        *,
        exchange: Exchange | None,
        hides_usage: bool,
    ) -> None:
        self._head = head
        self._pool = pool
        self._limits = limits
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self._hides_usage = hides_usage
        self._connection: Connection | None = None
        self._failure: Failure | None = None
        self._clock: asyncio.TimerHandle | None = None
        self.has_begun = False
        self.client_left = False

    async def run(self) -> None:
        """
        Pass the request and the response on; return when the response is complete, or the client has left.

        Raises:
            Failure: There is no response, and nothing was sent to the client.
            BrokenResponseError: The response ended too early, after a part of it was sent.
        """
        upload: asyncio.Task[None] | None = None
        try:
            self._connection = await self._pool.acquire()
            self._write_head()
            upload = asyncio.get_running_loop().create_task(self._upload())
            try:
                response = await self._response_head()
            except ConnectionLostError:
                if not self._may_repeat():
                    raise
                self._pool.discard(self._connection)
                self._connection = None
                self._connection = await self._pool.acquire(fresh=True)
                self._write_head()
                self._start_clock()
                response = await self._response_head()
            self._stop_clock()
            await self._pass_response(response)
        except (ConnectionLostError, h11.RemoteProtocolError, TimeoutError) as error:
            if not self.client_left:
                raise self._named(error) from error
        except Failure:
            if not self.client_left:
                raise
        finally:
            self._stop_clock()
            if upload is not None:
                upload.cancel()
            if self._connection is not None:
                self._pool.discard(self._connection)

    def _write_head(self) -> None:
        assert self._connection is not None
        head = self._head
        try:
            request = h11.Request(method=head.method, target=head.target, headers=head.headers)
            self._connection.write(request)
        except h11.LocalProtocolError as error:
            raise bad_request(f"The request is not valid in HTTP/1.1: {error}.") from None
        if not head.has_body:
            self._connection.write(h11.EndOfMessage())

    def _may_repeat(self) -> bool:
        """
        Return whether the request may be sent again, on a new connection.

        That is so if the app closed a kept connection at the moment at which it was used, so that it has answered
        nothing, and if a request that did arrive does no harm twice.
        """
        connection, head = self._connection, self._head
        assert connection is not None
        is_stale = connection.is_used and not connection.has_answered
        return is_stale and head.method in SAFE and not head.has_body and self._failure is None and not self.client_left

    async def _upload(self) -> None:
        """Send the body, and then wait for the client to leave."""
        connection = self._connection
        assert connection is not None
        try:
            if self._head.has_body:
                await self._send_body(connection)
            if not self.client_left:
                self._start_clock()
            while not self.client_left:
                self._note(await self._receive())
        except (ConnectionLostError, TimeoutError):
            return  # whoever reads the response finds out, and may find one
        except h11.LocalProtocolError:
            self._fail(bad_request("The body is not as long as its Content-Length."))
        except Exception as error:  # a server's own `receive`
            self._fail(bad_request(f"The request could not be read: {type(error).__name__}."))

    async def _send_body(self, connection: Connection) -> None:
        more = True
        while more:
            self._watch(Failure(408, "http_request_error", "The request's body did not come."))
            message = await self._receive()
            self._stop_clock()
            self._note(message)
            if self.client_left:
                return
            body, more = message.get("body", b""), message.get("more_body", False)
            if body:
                connection.write(h11.Data(data=body))
                try:
                    await connection.drain(self._limits.idle)
                except TimeoutError:
                    if not self.has_begun:  # otherwise it may have decided without the rest
                        self._fail(timed_out("the app took no more of a request's body within idle_timeout="))
                    raise
        connection.write(h11.EndOfMessage())

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.client_left = True
            if self._connection is not None:
                self._connection.abort("the client has left")
        elif message.get("body") and not self._head.has_body:
            self._fail(Failure(411, "http_request_error", "The request has a body without a length."))

    def _watch(self, failure: Failure) -> None:
        """Give up with *failure* if the client is silent for too long, unless the response has begun."""
        if not self.has_begun:
            self._clock = asyncio.get_running_loop().call_later(self._limits.idle, self._fail, failure)

    def _start_clock(self) -> None:
        """Give up if the app does not begin to respond in time."""
        self._stop_clock()
        if not self.has_begun:
            failure = timed_out("the app did not begin to respond within first_byte_timeout=")
            self._clock = asyncio.get_running_loop().call_later(self._limits.first_byte, self._fail, failure)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _fail(self, failure: Failure) -> None:
        """Give up, with *failure* for the client unless its response has begun."""
        if self._failure is None:
            self._failure = failure
        if self._connection is not None:
            self._connection.abort(failure.cause)

    async def _response_head(self) -> h11.Response:
        assert self._connection is not None
        while True:
            event = await self._connection.next_event(None)
            if isinstance(event, h11.Response):
                if event.status_code > MOST_STATUS:
                    raise invalid(f"the app's response has the status {event.status_code}")
                self.has_begun = True
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionLostError("the app closed the connection without a response")

    async def _pass_response(self, response: h11.Response) -> None:
        connection = self._connection
        assert connection is not None
        headers = response.headers.raw_items()
        if self._hides_usage:
            headers, values = told.without_usage(headers)
            told.count(self._exchange, values)
        await self._send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response_headers(response.status_code, headers),
            }
        )
        end: h11.EndOfMessage | None = None
        while end is None:
            event = await connection.next_event(self._limits.idle)
            body = b""
            if isinstance(event, h11.Data):
                body, event = _at_hand(connection, event)
            if isinstance(event, h11.EndOfMessage):
                end = event
                if self._hides_usage and end.headers:
                    told.count(self._exchange, told.without_usage(end.headers)[1])
                self._connection = None
                self._pool.release(connection)
            await self._send({"type": "http.response.body", "body": body, "more_body": end is None})

    def _named(self, error: Exception) -> Exception:
        """Return what to raise for *error*, with which the app's response ended."""
        failure = self._failure
        if failure is None:
            if isinstance(error, TimeoutError):
                failure = timed_out("the app sent nothing more within idle_timeout=")
            elif isinstance(error, h11.RemoteProtocolError):
                failure = invalid(f"the app's response is not HTTP: {error}")
            else:
                failure = invalid(f"the app gave no response: {error}", error="http_response_incomplete")
        return BrokenResponseError(failure.cause) if self.has_begun else failure


def _at_hand(connection: Connection, first: h11.Data) -> tuple[bytes, h11.EndOfMessage | None]:
    """Return *first* and what follows it and has come already, up to some size, and the end if that has come, too."""
    pieces, size = [bytes(first.data)], len(first.data)
    while size < MOST_AT_ONCE:
        event = connection.event_at_hand()
        if event is None:
            break
        if isinstance(event, h11.EndOfMessage):
            return b"".join(pieces), event
        assert isinstance(event, h11.Data)
        pieces.append(bytes(event.data))
        size += len(event.data)
    return b"".join(pieces), None
