"""The command `dashboard`: the team's pages on the loopback interface, for whoever knows the token."""

from __future__ import annotations

import argparse
import secrets
import signal
from collections.abc import Iterable
from contextlib import closing, suppress
from http.cookies import CookieError, SimpleCookie
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from meterkit.adapters.wsgi_exchange import WSGIExchange
from meterkit.adapters.wsgi_headers import EnvironHeaders, decoded
from meterkit.cli.arguments import Commands, add_command, add_kit
from meterkit.cli.kit_loader import CommandError, load_kit
from meterkit.cli.output import say
from meterkit.core.responses import Response, response
from meterkit.errors import LedgerError
from meterkit.pages.config import Pages

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from meterkit.kit import MeterKit

HOST = "127.0.0.1"

PREFIX = "/meterkit"
"""Path below which the pages are."""


def add_parsers(commands: Commands) -> None:
    """Add the command of this module."""
    command = add_command(
        commands, "dashboard", dashboard, "serve the team's pages on the loopback interface until Ctrl-C"
    )
    add_kit(command)
    command.add_argument("--port", type=int, default=0, metavar="N", help="port (default: any free one)")


def dashboard(arguments: argparse.Namespace) -> bool:
    """Serve the team's pages until Ctrl-C or SIGTERM."""
    kit = load_kit(arguments.kit)
    token = secrets.token_urlsafe(32)
    with closing(kit):
        app = Dashboard(kit, token)
        try:
            server = make_server(HOST, arguments.port, app, server_class=_Server, handler_class=_QuietHandler)
        except (OSError, OverflowError) as error:
            cure = "choose another with --port"
            raise CommandError(f"port {arguments.port} is not available ({error}); {cure}") from None
        app.port = server.server_port
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            kit.flush()  # what processes that were killed have counted
        except LedgerError as error:
            say(f"{error}")
        with server, suppress(KeyboardInterrupt):
            say(f"The dashboard of {arguments.kit} is at http://{HOST}:{app.port}{PREFIX}/team?token={token}")
            say("Whoever knows this address, on this machine, sees all companies. Stop: Ctrl-C")
            server.serve_forever()
    return True


class Dashboard:
    """
    The team's pages as a WSGI app. The first request has the token in its address, and gets a cookie for the others.

    Args:
        kit: Kit whose pages are shown.
        token: Token that lets a browser in.

    Attributes:
        port: Port of the server; requests for another are refused.
    """

    def __init__(self, kit: MeterKit, token: str) -> None:
        self._site = kit.team_site(Pages(PREFIX, team=lambda _: True, name="meterkit"))
        self._owner = SimpleNamespace(app=None, recorder=kit.recorder)
        self._token = token
        self.port = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        found = self._respond(environ)
        start_response(f"{found.status} {found.reason}", found.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [found.body]

    def _respond(self, environ: WSGIEnvironment) -> Response:
        # A page of another site can have its name lead to this machine, and would then be of the same origin.
        if environ.get("HTTP_HOST") not in (f"{HOST}:{self.port}", f"localhost:{self.port}"):
            return _text(403, f"The dashboard is at http://{HOST}:{self.port}, and under no other name.")
        path, query = decoded(environ.get("PATH_INFO", "")), environ.get("QUERY_STRING", "")
        given = parse_qs(query).get("token", [""])[-1]
        if given and self._is_token(given):
            cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            return _text(303, "", ("Location", f"{PREFIX}/team"), ("Set-Cookie", cookie))
        if not self._is_token(self._sent(environ)):
            return _text(403, "Open the address that meterkit dashboard has printed; it holds a token.")
        if path in ("", "/"):
            return _text(303, "", ("Location", f"{PREFIX}/team"))
        exchange, headers = WSGIExchange(), EnvironHeaders()
        headers.environ = environ
        exchange.begin(environ["REQUEST_METHOD"], path, environ, headers, self._owner)
        return self._site.respond(exchange, query) if self._site.serves(exchange) else _text(404, "Not found.")

    @property
    def _cookie(self) -> str:
        """Name of the cookie: browsers share cookies between the ports of a host."""
        return f"meterkit_{self.port}"

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _sent(self, environ: WSGIEnvironment) -> str:
        try:
            found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(self._cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value


def _text(status: int, text: str, *headers: tuple[str, str]) -> Response:
    return response(status, text.encode(), *headers, media_type="text/plain; charset=utf-8")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing: the first address has the token."""
