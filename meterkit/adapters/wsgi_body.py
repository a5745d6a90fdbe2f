"""Count a WSGI response body just before its last chunk leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from meterkit.adapters.file_length import rest_of_file
from meterkit.adapters.wsgi_exchange import WSGIExchange
from meterkit.metering.exchange import Exchange
from meterkit.metering.recorder import Recorder


def only_piece(body: Any) -> bytes | None:
    """
    Return the only piece of *body*, if that is a werkzeug (or Flask) response of one piece; otherwise None.

    Werkzeug makes an iterator of every response, and wrapping it only to see a single piece took a third of metering's
    time. So this inspects the callbacks with which the iterator closes its source and its response. Bodies of any other
    type are not inspected.
    """
    if type(body).__name__ != "ClosingIterator":
        return None
    try:
        iterated, response = body._callbacks  # noqa: SLF001 - there is no public way
        pieces = response.__self__.response if iterated.__self__.__name__ == "_iter_encoded" else None
    except (AttributeError, ValueError):
        return None
    return pieces[0] if type(pieces) is list and len(pieces) == 1 and type(pieces[0]) is bytes else None


def counted(body: Any, exchange: WSGIExchange, recorder: Recorder, *, is_file: bool) -> Iterable[bytes]:
    """Return *body*, or a wrapper around it; either way, the exchange is counted before the last chunk leaves."""
    if type(body) is list or type(body) is tuple:
        if not exchange.status:
            recorder.broke(exchange)  # the app did not call start_response, so the server will send a 500
        for data in body[:-1]:
            recorder.chunk(exchange, data)
        recorder.chunk(exchange, body[-1] if body else b"", last=True)
    elif is_file:
        recorder.sendfile(exchange, lambda: rest_of_file(body))
    else:
        if exchange.status and exchange.is_bodiless:
            recorder.chunk(exchange, b"")
        if not exchange.closed:
            return (SizedBody if hasattr(body, "__len__") else Body)(body, exchange, recorder)
    exchange.over()
    return body  # type: ignore[no-any-return]


class Body:
    """
    A streamed response body: an iterator, so that no chunk is fetched before it is needed.

    Not a generator: closing one that was not started would skip the app's own ``close()``.
    """

    __slots__ = ("_body", "_exchange", "_next", "_recorder")

    def __init__(self, body: Iterable[bytes], exchange: WSGIExchange, recorder: Recorder) -> None:
        self._body: Any = body
        self._exchange = exchange
        self._recorder = recorder
        self._next: Callable[[], bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._next = iter(self._body).__next__
        except BaseException:
            self._end(self._recorder.broke)
            raise
        return self

    def __next__(self) -> bytes:
        if self._next is None:
            iter(self)
            assert self._next is not None
        if self._exchange.closed:
            return self._next()  # already counted
        try:
            data = self._next()
        except StopIteration:
            self._end(self._recorder.close if self._exchange.status else self._recorder.broke)
            raise
        except BaseException:
            self._end(self._recorder.broke)
            raise
        self._recorder.chunk(self._exchange, data)
        return data

    def close(self) -> None:
        """
        Close the app's body, and count the exchange; an early close means that the client has left.

        In this order: a generator's ``finally`` is where an app knows how much it has sent.
        """
        body, self._body = self._body, ()
        try:
            if hasattr(body, "close"):
                body.close()
        finally:
            self._end(self._recorder.close)

    def __del__(self) -> None:
        # A server may drop the body without reading the rest or calling close(). The exchange is counted all the same.
        # The app's body is not closed, as it would not be without meterkit.
        if not self._exchange.closed:
            with suppress(Exception):
                self._end(self._recorder.close)

    def _end(self, count: Callable[[Exchange], None]) -> None:
        if not self._exchange.closed:
            count(self._exchange)
        self._exchange.over()


class SizedBody(Body):
    """A body with a ``len()``, its number of chunks, from which servers derive a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)
