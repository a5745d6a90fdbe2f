"""
Faces: the middleware for any WSGI app; Flask's is `meterkit.flask`.

It hands on what the app made, byte for byte, and counts just before the last of it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from meterkit.counting import MARK, Counting, counting_of
from meterkit.endpoint import LARGEST_BYTES, Endpoint, endpoint_of
from meterkit.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from meterkit.kit import MeterKit

__all__ = ["MeterMiddleware", "WSGIExchange"]


class WSGIExchange(Exchange):
    """
    An exchange of a WSGI app; its ``native`` is the environ.

    ``route`` is what Flask matched, with the prefix of mounts inside the middleware; other apps publish none.
    """

    __slots__ = ("_app", "_mounted_at", "_response_headers")

    def __init__(self, environ: WSGIEnvironment, app: WSGIApplication) -> None:
        super().__init__(environ.get("REQUEST_METHOD", ""), _path(environ), environ)
        self._app = app
        self._mounted_at = environ.get("SCRIPT_NAME", "")
        self._response_headers: list[tuple[str, str]] = []

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return EnvironHeaders(self.native or {})

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers."""
        return HeaderPairs(self._response_headers)

    def known_routes(self) -> Iterable[str] | None:
        """The templates of a Flask app, and of those that a ``DispatcherMiddleware`` mounts."""
        return _routes_of(self._app, "")

    def start(self, status: str, headers: list[tuple[str, str]]) -> None:
        """Take down the status line, the headers and the route: Flask forgets it when its app returns."""
        self.begun = False  # an app may start again, as long as nothing has left
        self.status = int(status[:3])
        self._response_headers = headers
        rule = getattr(self.native.get("werkzeug.request"), "url_rule", None)
        if rule is not None:
            self.route = self.native.get("SCRIPT_NAME", "")[len(self._mounted_at) :] + rule.rule


class MeterMiddleware:
    """
    Meters a WSGI app: ``app = MeterMiddleware(app, kit)``.

    Args:
        app: The app.
        kit: What counts.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """

    def __init__(self, app: WSGIApplication, kit: MeterKit) -> None:
        self.app = app
        self._counting = counting_of(kit)
        self._endpoint = endpoint_of(kit)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if self._endpoint is not None and _path(environ) == self._endpoint.path:
            return _answered(self._endpoint, environ, start_response)
        counting = self._counting
        mark = environ.get(MARK)
        if mark is not None and counting.counts_already(mark):
            return self.app(environ, start_response)
        exchange = environ[MARK] = WSGIExchange(environ, self.app)
        counting.open(exchange)
        files: Any = environ.get("wsgi.file_wrapper") or ()  # None, where a server says that it has none
        made: list[object] | None = None
        if callable(files) and not isinstance(files, type):
            made, environ["wsgi.file_wrapper"] = _remembering(files)
        try:
            body = self.app(environ, _starter(start_response, exchange, counting))
        except BaseException:
            counting.broke(exchange)
            exchange.retract()
            raise
        finally:
            if made is not None:
                environ["wsgi.file_wrapper"] = files
        if type(body) is list or type(body) is tuple:
            _count_whole(body, exchange, counting)
        elif any(body is each for each in made) if made is not None else isinstance(body, files):
            counting.sendfile(exchange)
        else:
            if exchange.status:
                counting.chunk(exchange, b"")
            if not exchange.closed:
                return (SizedBody if hasattr(body, "__len__") else Body)(body, exchange, counting)
        exchange.retract()
        return body


