"""Count a WSGI response body just before its last chunk leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from meterkit.adapters.wsgi_exchange import WSGIExchange
from meterkit.metering.exchange import Exchange
from meterkit.metering.recorder import Recorder


def only_piece(body: Any) -> bytes | None:
    """
    All that will come out of *body*, if that is a response of werkzeug's, and so of Flask's, and is there already.

    They make an iterator of every response. To wrap another around it, just to see the one piece of most come by, took
    a third of what metering took. So this looks what the iterator would close: what it iterates over, and the response
    whose that is. At a stranger's it looks no further.
    """
    if type(body).__name__ != "ClosingIterator":
        return None
    try:
        iterated, response = body._callbacks  # noqa: SLF001 - in no other way does it tell
        pieces = response.__self__.response if iterated.__self__.__name__ == "_iter_encoded" else None
    except (AttributeError, ValueError):
        return None
    return pieces[0] if type(pieces) is list and len(pieces) == 1 and type(pieces[0]) is bytes else None


def counted(body: Any, exchange: WSGIExchange, recorder: Recorder, *, is_file: bool) -> Iterable[bytes]:
    """*body*, and it is counted before it leaves."""
    if type(body) is list or type(body) is tuple:
        if not exchange.status:
            recorder.broke(exchange)  # the app forgot start_response, which the server will answer with a 500
        for data in body[:-1]:
            recorder.chunk(exchange, data)
        recorder.chunk(exchange, body[-1] if body else b"", last=True)
    elif is_file:
        recorder.sendfile(exchange)
    else:
        if exchange.status and exchange.is_bodiless:
            recorder.chunk(exchange, b"")
        if not exchange.closed:
            return (SizedBody if hasattr(body, "__len__") else Body)(body, exchange, recorder)
    exchange.over()
    return body  # type: ignore[no-any-return]


class Body:
    """
    A response's body that is made while it is sent: an iterator, so that nothing is fetched before it is asked for.

    Never a generator: closing one that was not started would skip the app's own ``close()``.
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
            return self._next()  # there is nothing to learn any more
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
        """The server is done; if that is early, the client is gone, and the exchange counts as what it was."""
        self._end(self._recorder.close)
        body, self._body = self._body, ()
        if hasattr(body, "close"):
            body.close()

    def __del__(self) -> None:
        # A server that has sent what it wanted to send may forget the rest, and that it should call close(). It is
        # counted all the same; the app's body is not closed, which nobody would do without us either.
        if not self._exchange.closed:
            with suppress(Exception):
                self._end(self._recorder.close)

    def _end(self, count: Callable[[Exchange], None]) -> None:
        if not self._exchange.closed:
            count(self._exchange)
        self._exchange.over()


class SizedBody(Body):
    """A body that tells how many chunks it has, from which servers derive a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)
