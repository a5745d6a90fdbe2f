"""
One HTTP request and its response, as meters see it.

An adapter creates an `Exchange` on the way in and hands it to `meterkit.metering.recorder.Recorder` on the way out.
In between, views reach it through `identify`, `add_usage` and `skip`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from threading import RLock
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from meterkit.core import threads
from meterkit.core.problems import Problems
from meterkit.core.threads import run_async
from meterkit.core.usage_key import Subject
from meterkit.core.validation import SubjectId, content_length
from meterkit.errors import UsageError
from meterkit.metering.dimensions.quantities import Total, totalled
from meterkit.metering.paths import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """
    The company and the user that an exchange belongs to.

    Attributes:
        company: Id of the company that pays; a Stripe customer id (``cus_...``) only with ``customer_ids=True``. An int
            or a UUID, such as a primary key, stands for its text.
        user: Id of the user within the company, likewise, kept for breakdowns; None if there is none.
    """

    company: SubjectId
    user: SubjectId | None = None


NO_HEADERS: Mapping[str, str] = MappingProxyType({})

UNREAD = object()
"""Marks a route that has not been looked up yet."""

MAX_SAID = 1000
"""Entries that a view's calls may add up to in memory before they are totalled."""


class ExchangeHold(Protocol):
    """The part of a hold that the exchange in which it was made uses."""

    @property
    def kept(self) -> Mapping[str, int]:
        """Units by meter that the exchange has still to count for this hold, after its block."""

    def cover(self, company: str, counted: dict[str, int]) -> None:
        """Take off *counted*, quantities by meter that were counted for *company*, what the hold covers."""

    def exchange_ended(self, company: str, counted: dict[str, int]) -> None:
        """Note that the exchange is over, and has *counted* this for *company*."""


