"""
Words: one HTTP request and its response, and what a view may say about it.

An adapter makes an `Exchange` on the way in and hands it to `meterkit.counting.Counting` on the way out.
In between, views reach it through `identify`, `add_usage` and `skip`.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, Protocol

from meterkit.errors import UsageError
from meterkit.limits import checked_quantity
from meterkit.problems import QUIET_SECONDS

log = logging.getLogger("meterkit.exchange")


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who made an exchange.

    Attributes:
        company: The id of the company that pays, as your application knows it, or a Stripe id (``cus_...``).
        user: The id of the user within the company, kept beside the company for breakdowns.
    """

    company: str
    user: str | None = None


class Notes(Protocol):
    """Where a mistake goes that must not be raised through a request."""

    def note(self, reason: str, message: str) -> None:
        """Count *reason* and log *message*, at most once in a while per reason."""


class Exchange:
    """
    What one HTTP exchange looked like.

    Adapters derive from it and fill it in; ``identify=``, ``when=`` and meters read it.

    Attributes:
        method: In capitals, such as ``"POST"``.
        path: As the client sent it, percent-decoded, with the prefix of mounts and without the query string.
        route: The template that the framework matched, such as ``"/items/{id}"``; None where nothing matched
            or the framework publishes none. Always with a leading slash. Known only after the app has run.
        status: The status code; 0 until the response starts, 500 when the app breaks off.
        response_bytes: Body bytes handed to the server so far.
        native: The WSGI environ, the ASGI scope, or Django's HttpRequest. None once the exchange is over.
        identity: What the view said with `identify`; None where it said nothing.
        skipped: The view said `skip`.
        begun: Something of the response was about to leave, so that its status and headers are settled.
        closed: The exchange was counted, or found to need no counting.
        body: The response's body so far, kept only where a meter reads it (``value=response_json(...)``).
        body_cap: Bytes of the body that the meters need to see.
        length: Body bytes that complete the response; None where only the end of the stream tells.
        outer: The exchange in whose view this one was made, for apps that call themselves in process.
    """

    __slots__ = (
        "_notes",
        "_started",
        "_usage",
        "begun",
        "body",
        "body_cap",
        "closed",
        "identity",
        "length",
        "method",
        "native",
        "outer",
        "path",
        "response_bytes",
        "route",
        "skipped",
        "status",
    )

    def __init__(self, method: str, path: str, native: Any) -> None:
        self.method = method
        self.path = path
        self.native = native
        self.route: str | None = None
        self.status = 0
        self.response_bytes = 0
        self.identity: Identity | None = None
        self.skipped = False
        self.begun = False
        self.closed = False
        self._started = perf_counter()
        self._usage: list[tuple[str, int]] = []  # a list, because appending is safe from any thread
        self._notes: Notes | None = None
        self.body: bytearray | None = None
        self.body_cap = 0
        self.length: int | None = None
        self.outer: Exchange | None = None

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """The request's headers: read-only, names in any case."""
        raise NotImplementedError

    @property
    @abstractmethod
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers: read-only, names in any case; empty until the response starts."""
        raise NotImplementedError

    @property
    def request_bytes(self) -> int:
        """Body bytes of the request, by its Content-Length; 0 without one, or with one that cannot be."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0

    @property
    def duration(self) -> float:
        """Seconds since the request reached the middleware."""
        return perf_counter() - self._started

    @property
    def usage(self) -> dict[str, int]:
        """What the view added with `add_usage`, summed by name."""
        total: dict[str, int] = {}
        for name, quantity in self._usage:
            total[name] = total.get(name, 0) + quantity
        return total

    def known_routes(self) -> Iterable[str] | None:
        """All templates that `route` can take in this app; None where it does not tell."""
        return None

    def publish(self, notes: Notes) -> None:
        """Let `identify`, `add_usage` and `skip` reach this exchange; their mistakes go to *notes*."""
        self._notes = notes
        outer = _current.get()
        if outer is not None and not outer.closed:
            self.outer = outer
        _current.set(self)

    def retract(self) -> None:
        """
        Give the view around this one its exchange back; adapters call it when no code of the app's is left to run.

        Never a ``ContextVar.reset``: a streamed body may end in another context than it began in.
        Where there is no view around, the closed exchange stays, and tells latecomers so.
        """
        outer, self.outer = self.outer, None
        if outer is not None and not outer.closed:
            _current.set(outer)

    def reports_to(self, notes: Notes) -> bool:
        """Whether this exchange was published for *notes*, and not for another kit's."""
        return self._notes is notes

    def note(self, reason: str, message: str) -> None:
        """Count and log a mistake that must not be raised through the request."""
        if self._notes is not None:
            self._notes.note(reason, message)


_current: ContextVar[Exchange | None] = ContextVar("meterkit.exchange", default=None)
"""
The exchange being served.

A mutable carrier: what a view sets on it is seen by the middleware, also where the view runs in a copy of
the context (sync views in thread pools, ``BaseHTTPMiddleware``), from which no ContextVar comes back.
"""


def identify(company: str, user: str | None = None) -> None:
    """
    Say from within a view who pays for this exchange; the last call counts, and outranks ``identify=``.

    Call it with what you have authenticated, never with what a header merely claims.
    Works in sync and async views, in streamed bodies, and wherever the context was copied to
    (``asyncio.to_thread``, ``run_in_threadpool``).
    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        company: The id of the company, 1 to 255 printable characters.
        user: The id of the user within the company.
    """
    exchange = _open_exchange("identify()")
    if exchange is not None:
        exchange.identity = Identity(company, user)


def add_usage(name: str, quantity: int) -> None:
    """
    Add to what this exchange used, for the meters that have ``value=name``; several calls sum up.

    Never raises: a mistake is logged, and counted in ``kit.health()``.

    Args:
        name: The ``value=`` of a meter.
        quantity: 0 to 999,999,999,999,999, in the meter's own unit.
    """
    exchange = _open_exchange("add_usage()")
    if exchange is None:
        return
    if not isinstance(name, str):
        what = type(name).__name__
        exchange.note("usage_name_not_str", f"add_usage() takes the value= of a meter, a str, not {what}; not counted")
    else:
        try:
            exchange._usage.append((name, checked_quantity(quantity)))  # noqa: SLF001 - this module's own class
        except UsageError as error:
            exchange.note(error.reason, f"add_usage({name!r:.100}): {error}; it was not counted")


def skip() -> None:
    """Count nothing for this exchange: a health check, a trial, a cached answer. Never raises."""
    exchange = _open_exchange("skip()")
    if exchange is not None:
        exchange.skipped = True


def _open_exchange(call: str) -> Exchange | None:
    exchange = _current.get()
    if exchange is None:
        _warn_outside(call)
        return None
    if exchange.closed:
        exchange.note(
            "after_response",
            f"meterkit.{call} was called after the response was complete and did nothing; call it before the "
            "last byte, or use kit.record() in background tasks",
        )
        return None
    return exchange


_warned_at = float("-inf")


def _warn_outside(call: str) -> None:
    global _warned_at  # noqa: PLW0603 - there is no kit here to keep it; two threads may at worst both warn
    now = monotonic()
    if now - _warned_at >= QUIET_SECONDS:
        _warned_at = now
        with suppress(Exception):  # a logging handler is the application's code
            log.warning(
                "meterkit.%s was called outside an exchange and did nothing: is the middleware installed, and the "
                "context copied to this thread (contextvars.copy_context().run)? Outside HTTP, use kit.record().",
                call,
            )
