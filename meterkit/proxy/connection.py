"""One connection to the app: h11 says what the bytes mean, asyncio moves them, and nobody waits longer than allowed."""

from __future__ import annotations

import asyncio
from typing import Any

import h11

MOST_BUFFERED = 1 << 18
"""Bytes that are read from the app before somebody takes them; more stay in the kernel, and then in the app."""

MOST_AT_ONCE = 1 << 16
"""Bytes of a body that are handed on in one piece, about."""

MOST_HEAD = 100 * 1024
"""Bytes of a response's status line and headers, as in httpx."""


class ConnectionLostError(Exception):
    """The app closed or reset the connection, or this side gave it up."""


class Connection(asyncio.Protocol):
    """
    A connection to the app. One task reads, and another writes.

    Attributes:
        http: State of the protocol.
        transport: Transport of the bytes.
        loop: Event loop that it belongs to.
        is_used: Whether a request was answered on it before.
        is_idle: Whether no request is on its way, so that the app has nothing to send.
        has_answered: Whether the app has sent a byte since the last request.
        released_at: When it became idle, seconds of the loop's clock.
    """

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.is_used = self.is_idle = self.has_answered = False
        self.released_at = 0.0
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._is_paused = self._is_full = self._at_end = False
        self._lost: ConnectionLostError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep *data* until somebody reads it; what comes although nothing was asked for ends the connection."""
        if self.is_idle:
            self.abort("the app sent data although nothing was asked for")
            return
        self.has_answered = True
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered > MOST_BUFFERED and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """Note that nothing more comes."""
        self._at_end = True
        _wake(self._reader)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Note that nothing more can be sent, and why."""
        if self._lost is None:
            self._lost = ConnectionLostError(str(error or "the app closed the connection"))
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._is_full = False
        _wake(self._writer)

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._lost is None and not self._at_end and not self.transport.is_closing()

    def abort(self, why: str = "the connection was given up") -> None:
        """Close the connection at once; whoever waits for it gets `ConnectionLostError`."""
        if self._lost is None:
            self._lost = ConnectionLostError(why)
        self._at_end = False
        self._pieces.clear()
        self.transport.abort()
        _wake(self._reader)
        _wake(self._writer)

    def write(self, event: h11.Event) -> None:
        """
        Send *event*, or buffer it.

        Raises:
            LocalProtocolError: The event is not valid in HTTP.
        """
        data = self.http.send(event)
        if data and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self, seconds: float) -> None:
        """
        Wait until the app has taken what was sent, but for some kilobytes.

        Raises:
            ConnectionLostError: The connection has ended.
            TimeoutError: It took nothing for so many seconds.
        """
        while self._is_full and self._lost is None:
            self._writer = self.loop.create_future()
            await _within(self._writer, seconds)
        if self._lost is not None:
            raise self._lost

    async def next_event(self, seconds: float | None) -> Any:
        """
        Return the next event of the response; data that has come already is in one piece.

        Args:
            seconds: How long to wait for the next bytes; None to wait until they come.

        Raises:
            ConnectionLostError: The connection has ended before.
            RemoteProtocolError: The app does not speak HTTP, or its response ended too early.
            TimeoutError: Nothing came for so many seconds.
        """
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            await self._receive(seconds)

    def event_at_hand(self) -> h11.Event | None:
        """Return the next event if its bytes have come already; None otherwise, and if they are no HTTP."""
        if self._pieces:
            self._feed()
        try:
            event = self.http.next_event()
        except h11.RemoteProtocolError:  # `next_event` raises it again
            return None
        return event if isinstance(event, h11.Data | h11.EndOfMessage) else None

    def end_of_cycle(self) -> bool:
        """Return whether another request can be sent, now that the response is complete, and prepare for it."""
        http = self.http
        is_done = http.our_state is h11.DONE and http.their_state is h11.DONE
        if not is_done or not self.is_open or self._pieces or http.trailing_data != (b"", False):
            return False
        http.start_next_cycle()
        self.is_used, self.has_answered = True, False
        return True

    async def _receive(self, seconds: float | None) -> None:
        while not self._pieces:
            if self._at_end and not self.has_answered:
                raise ConnectionLostError("the app closed the connection without a response")
            if self._at_end:
                self.http.receive_data(b"")
                return
            if self._lost is not None:
                raise self._lost
            self._reader = self.loop.create_future()
            await _within(self._reader, seconds)
        self._feed()

    def _feed(self) -> None:
        self.http.receive_data(b"".join(self._pieces))
        self._pieces.clear()
        self._buffered = 0
        if self._is_paused:
            self._is_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()


async def _within(waited: asyncio.Future[None], seconds: float | None) -> None:
    """Await *waited*; raise TimeoutError after so many seconds."""
    if seconds is None:
        await waited
        return
    timer = waited.get_loop().call_later(seconds, _expire, waited)
    try:
        await waited
    finally:
        timer.cancel()


def _expire(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_exception(TimeoutError())


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
