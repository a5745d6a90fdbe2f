"""
Request bodies of WSGI: read one, or count what the app reads.

A Content-Length may be missing, or not be the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from meterkit.core.validation import content_length
from meterkit.errors import WebhookError
from meterkit.metering.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def read_input(environ: WSGIEnvironment, most: int) -> bytes:
    """
    Return the body of a request, or its first *most* bytes.

    A proxy that does not buffer sends the body in chunks, without a Content-Length. PEP 3333 forbids to read it then,
    because the input may not end; servers that end it say so in ``wsgi.input_terminated``.

    Args:
        environ: WSGI environ.
        most: Most bytes to read.

    Raises:
        WebhookError: The body has no length and its end is not marked (status 411), or it broke off (400).
    """
    length = content_length(environ.get("CONTENT_LENGTH") or "")
    if not environ.get("wsgi.input_terminated"):
        if length is None and environ.get("HTTP_TRANSFER_ENCODING"):
            raise WebhookError(
                "it came in chunks, which this WSGI server does not decode; let the proxy in front of it buffer "
                "requests (nginx: proxy_request_buffering on), or use a server that sets wsgi.input_terminated, such "
                "as gunicorn",
                status=411,
            )
        most = min(most, length or 0)
    body = bytearray()
    try:
        while len(body) < most:
            part = environ["wsgi.input"].read(most - len(body))
            if not part:
                break
            body += part
    except Exception as error:  # servers raise errors of their own for chunks that are wrong or missing
        raise WebhookError(f"the body broke off: {type(error).__name__}", status=400) from error
    return bytes(body)


class CountedInput:
    """
    A ``wsgi.input``, or the stream of a Django request, that adds what is read to the exchange's ``read_bytes``.

    All else is passed on, and the app finds only those methods that the original has.

    Args:
        inner: The original.
        exchange: The exchange whose request body it is.
        most: Bytes that the body has at most; None if unknown. An app that seeks and reads again counts only once.
    """

    __slots__ = ("_exchange", "_inner", "_most")

    def __init__(self, inner: Any, exchange: Exchange, most: int | None) -> None:
        self._inner = inner
        self._exchange = exchange
        self._most = most
        exchange.read_bytes = 0

    def read(self, *size: Any) -> Any:
        """Read as the original does."""
        return self._counted(self._inner.read(*size))

    def readline(self, *size: Any) -> Any:
        """Read as the original does."""
        return self._counted(self._inner.readline(*size))

    def __iter__(self) -> Iterator[Any]:
        return map(self._counted, self._inner)

    def __next__(self) -> Any:
        return self._counted(next(self._inner))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counting(found) if name in _READS else found

    def _counting(self, reads: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: self._counted(reads(*args, **named))

    def _counted(self, read: Any) -> Any:
        if isinstance(read, int):  # by readinto()
            size = read
        elif isinstance(read, list):  # by readlines()
            size = sum(map(len, read))
        else:
            size = len(read or b"")
        total = (self._exchange.read_bytes or 0) + size
        self._exchange.read_bytes = total if self._most is None else min(total, self._most)
        return read


_READS = frozenset(["read1", "readall", "readinto", "readinto1", "readlines"])


def longest_body(environ: Any) -> int | None:
    """Return the bytes that the request body of *environ* has at most; None if it is chunked, or its length unknown."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    return content_length(environ.get("CONTENT_LENGTH") or "")
