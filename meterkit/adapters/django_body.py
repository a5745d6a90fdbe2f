"""The streamed body of a Django response, which is counted when it ends."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterator
from typing import Any

from meterkit.metering.exchange import Exchange
from meterkit.metering.recorder import Recorder


class DjangoBody:
    """
    A streamed body: an iterator, so that no chunk is fetched before it is needed.

    Django calls its `close` with the response's other closers, also after a client has disconnected.
    """

    __slots__ = ("_exchange", "_inner", "_recorder")

    def __init__(self, inner: Any, exchange: Exchange, recorder: Recorder) -> None:
        self._inner = inner
        self._exchange = exchange
        self._recorder = recorder

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            data: bytes = next(self._inner)
        except StopIteration:
            self.close()
            raise
        except BaseException:
            self._broke()
            raise
        self._recorder.chunk(self._exchange, data)
        return data

    def close(self) -> None:
        """Count the exchange: the body is complete, or the client has disconnected."""
        self._recorder.close(self._exchange)
        self._exchange.retract()

    def _broke(self) -> None:
        self._recorder.broke(self._exchange)
        self._exchange.retract()

    def __del__(self) -> None:
        # Django's ASGI handler does not close a response if the server cannot send it.
        self._recorder.close(self._exchange)


class AsyncDjangoBody(DjangoBody):
    """A streamed body that is an async iterator."""

    __slots__ = ()

    __iter__ = None  # type: ignore[assignment]  # so that Django recognises it as async

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            data: bytes = await anext(self._inner)
        except StopAsyncIteration:
            self.close()
            raise
        except (CancelledError, GeneratorExit):
            self.close()
            raise
        except BaseException:
            self._broke()
            raise
        self._recorder.chunk(self._exchange, data)
        return data
