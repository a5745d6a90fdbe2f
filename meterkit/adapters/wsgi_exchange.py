"""An exchange of a WSGI app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from meterkit.adapters.wsgi_headers import HeaderPairs, decoded
from meterkit.core.responses import Response
from meterkit.core.validation import content_length
from meterkit.metering.exchange import UNREAD, Exchange, Identity
from meterkit.metering.recorder import Recorder


class WSGIMiddleware(Protocol):
    """The part of the middleware that its exchanges use."""

    app: Any
    recorder: Recorder

    def decide_again(self, exchange: WSGIExchange, who: Identity | None) -> Response | None:
        """Return a response to send instead of the view's; None if the request is allowed."""

    def refusal_of(self, error: BaseException, exchange: WSGIExchange) -> Response | None:
        """Return the response to a request in which too little was left to hold, as *error* says; otherwise None."""


class WSGIExchange(Exchange):
    """
    An exchange of a WSGI app; its ``native`` is the environ.

    ``route`` is the rule that Flask or Bottle matched, with the prefix of mounts inside the middleware; other apps
    publish none.

    The exchange itself is the ``write`` that `start_response` returns: hardly any app calls that, and a bound method
    would have to be created for each request.

    Attributes:
        server_starts: The server's ``start_response``.
        server_writes: The ``write`` that the server's ``start_response`` returned.
        matched: Werkzeug's request object, in which Flask stores the rule that it matched; or Bottle's route.
    """

    __slots__ = ("matched", "server_starts", "server_writes")

    owner: WSGIMiddleware
    server_starts: Any
    server_writes: Any
    matched: Any

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Response headers: read-only, case-insensitive names."""
        return HeaderPairs(self._response_headers)

    @property
    def declared_bytes(self) -> int | None:
        """Content-Length of the response, bytes; None if missing or invalid. Without `HeaderPairs`, which is slower."""
        for name, value in self._response_headers:
            if name == "Content-Length" or (len(name) == 14 and name.lower() == "content-length"):
                return content_length(value)
        return None

    @property
    def is_bodiless(self) -> bool:
        """Whether the server sends no body."""
        headers = self._response_headers
        return self.verb == "HEAD" or self.status in (204, 304) or ("Content-Length", "0") in headers

    def known_routes(self) -> Iterable[str] | None:
        """Return the rules of a Flask or Bottle app, and of what a ``DispatcherMiddleware`` mounts; otherwise None."""
        return _routes_of(self.owner.app, "")

    def start_response(
        self, status: str, response_headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Stand in for the server's ``start_response``. A method, which costs less than a closure."""
        starts = self.server_starts
        if exc_info is None:
            self.server_writes = starts(status, response_headers)
        else:
            self.server_writes = starts(status, response_headers, exc_info)
            self.begun = False  # an app may start again as long as nothing has been sent
        if not self.closed:
            try:
                self.status = _CODES[status]
                self._response_headers = response_headers
                if self.native["REQUEST_METHOD"] is not self.verb:
                    self.override(self.native["REQUEST_METHOD"])
                if "werkzeug.request" in self.native:  # Flask removes it when its app returns
                    self.matched = self.native["werkzeug.request"]
                    self._route = UNREAD
                elif "bottle.route" in self.native:
                    self.matched = self.native["bottle.route"]
                    self._route = UNREAD
            except Exception as error:
                self.owner.recorder.problems.internal(error)
        return self

    def find_matched(self) -> None:
        """Allow the route to be looked up before the response starts: Flask has matched, and its view runs."""
        self.matched = self.native.get("werkzeug.request")
        self.find_route()

    def publishing_route(self, start_response: Any) -> Any:
        """Return a ``start_response`` that only notes what Flask matched, for an exchange that another one counts."""
        self.matched = None

        def started(*args: Any) -> Any:
            if self.native is not None:
                self.matched = self.native.get("werkzeug.request")
                self.keep_route()  # Flask removes it when its app returns
            return start_response(*args)

        return started

    def _read_route(self) -> str | None:
        matched = getattr(self, "matched", None)
        rule = getattr(getattr(matched, "url_rule", matched), "rule", None)
        if rule is None or self.native is None:
            return None
        outside, came_in = ("", self.target) if isinstance(self.target, str) else self.target
        name, rest = decoded(self.native.get("SCRIPT_NAME", "")), decoded(self.native.get("PATH_INFO", ""))
        route: str = _mount(name.removeprefix(outside), came_in, rest) + rule
        return route

    def over(self) -> None:
        """
        Clean up when none of the app's code is left to run.

        The server's objects may refer to the environ, which refers to this exchange: without this, only the garbage
        collector could free them.
        """
        self.server_starts = self.server_writes = self.matched = None
        if self.outer is not None:
            self.retract()

    def __call__(self, data: bytes) -> object:
        """Send *data* at once, as WSGI's legacy ``write``."""
        self.owner.recorder.chunk(self, data)
        self.begun = True
        return self.server_writes(data)


class _Codes(dict[str, int]):
    """Status codes by status line: a look-up takes a quarter of the time of parsing."""

    def __missing__(self, status: str) -> int:
        code = int(status[:3])
        if len(self) < MOST_CODES:
            self[status] = code
        return code


MOST_CODES = 1000
"""Status lines in the cache, which must be bounded: apps may make up their own."""

_CODES = _Codes()


def _mount(added: str, came_in: str, rest: str) -> str:
    """
    Return the prefix of the mounts through which a request went, inside the middleware.

    A mount moves the beginning of the path to ``SCRIPT_NAME``. Werkzeug's ProxyFix adds to ``SCRIPT_NAME`` what a
    header says, which a client may have sent, and leaves the path as it is.

    Args:
        added: What ``SCRIPT_NAME`` has gained.
        came_in: Path on the way in.
        rest: Path that the innermost app routed.
    """
    if came_in.endswith(rest):
        moved = came_in[: len(came_in) - len(rest)]
        if added.endswith(moved):
            return moved
    # A middleware inside rewrote the path as well.
    return added if came_in.startswith(added) and not rest.startswith(added) else ""


def _routes_of(app: Any, prefix: str) -> list[str] | None:
    app = getattr(app, "__self__", app)  # the app of the bound method app.wsgi_app
    rules = getattr(app, "url_map", None)
    if rules is not None:
        return [prefix + rule.rule for rule in rules.iter_rules()]
    if type(app).__module__ == "bottle":
        return [prefix + route.rule for route in app.routes]
    inner = getattr(app, "app", None)
    if inner is None:
        return None
    routes = _routes_of(inner, prefix)
    for mount, mounted in getattr(app, "mounts", {}).items():
        more = _routes_of(mounted, prefix + mount)
        routes = None if routes is None or more is None else routes + more
    return routes
