"""Read the usage in the responses that an httpx client receives, while their bytes pass."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

from meterkit.core.problems import shown
from meterkit.errors import UsageError
from meterkit.llm.token_reader import TokenReader
from meterkit.llm.usage_request import UsageChunkFilter, was_asked
from meterkit.llm.usage_sink import OpenCall, UsageSink

ENDPOINTS = (
    "/chat/completions",
    "/completions",
    "/responses",
    "/responses/compact",
    "/embeddings",
    "/images/generations",
    "/images/edits",
    "/audio/transcriptions",
    "/messages",  # Anthropic
    ":rawPredict",  # Anthropic on Vertex AI
    ":streamRawPredict",
    ":generateContent",  # Gemini
    ":streamGenerateContent",
)
"""What a model is asked at. Others tell the usage of earlier calls, too, which would count twice."""

_READ = ("application/json", "text/event-stream")


READABLE = "gzip, deflate"
"""Encodings of responses that can be read. httpx also asks for others, where it finds a library for them."""


def watch_transport(transport: Any, sink: UsageSink) -> None:
    """
    Have each response that an ``httpx.Client`` or ``AsyncClient`` returns read for *sink*, and for no other one.

    Not with its event hooks, which do not reach the clients that google-genai makes for each event loop.
    """
    send = getattr(transport.send, UNWATCHED, transport.send)
    watched: Any
    if hasattr(transport, "aclose"):

        async def watched(request: Any, **options: Any) -> Any:
            response = await send(request, **options)
            _read(response, sink)
            return response

    else:

        def watched(request: Any, **options: Any) -> Any:
            response = send(request, **options)
            _read(response, sink)
            return response

    setattr(watched, UNWATCHED, send)
    transport.send = watched
    if set(transport.headers.get("accept-encoding", "").replace(" ", "").split(",")) - {"gzip", "deflate"}:
        transport.headers["accept-encoding"] = READABLE


UNWATCHED = "unwatched"
"""Attribute of a ``send`` that has been replaced: the one before."""


def _read(response: Any, sink: UsageSink) -> None:
    """Have *response*, whose body may have been read already, tell *sink* what it has used. Never raises."""
    note = sink.note
    try:
        request, headers = response.request, response.headers
        if request.method != "POST" or not request.url.path.rstrip("/").endswith(ENDPOINTS):
            return
        if not response.is_success or not headers.get("content-type", "").startswith(_READ):
            return
        call = sink.open()
        note = call.note
        if response.is_stream_consumed:
            passing = _PassingBody(call, "", hides=False)
            passing.passed(response.content)
            passing.end()
        else:
            passing = _PassingBody(call, headers.get("content-encoding", ""), hides=was_asked(request))
            library = _library_of(response)
            is_async = isinstance(response.stream, library.AsyncByteStream)
            wrap = _async_stream(library.AsyncByteStream) if is_async else _sync_stream(library.SyncByteStream)
            response.stream = wrap(response.stream, passing)
    except Exception as error:
        note("internal_error", _failure(error))


def _failure(error: Exception) -> str:
    return f"watch() failed with {shown(error)}; the call is unchanged. Please report this"


class _PassingBody:
    """
    The body of a response, from its first byte to its last one.

    Args:
        call: Where the usage goes, once.
        encoding: The response's Content-Encoding.
        hides: Whether to hide the chunk that tells the usage, if the body is not encoded.
    """

    def __init__(self, call: OpenCall, encoding: str, *, hides: bool) -> None:
        self._call: OpenCall | None = call
        self._filter = UsageChunkFilter() if hides and encoding in ("", "identity") else None
        self._reader = TokenReader(encoding)

    def passed(self, data: bytes) -> bytes:
        """Take *data*, and return what the client is to get of it. Never raises."""
        try:
            self._reader.feed(data)
            return data if self._filter is None else self._filter.passed(data)
        except Exception as error:
            self._fail(error)
            return data

    def rest(self) -> bytes:
        """Return what is left at the end of the body."""
        return b"" if self._filter is None else self._filter.rest()

    def end(self) -> None:
        """Count what has been told. Further calls do nothing. Never raises."""
        call, self._call = self._call, None
        if call is None:
            return
        try:
            call.count(self._reader.required())
        except UsageError as error:
            call.missing(error)
        except Exception as error:
            call.note("internal_error", _failure(error))

    def _fail(self, error: Exception) -> None:
        if self._call is not None:
            self._call.note("internal_error", _failure(error))


@lru_cache
def _sync_stream(base: Any) -> Any:
    """Return a class of streams that derives from *base*, of httpx or httpx2: each accepts only its own."""

    class MeteredStream(base):  # type: ignore[misc]
        def __init__(self, inner: Any, passing: _PassingBody) -> None:
            self._inner = inner
            self._passing = passing

        def __iter__(self) -> Iterator[bytes]:
            for data in self._inner:
                yield self._passing.passed(data)
            rest = self._passing.rest()
            if rest:
                yield rest

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._passing.end()

    return MeteredStream


@lru_cache
def _async_stream(base: Any) -> Any:
    """Do what `_sync_stream` does for an ``AsyncClient``."""

    class AsyncMeteredStream(base):  # type: ignore[misc]
        def __init__(self, inner: Any, passing: _PassingBody) -> None:
            self._inner = inner
            self._passing = passing

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for data in self._inner:
                yield self._passing.passed(data)
            rest = self._passing.rest()
            if rest:
                yield rest

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._passing.end()

    return AsyncMeteredStream


def _library_of(response: Any) -> Any:
    """Return httpx or httpx2, whichever *response* is of."""
    roots = (each.__module__.partition(".")[0] for each in type(response).__mro__)
    return next(sys.modules[root] for root in roots if root in ("httpx", "httpx2"))