class Body:
    """
    A response's body that is made while it is sent: an iterator, so that nothing is fetched before it is asked for.

    Never a generator: closing one that was not started would skip the app's own ``close()``.
    """

    __slots__ = ("_body", "_counting", "_exchange", "_next")

    def __init__(self, body: Iterable[bytes], exchange: Exchange, counting: Counting) -> None:
        self._body: Any = body
        self._exchange = exchange
        self._counting = counting
        self._next: Callable[[], bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._next = iter(self._body).__next__
        except BaseException:
            self._end(self._counting.broke)
            raise
        return self

    def __next__(self) -> bytes:
        if self._next is None:
            iter(self)
            assert self._next is not None
        try:
            data = self._next()
        except StopIteration:
            self._end(self._counting.close if self._exchange.status else self._counting.broke)
            raise
        except BaseException:
            self._end(self._counting.broke)
            raise
        self._counting.chunk(self._exchange, data)
        return data

    def close(self) -> None:
        """The server is done; if that is early, the client is gone, and the exchange counts as what it was."""
        self._end(self._counting.close)
        body, self._body = self._body, ()
        if hasattr(body, "close"):
            body.close()

    def __del__(self) -> None:
        # A server that has sent what it wanted to send may forget the rest, and that it should call close(). It is
        # counted all the same; the app's body is not closed, which nobody would do without us either.
        if not self._exchange.closed:
            with suppress(Exception):
                self._end(self._counting.close)

    def _end(self, count: Callable[[Exchange], None]) -> None:
        count(self._exchange)
        self._exchange.retract()


class SizedBody(Body):
    """A body that tells how many chunks it has, from which servers derive a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)


class HeaderPairs(Mapping[str, str]):
    """Headers as WSGI responses have them: pairs, in order; several of one name are joined with a comma."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        name = name.lower()
        values = [value for key, value in self._pairs if key.lower() == name]
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self._pairs))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self._pairs})


class EnvironHeaders(Mapping[str, str]):
    """The request's headers, looked up in the environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        if key in _WITHOUT_PREFIX:
            value = self._environ.get(key)
            if not value:  # servers leave them empty where the client sent none
                raise KeyError(name)
            return str(value)
        return str(self._environ["HTTP_" + key])

    def __iter__(self) -> Iterator[str]:
        for key, value in self._environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").lower()
            elif value and key in _WITHOUT_PREFIX:
                yield key.replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)


_WITHOUT_PREFIX = ("CONTENT_TYPE", "CONTENT_LENGTH")


def _starter(start_response: StartResponse, exchange: WSGIExchange, counting: Counting) -> StartResponse:
    def metered_start_response(*args: Any, **named: Any) -> Callable[[bytes], object]:
        # As it came: with two arguments or three, and exc_info by position or by name.
        write = start_response(*args, **named)
        if not exchange.closed:
            try:
                exchange.start(*_status_and_headers(*args, **named))
            except Exception as error:
                counting.internal(error)

        def metered_write(data: bytes) -> object:
            counting.chunk(exchange, data)
            return write(data)

        return metered_write

    return metered_start_response


def _status_and_headers(
    status: str, response_headers: list[tuple[str, str]], _exc_info: object = None, **_named: object
) -> tuple[str, list[tuple[str, str]]]:
    return status, response_headers


def _remembering(files: Callable[..., object]) -> tuple[list[object], Callable[..., object]]:
    """A file wrapper that is a function (uWSGI's) and what it returned: the server knows that by its identity."""
    made: list[object] = []

    def metered_file_wrapper(*args: Any, **named: Any) -> object:
        wrapped = files(*args, **named)
        made.append(wrapped)
        return wrapped

    return made, metered_file_wrapper


def _count_whole(body: list[bytes] | tuple[bytes, ...], exchange: Exchange, counting: Counting) -> None:
    if not exchange.status:
        counting.broke(exchange)  # the app forgot start_response, which the server will answer with a 500
        return
    for data in body[:-1]:
        counting.chunk(exchange, data)
    counting.chunk(exchange, body[-1] if body else b"", last=True)


def _answered(endpoint: Endpoint, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    length = environ.get("CONTENT_LENGTH") or "0"
    size = int(length) if length.isascii() and length.isdigit() else 0
    payload = environ["wsgi.input"].read(min(size, LARGEST_BYTES + 1))
    answer = endpoint.answer(environ["REQUEST_METHOD"], payload, environ.get("HTTP_STRIPE_SIGNATURE"))
    start_response(f"{answer.status} {answer.reason}", answer.headers)
    return [answer.body]


def _path(environ: WSGIEnvironment) -> str:
    """The path as text, with what it is mounted at: its bytes are UTF-8, but come as if they were Latin-1."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def _routes_of(app: Any, prefix: str) -> list[str] | None:
    app = getattr(app, "__self__", app)  # of the bound method app.wsgi_app
    rules = getattr(app, "url_map", None)
    if rules is not None:
        return [prefix + rule.rule for rule in rules.iter_rules()]
    inner = getattr(app, "app", None)
    if inner is None:
        return None
    routes = _routes_of(inner, prefix)
    for mount, mounted in getattr(app, "mounts", {}).items():
        more = _routes_of(mounted, prefix + mount)
        routes = None if routes is None or more is None else routes + more
    return routes
