"""
One HTTP request and its response, as meters see it.

An adapter creates an `Exchange` on the way in and hands it to `meterkit.metering.recorder.Recorder` on the way out.
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
    The company and the user that an exchange belongs to.

    Attributes:
        company: Id of the company that pays; a Stripe customer id (``cus_...``) only with ``customer_ids=True``.
        user: Id of the user within the company, kept for breakdowns; None if there is none.
    """

    company: str
    user: str | None = None


NO_HEADERS: Mapping[str, str] = MappingProxyType({})

UNREAD = object()
"""Marks a route that has not been looked up yet."""


class ExchangeRecorder(Protocol):
    """The part of `Recorder` that an exchange uses."""

    is_timed: bool
    problems: Problems


class ExchangeOwner(Protocol):
    """The part of the middleware that its exchanges use."""

    @property
    def recorder(self) -> ExchangeRecorder:
        """The recorder that counts the exchange."""


class Exchange:
    """
    One HTTP request and its response.

    Adapters subclass it and fill it in; ``identify=``, ``when=`` and meters read it.

    Attributes:
        method: HTTP method in upper case, such as ``"POST"``.
        path: Path as the client sent it, percent-decoded, with the prefix of mounts, without the query string.
        headers: Request headers: read-only, case-insensitive names; empty once the exchange is over.
        status: Status code of the response; 0 until the response starts, 500 if the app aborts it.
        response_bytes: Body bytes handed to the server so far.
        owner: The middleware that created the exchange; its ``recorder`` counts it.
        native: The WSGI environ, the ASGI scope, or Django's HttpRequest; None once the exchange is over.
        identity: Identity that the view set with `identify`; None if it did not.
        identified: Company, or company and user, that ``identify=`` returned before the app ran; None if not known.
        warning: Why the exchange would be blocked if blocking were on, for a response header; None if it would not.
        passed_unidentified: Whether governance had to let it pass because its company was not known.
        skipped: Whether the view called `skip`.
        begun: Whether part of the response has been sent, so that its status and headers are final.
        closed: Whether the exchange has been counted, or found not to need counting.
        body: Response body so far, kept only if a meter reads it (``value=response_json(...)``); otherwise None.
        body_cap: Longest response body that the meters read, bytes.
        length: Length of the complete response body, bytes; None if only the end of the stream shows it.
        outer: The exchange whose view made this one, in apps that call themselves in process; otherwise None.
        said: Names that the view added, each with its quantity or value.
        touched: Whether the view called any of meterkit's functions.
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

    # Only some exchanges have these: class attributes cost a request nothing, and a slot that is filled does.
    identity: Identity | None = None
    passed_unidentified: bool = False
    skipped: bool = False
    warning: str | None = None
    said: Sequence[tuple[str, int | str]] = ()
    body: bytearray | None = None
    body_cap: int = 0
    length: int | None = None
    response_bytes: int = 0

    def begin(self, method: str, path: str, native: Any, headers: Mapping[str, str], owner: ExchangeOwner) -> None:
        """
        Fill in what is known on the way in, and make this the exchange that `identify`, `add_usage` and `skip` change.

        Not an ``__init__``, which is slow to call in Python 3.11.
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
        self._response_headers: Any = ()  # in the adapter's own format
        if owner.recorder.is_timed:
            self._started = perf_counter()
        outer = current.set(self).old_value
        self.outer = None if outer is _NEVER_SET or outer.closed else outer

    def end(self) -> None:
        """Drop the request: whatever holds this exchange may outlive the request, which must not stay in memory."""
        self.native, self.headers, self.body = None, NO_HEADERS, None

    @property
    def route(self) -> str | None:
        """
        Route template that the framework matched, such as ``"/items/{id}"``. Known only after the app has run.

        Always with a leading slash. None if nothing matched, or if the framework publishes no template.
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
        """Allow `route` to be looked up: by now the framework has matched, if it ever will."""
        self._route = UNREAD

    def _read_route(self) -> str | None:
        """Look the route up, in adapters that set `UNREAD`: few meters need it, and the look-up takes time."""
        return None

    @property
    @abstractmethod
    def response_headers(self) -> Mapping[str, str]:
        """Response headers: read-only, case-insensitive names; empty until the response starts."""
        raise NotImplementedError

    @property
    def declared_bytes(self) -> int | None:
        """Length of the response body by its Content-Length, bytes; None if that is missing or invalid."""
        length = self.response_headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() else None

    @property
    def request_bytes(self) -> int:
        """Length of the request body by its Content-Length, bytes; 0 if that is missing or invalid."""
        length = self.headers.get("content-length", "")
        return int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 0

    @property
    def duration(self) -> float:
        """
        Seconds since the request reached the middleware.

        Raises:
            UsageError: No meter of the kit can need the duration, so it was not measured.
        """
        try:
            return perf_counter() - self._started
        except AttributeError:
            raise UsageError(
                "durations are measured only if a meter has when=, value='duration_ms', or a function in unique() or "
                "maximum(), and none of this kit's has: measure it yourself, or give a meter a when=",
                reason="duration_untaken",
            ) from None

    @property
    def usage(self) -> dict[str, int]:
        """Quantities that the view added with `add_usage`, totalled by name."""
        total: dict[str, int] = {}
        for name, quantity in self.said:
            if isinstance(quantity, int):
                total[name] = total.get(name, 0) + quantity
        return total

    @property
    def values(self) -> dict[str, str]:
        """Values that the view set with `add_value`, by name; the last one for each name."""
        return {name: value for name, value in self.said if isinstance(value, str)}

    def highest(self, name: str) -> int | None:
        """Return the highest quantity that the view added under *name* with `add_usage`; None if it added none."""
        return max((said for key, said in self.said if key == name and isinstance(said, int)), default=None)

    def say(self, name: str, said: int | str) -> None:
        """Add a quantity or a value from the view. Safe from any thread, as ``setdefault`` and ``append`` are."""
        self.touched = True
        self.__dict__.setdefault("said", []).append((name, said))

    def known_routes(self) -> Iterable[str] | None:
        """Return all templates that `route` can have in this app; None if the app does not publish them."""
        return None

    def retract(self) -> None:
        """
        Make the outer exchange current again; adapters call this when none of the app's code is left to run.

        Not with ``ContextVar.reset``: a streamed body may end in a different context from the one it began in.
        If there is no outer exchange, the closed one stays current, so that late calls are recognised as late.
        """
        outer, self.outer = self.outer, None
        if outer is not None and not outer.closed:
            current.set(outer)

    def note(self, reason: str, message: str) -> None:
        """Count and log a mistake that must not be raised into the request."""
        self.owner.recorder.problems.note(reason, message)


current: ContextVar[Exchange | None] = ContextVar("meterkit.exchange", default=None)
"""
The exchange being served.

It is mutable, so the middleware sees what a view sets on it even if the view runs in a copy of the context
(sync views in thread pools, ``BaseHTTPMiddleware``), whose changes to a ContextVar are lost.
"""

_NEVER_SET = Token.MISSING
