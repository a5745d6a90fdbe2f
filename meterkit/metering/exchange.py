"""
One HTTP request and its response, as meters see it.

An adapter makes an `Exchange` on the way in and hands it to `meterkit.metering.recorder.Recorder` on the way out.
In between, views reach it through `identify`, `add_usage` and `skip`.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol

from meterkit.core.problems import Problems
from meterkit.errors import UsageError

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


NO_HEADERS: Mapping[str, str] = MappingProxyType({})

UNREAD = object()
"""Stands for a route that nobody has asked for yet."""


class ExchangeRecorder(Protocol):
    """What an exchange needs of the recorder that counts it."""

    is_timed: bool
    problems: Problems


class ExchangeOwner(Protocol):
    """The middleware that made an exchange, as the exchange sees it."""

    @property
    def recorder(self) -> ExchangeRecorder:
        """The recorder that counts the exchange."""


class Exchange:
    """
    What one HTTP exchange looked like.

    Adapters derive from it and fill it in; ``identify=``, ``when=`` and meters read it.

    Attributes:
        method: In capitals, such as ``"POST"``.
        path: As the client sent it, percent-decoded, with the prefix of mounts and without the query string.
        headers: The request's: read-only, names in any case; none once the exchange is over.
        status: The status code; 0 until the response starts, 500 when the app breaks off.
        response_bytes: Body bytes handed to the server so far.
        owner: The middleware that made it, whose ``counting`` counts it.
        native: The WSGI environ, the ASGI scope, or Django's HttpRequest. None once the exchange is over.
        identity: What the view said with `identify`; None where it said nothing.
        identified: The company, with the user if there is one, where ``identify=`` was asked on the way in, and knew.
        warning: Why this exchange would not pass, where nobody wants to be stopped; for a header of the response.
        skipped: The view said `skip`.
        begun: Something of the response was about to leave, so that its status and headers are settled.
        closed: The exchange was counted, or found to need no counting.
        body: The response's body so far, kept only where a meter reads it (``value=response_json(...)``).
        body_cap: Bytes of the body that the meters need to see.
        length: Body bytes that complete the response; None where only the end of the stream tells.
        outer: The exchange in whose view this one was made, for apps that call themselves in process.
        said: What the view added: a name, and a quantity or a value.
        touched: The view said something.
    """

    __slots__ = (
        "__dict__",
        "_response_headers",
        "_route",
        "_started",
        "begun",
        "closed",
        "headers",
        "identified",
        "method",
        "native",
        "outer",
        "owner",
        "path",
        "status",
        "touched",
    )

    # What only some exchanges have. Every request pays for a slot that is filled, and none for these.
    identity: Identity | None = None
    skipped: bool = False
    warning: str | None = None
    said: Sequence[tuple[str, int | str]] = ()
    body: bytearray | None = None
    body_cap: int = 0
    length: int | None = None
    response_bytes: int = 0

    def begin(self, method: str, path: str, native: Any, headers: Mapping[str, str], owner: ExchangeOwner) -> None:
        """
        Fill in what is known on the way in, and let `identify`, `add_usage` and `skip` reach it.

        No ``__init__``, which Python 3.11 calls in a roundabout way.
        """
        self.method = method
        self.path = path
        self.native = native
        self.headers = headers
        self.owner = owner
        self.status = 0
        self.begun = self.closed = self.touched = False
        self.identified: str | tuple[str, str] | None = None
        self._route: Any = None
        self._response_headers: Any = ()  # as the adapter has them
        if owner.recorder.is_timed:
            self._started = perf_counter()
        outer = current.set(self).old_value
        self.outer = None if outer is _NEVER_SET or outer.closed else outer

    def end(self) -> None:
        """Let go of the request: what carries this may outlive it, and what hangs on this must not."""
        self.native, self.headers, self.body = None, NO_HEADERS, None

    @property
    def route(self) -> str | None:
        """
        The template that the framework matched, such as ``"/items/{id}"``. Known only after the app has run.

        None where nothing matched or the framework publishes none. Always with a leading slash.
        """
        if self._route is UNREAD:
            self._route = None
            try:
                self._route = self._read_route()
            except Exception as error:
                self.owner.recorder.problems.internal(error)
        route: str | None = self._route
        return route

    @route.setter
    def route(self, route: str | None) -> None:
        self._route = route

    def find_route(self) -> None:
        """The framework has matched, if it ever will."""
        self._route = UNREAD

    def _read_route(self) -> str | None:
        """Adapters that leave `UNREAD` look it up here: few rules ask for it, and it may take a while."""
        return None

    @property
    @abstractmethod
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers: read-only, names in any case; empty until the response starts."""
        raise NotImplementedError

    @property
    def declared_bytes(self) -> int | None:
        """How long the response's body will be, by its Content-Length; None without one, or with one that cannot be."""
        length = self.response_headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    @property
    def request_bytes(self) -> int:
        """Body bytes of the request, by its Content-Length; 0 without one, or with one that cannot be."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0

    @property
    def duration(self) -> float:
        """
        Seconds since the request reached the middleware.

        Raises:
            UsageError: No meter of the kit can ask for it, so the time was not taken.
        """
        try:
            return perf_counter() - self._started
        except AttributeError:
            raise UsageError(
                "durations are taken for meters with when=, value='duration_ms', or a function in unique() or "
                "maximum(), and this kit has none: take it yourself, or give one of them a when=",
                reason="duration_untaken",
            ) from None

    @property
    def usage(self) -> dict[str, int]:
        """What the view added with `add_usage`, summed by name."""
        total: dict[str, int] = {}
        for name, quantity in self.said:
            if isinstance(quantity, int):
                total[name] = total.get(name, 0) + quantity
        return total

    @property
    def values(self) -> dict[str, str]:
        """What the view said with `add_value`, by name; of several, the last."""
        return {name: value for name, value in self.said if isinstance(value, str)}

    def highest(self, name: str) -> int | None:
        """The highest that the view added under *name* with `add_usage`; None if it added nothing."""
        return max((said for key, said in self.said if key == name and isinstance(said, int)), default=None)

    def say(self, name: str, said: int | str) -> None:
        """Add what the view says: safe from any thread, as ``setdefault`` and ``append`` are."""
        self.touched = True
        self.__dict__.setdefault("said", []).append((name, said))

    def known_routes(self) -> Iterable[str] | None:
        """All templates that `route` can take in this app; None where it does not tell."""
        return None

    def retract(self) -> None:
        """
        Give the view around this one its exchange back; adapters call it when no code of the app's is left to run.

        Never a ``ContextVar.reset``: a streamed body may end in another context than it began in.
        Where there is no view around, the closed exchange stays, and tells latecomers so.
        """
        outer, self.outer = self.outer, None
        if outer is not None and not outer.closed:
            current.set(outer)

    def note(self, reason: str, message: str) -> None:
        """Count and log a mistake that must not be raised through the request."""
        self.owner.recorder.problems.note(reason, message)


current: ContextVar[Exchange | None] = ContextVar("meterkit.exchange", default=None)
"""
The exchange being served.

A mutable carrier: what a view sets on it is seen by the middleware, also where the view runs in a copy of
the context (sync views in thread pools, ``BaseHTTPMiddleware``), from which no ContextVar comes back.
"""

_NEVER_SET = Token.MISSING