class ExchangeRecorder(Protocol):
    """The part of `Recorder` that an exchange uses."""

    is_timed: bool
    problems: Problems

    def add_late(self, exchange: Exchange, name: str, said: int | str, *, subject: Subject | None) -> bool:
        """Count what a view adds after *exchange* was counted; return whether it is known who pays for it."""

    def check_subject(self, identity: Identity) -> Subject:
        """Return *identity* as a subject; `NOBODY`, and note a problem, if it is not valid."""

    def counts_already(self, mark: Any) -> bool:
        """Return whether *mark* is an exchange that a middleware further out counts."""


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
        verb: HTTP method in the case in which it was sent; where the app replaces it (``X-HTTP-Method-Override``), the
            new one, from the start of the response.
        path: Path as the client sent it, percent-decoded, with the prefix of mounts, without the query string.
        target: `path`; if there is a prefix, the prefix and the rest, which is what the app routes.
        headers: Request headers: read-only, case-insensitive names; empty once the exchange is over.
        status: Status code of the response; 0 until the response starts, 500 if the app aborts it, 499 if the client
            leaves before it starts.
        response_bytes: Body bytes handed to the server so far.
        is_length_unknown: Whether the server sends a file of which nobody has said the length.
        read_bytes: Body bytes of the request that the app has read so far; None if no meter can ask for them, or if
            they cannot be counted.
        owner: The middleware that created the exchange; its ``recorder`` counts it.
        native: The WSGI environ, the ASGI scope, or Django's HttpRequest; None once the exchange is over.
        identity: Identity that the view set with `identify`; None if it did not.
        identified: Company, or company and user, that ``identify=`` returned before the app ran; None if not known.
        answer: What an async ``identify=`` returned, and what it raised; None if it was not asked.
        warning: Why the exchange would be blocked if blocking were on, for a response header; None if it would not.
        added_headers: Names and values that governance adds to the response's headers.
        blocked: Why governance has blocked it, a `Block`; None if it has not.
        passed_unidentified: Whether governance had to let it pass because its company was not known.
        skipped: Whether the view called `skip`.
        may_defer: Whether the adapter can call ``identify=`` in a thread and count again; see `IdentifyInThread`.
        begun: Whether part of the response has been sent, so that its status and headers are final.
        closed: Whether the exchange has been counted, or found not to need counting.
        body: Response body so far, kept only if a meter reads it (``value=response_json(...)``); otherwise None.
        body_cap: Longest response body that the meters read, bytes.
        readers: What reads the response body while its bytes pass, by the class of the meters' values; None if nothing.
        length: Length of the complete response body, bytes; None if only the end of the stream shows it.
        inner_route: Function that returns the route on the other side of a bridge between ASGI and WSGI; None if the
            request crossed none.
        outer: The exchange whose view made this one, in apps that call themselves in process; otherwise None.
        said: Names that the view added, each with its quantity or value.
        touched: Whether the view called any of meterkit's functions.
        settled: Who pays for usage that arrives after the exchange was counted, a `Settled`; None if that is not known.
        counts_at_once: Whether what the view adds is counted at once, as for a WebSocket, which may stay open for days.
        is_asgi: Whether the app runs in an event loop, where a finaliser may run in another exchange's context.
        holds: Holds that were made for it, the innermost first.
        counted: For its holds: the company, and the quantities by meter that were counted for it.
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
        "native",
        "outer",
        "owner",
        "path",
        "status",
        "target",
        "touched",
        "verb",
    )

    # Only some exchanges have these: class attributes cost a request nothing, and a slot that is filled does.
    identity: Identity | None = None
    answer: tuple[Any, BaseException | None] | None = None
    passed_unidentified: bool = False
    skipped: bool = False
    may_defer: bool = False
    warning: str | None = None
    blocked: Any = None
    added_headers: tuple[tuple[str, str], ...] = ()
    said: list[tuple[str, int | str]] | tuple[()] = ()
    settled: Any = None
    is_asgi: bool = False
    holds: tuple[ExchangeHold, ...] = ()
    counted: tuple[str, dict[str, int]] | None = None
    counts_at_once: bool = False
    body: bytearray | None = None
    body_cap: int = 0
    readers: dict[Any, Any] | None = None
    length: int | None = None
    response_bytes: int = 0
    is_length_unknown: bool = False
    read_bytes: int | None = None
    inner_route: Callable[[], str | None] | None = None

    def begin(self, method: str, path: str, native: Any, headers: Mapping[str, str], owner: ExchangeOwner) -> None:
        """
        Fill in what is known on the way in, and make this the exchange that `identify`, `add_usage` and `skip` change.

        Not an ``__init__``, which is slow to call in Python 3.11.
        """
        self.verb = method
        self.path = path
        self.target: Target = path  # adapters replace it where there is a prefix
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
        if self.holds and not self.may_defer:
            self.end_holds()

    def end_holds(self) -> None:
        """Tell the holds what was counted; adapters call this if they did not have to count again in a thread."""
        company, counted = self.counted or ("", {})
        for hold in self.holds:
            hold.exchange_ended(company, counted)

    @property
    def method(self) -> str:
        """HTTP method in upper case, such as ``"POST"``. The hot path reads `verb`: hardly any client sends another."""
        return self.verb.upper()

    def override(self, method: str) -> None:
        """Replace the method by the one that the app has set in the request."""
        if method != "GET" or self.verb != "HEAD":  # a HEAD that is served as a GET has no body all the same
            self.verb = method

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
                if self._route is None and self.inner_route is not None:
                    self._route = self.inner_route()
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

    def keep_route(self) -> None:
        """Look the route up now, and drop the request, for an exchange that another one counts."""
        _ = self.route
        self.end()

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
        return content_length(self.response_headers.get("content-length", ""))

    @property
    def request_bytes(self) -> int:
        """
        Bytes of the request body that the app has read so far.

        They are counted only if a meter can ask for them: with ``value="request_bytes"``, ``when=``, or a function in
        ``by=``, `unique` or `maximum`. Otherwise, and until the response starts, this is the Content-Length, which is
        only the client's word; 0 if it is missing or invalid.
        """
        if self.read_bytes is not None and self.status:
            return self.read_bytes
        return content_length(self.headers.get("content-length", "")) or 0

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
                "durations are measured only if a meter has when=, value='duration_ms', or a function in by=, unique() "
                "or maximum(), and none of this kit's has: measure it yourself, or give a meter a when=",
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
        said = [each for key, each in self.said if key == name and isinstance(each, int)]
        return max((each.highest if isinstance(each, Total) else each for each in said), default=None)

    def touch(self) -> RLock:
        """
        Mark the exchange as one that its view has to do with, and return the lock that guards what the view adds.

        The mark comes first: whoever closes the exchange after that looks at the lock.
        """
        self.touched = True
        lock: RLock = self.__dict__.setdefault("lock", threads.rlock())
        return lock

    def say(self, name: str, said: int | str) -> bool:
        """Add a quantity or a value from the view, in any thread; return False if that must be counted by itself."""
        with self.touch():
            # Closed, but not settled: whoever counts it waits for the lock, and will find this.
            if self.settled is not None or self.counts_at_once:
                return False
            entries: list[tuple[str, int | str]] = self.__dict__.setdefault("said", [])
            entries.append((name, said))
            if len(entries) >= MAX_SAID:
                self._total()
            return True

    def _total(self) -> None:
        """Replace what was said by its totals: a stream may add a million times."""
        entries, self.said = self.said, []
        totals = totalled(entries)
        # A finaliser may have added something meanwhile, in this thread.
        self.said[:0] = totals

    def known_routes(self) -> Iterable[str] | None:
        """Return all templates that `route` can have in this app; None if the app does not publish them."""
        return None

    def complete(self, function: Callable[[Exchange], Awaitable[T]]) -> T:
        """Call an async *function* with this exchange, where no event loop runs, and wait for what it returns."""
        return run_async(lambda: function(self))

    def retract(self) -> None:
        """
        Make the outer exchange current again; adapters call this when none of the app's code is left to run.

        Not with ``ContextVar.reset``: a streamed body may end in a different context from the one it began in.
        If there is no outer exchange, the closed one stays current, so that late calls are recognised as late.
        """
        outer, self.outer = self.outer, None
        if outer is not None and not outer.closed:
            current.set(outer)

    def note(self, reason: str, message: str, *, units: int = 0) -> None:
        """Count and log a mistake that must not be raised into the request; *units* were not counted for it."""
        self.owner.recorder.problems.note(reason, message, units=units)


current: ContextVar[Exchange | None] = ContextVar("meterkit.exchange", default=None)
"""
The exchange being served.

It is mutable, so the middleware sees what a view sets on it even if the view runs in a copy of the context
(sync views in thread pools, ``BaseHTTPMiddleware``), whose changes to a ContextVar are lost.
"""

_NEVER_SET = Token.MISSING
