"""
The middleware for any WSGI app; Flask's is `meterkit.flask`.

It passes the app's response on, byte for byte, and counts just before the last byte leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from meterkit.adapters.bridges import crosses_bridge
from meterkit.adapters.wsgi_body import counted, only_piece
from meterkit.adapters.wsgi_exchange import WSGIExchange
from meterkit.adapters.wsgi_headers import EnvironHeaders, decoded
from meterkit.adapters.wsgi_input import CountedInput, longest_body, read_input
from meterkit.core.responses import Response
from meterkit.holds.refusal import response_to
from meterkit.metering.exchange import Identity
from meterkit.metering.paths import Target
from meterkit.metering.recorder import MARK, recorder_of
from meterkit.webhooks.config import LARGEST_BYTES
from meterkit.webhooks.endpoint import WebhookEndpoint

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from meterkit.kit import MeterKit

__all__ = ["MeterMiddleware", "WSGIExchange"]


class MeterMiddleware:
    """
    Meters a WSGI app: ``app = MeterMiddleware(app, kit)``.

    Args:
        app: WSGI app to meter.
        kit: Kit that counts the app's usage.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """

    def __init__(self, app: WSGIApplication, kit: MeterKit) -> None:
        self.app = app
        self.recorder = recorder_of(kit)
        self._endpoint = kit.endpoint
        self._governor = kit.governor
        self._page = kit.page
        self._page_prefix = None if self._page is None else self._page.prefix
        self._reads_requests = self.recorder.reads_requests

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:  # noqa: C901, PLR0912 - calls cost time
        """Serve one request."""
        try:
            prefix, rest = environ["SCRIPT_NAME"], environ["PATH_INFO"]
        except KeyError:  # a server may leave out what is empty
            prefix, rest = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        path = rest if rest.isascii() else decoded(rest)
        target: Target = (decoded(prefix), path) if prefix else path
        path = target[0] + path if prefix else path
        if self._endpoint is not None and path == self._endpoint.path:
            return _serve_webhook(self._endpoint, environ, start_response)
        if MARK in environ and self.recorder.counts_already(environ[MARK]):
            return self.app(environ, start_response)
        exchange = WSGIExchange()
        headers = EnvironHeaders()
        headers.environ = environ
        exchange.begin(environ["REQUEST_METHOD"], path, environ, headers, self)
        if prefix:
            exchange.target = target
        if exchange.outer is not None and crosses_bridge(exchange, environ):
            return self.app(environ, exchange.publishing_route(start_response))
        environ[MARK] = exchange
        response = None
        if self._page_prefix is not None and (prefix or path.startswith(self._page_prefix)):
            response = self._show_page(exchange)
        if self._governor is not None and response is None:
            response = self._governor.check(exchange)
            if exchange.added_headers and response is None:
                start_response = _adding(start_response, exchange.added_headers)
        if response is not None:
            self.recorder.refuse(exchange)
            return self._respond(response, environ, start_response)
        if self._reads_requests and environ.get("wsgi.input") is not None:
            environ["wsgi.input"] = CountedInput(environ["wsgi.input"], exchange, longest_body(environ))
        exchange.server_starts = start_response
        app, files = self.app, environ.get("wsgi.file_wrapper")
        try:
            if files is None or isinstance(files, type):
                body = app(environ, exchange.start_response)
            else:
                body, files = _tracking_files(app, environ, exchange.start_response, files)
        except BaseException as error:
            response = None if exchange.status else self.refusal_of(error, exchange)
            if response is None:
                self.recorder.broke(exchange)
                exchange.over()
                raise
            exchange.over()
            return self._respond(response, environ, start_response)
        piece = body[0] if type(body) is list and len(body) == 1 else only_piece(body)
        if piece is None or exchange.begun or not exchange.status:
            return counted(body, exchange, self.recorder, is_file=files is not None and isinstance(body, files))
        self.recorder.whole(exchange, piece)
        exchange.server_starts = exchange.server_writes = exchange.matched = None  # inlined from `over`
        if exchange.outer is not None:
            exchange.retract()
        return body

    def _respond(self, response: Response, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send *response* in place of the app's."""
        return _send_response(response, environ, start_response)

    def _show_page(self, exchange: WSGIExchange) -> Response | None:
        """Return the page that *exchange* asks for; None if it is the app's."""
        page = self._page
        if page is None or not page.serves(exchange):
            return None
        return page.respond(exchange, exchange.native.get("QUERY_STRING", ""))

    def decide_again(self, exchange: WSGIExchange, who: Identity | None) -> Response | None:
        """
        Return a response to send instead of the view's, which is not billed; None if the request is allowed.

        Args:
            exchange: Exchange whose view runs.
            who: Whom the app has authenticated; None to ask ``identify=`` again.
        """
        governor, before = self._governor, len(exchange.added_headers)
        if governor is None:
            return None
        exchange.find_matched()
        response = governor.check_again(exchange, who)
        if response is not None:
            self.recorder.refuse(exchange)
        elif len(exchange.added_headers) > before:
            exchange.server_starts = _adding(exchange.server_starts, exchange.added_headers[before:])
        return response

    def refusal_of(self, error: BaseException, exchange: WSGIExchange) -> Response | None:
        """Return the response to a request in which too little was left to hold, as *error* says; otherwise None."""
        return response_to(error, exchange, recorder=self.recorder, governor=self._governor)


def _adding(start_response: Any, added: tuple[tuple[str, str], ...]) -> StartResponse:
    def adding(status: str, response_headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*response_headers, *added], *exc_info)

    return adding


def _tracking_files(
    app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse, files: Any
) -> tuple[Iterable[bytes], type | None]:
    """
    Return the body of *app*, and its type if the server treats it as a file.

    Used if ``wsgi.file_wrapper`` is a function, as uWSGI's is; then the server knows the file by its identity.
    """
    if not callable(files):  # the server has no file wrapper
        return app(environ, start_response), None
    made: list[object] = []

    def metered_file_wrapper(*args: Any, **named: Any) -> object:
        wrapped = files(*args, **named)
        made.append(wrapped)
        return wrapped

    environ["wsgi.file_wrapper"] = metered_file_wrapper
    try:
        body = app(environ, start_response)
    finally:
        environ["wsgi.file_wrapper"] = files
    return body, type(body) if any(body is each for each in made) else None


def _serve_webhook(endpoint: WebhookEndpoint, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    signature = environ.get("HTTP_STRIPE_SIGNATURE")
    response = endpoint.respond(environ["REQUEST_METHOD"], lambda: read_input(environ, LARGEST_BYTES + 1), signature)
    return _send_response(response, environ, start_response)


def _send_response(response: Response, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response(f"{response.status} {response.reason}", response.headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]
