"""
The middleware for any ASGI app; Starlette, FastAPI and Litestar publish their route templates to it.

It passes every message on as the app made it, and counts just before the one that completes the response.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from traceback import walk_tb
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.adapters.asgi_headers import RawHeaders, raw_headers
from meterkit.adapters.bridges import crosses_bridge
from meterkit.adapters.starlette_routes import Templates
from meterkit.core.responses import Response
from meterkit.core.threads import in_thread
from meterkit.core.usage_key import both_of
from meterkit.holds.refusal import response_to
from meterkit.metering.delivered_bytes import size_of_file
from meterkit.metering.exchange import UNREAD, Exchange, Identity
from meterkit.metering.recorder import CLIENT_LEFT, MARK, Recorder, recorder_of
from meterkit.webhooks.config import LARGEST_BYTES
from meterkit.webhooks.endpoint import WebhookEndpoint

if TYPE_CHECKING:
    from meterkit.governance.governor import Governor
    from meterkit.kit import MeterKit

__all__ = ["ASGIExchange", "MeterMiddleware"]

Scope: TypeAlias = "MutableMapping[str, Any]"
Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"
ASGIApp: TypeAlias = "Callable[[Scope, Receive, Send], Awaitable[None]]"


class ASGIExchange(Exchange):
    """
    An exchange of an ASGI app; its ``native`` is the scope.

    ``route`` is the template that Starlette, FastAPI or Litestar matched, including mounts; other apps publish none.

    Attributes:
        gone: Whether the client has disconnected: the server reported it, or could not send.
        server_receives: The server's ``receive``.
        server_sends: The server's ``send``.
        starting: The awaitable that the server's ``send`` returned for the start of the response.
    """

    __slots__ = ("server_receives", "server_sends", "starting")

    owner: MeterMiddleware
    gone: bool = False
    is_asgi = True
    server_receives: Receive
    server_sends: Send
    starting: Awaitable[None]

    @property
    def response_headers(self) -> Mapping[str, str]:
        """Response headers: read-only, case-insensitive names."""
        return raw_headers(self._response_headers)

    def _read_route(self) -> str | None:
        return self.owner.templates.matched(self.native) if self.native is not None else None

    def known_routes(self) -> Iterable[str] | None:
        """Return the templates of the outermost router and of the apps and routers that it mounts and includes."""
        known: Iterable[str] | None = self.owner.templates.known(self.native)
        return known

    async def receive(self) -> Message:
        """Stand in for the server's ``receive``. A method, which costs less than a closure."""
        message = await self.server_receives()
        if message["type"] == "http.disconnect":
            self.gone = True
        return message

    async def receive_counted(self) -> Message:
        """Stand in for the server's ``receive``, and count the body, where a meter can ask for its length."""
        message = await self.receive()
        if message["type"] == "http.request":
            self.read_bytes = (self.read_bytes or 0) + len(message.get("body", b""))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Stand in for the server's ``send``. The message that completes the response is sent without a coroutine."""
        if self.closed:
            return self.server_sends(message)
        kind = message["type"]
        if kind == "http.response.start":
            return self._start(message)
        if kind == "http.response.body" and self.status and not self.begun and not message.get("more_body", False):
            self.owner.recorder.whole(self, message.get("body", b""))
            return self.server_sends(message)
        if self.status:  # a message before the start is the app's mistake; the server reports it
            self._count(kind, message)
        return self.server_sends(message) if self.closed else self._watched(message)

    def _start(self, message: Message) -> Awaitable[None]:
        """Record the status, the headers and the route, and pass *message* on."""
        headers: Any = ()
        try:
            headers = message.get("headers", ())
            if type(headers) is not list and not isinstance(headers, tuple):
                headers = list(headers)  # may be an iterator, which can be read only once
                message = {**message, "headers": headers}
            self.status = message["status"]
            self._response_headers = headers
            self._route = UNREAD
            if self.native["method"] is not self.verb:
                self.override(self.native["method"])
        except Exception as error:
            self.owner.recorder.problems.internal(error)
        # The response may be complete already. Otherwise wait for the body, which mostly comes in one piece.
        if (_EMPTY in headers or self.status in _BODILESS or self.verb == "HEAD") and self.status >= 200:
            self.owner.recorder.chunk(self, b"")  # a 103 is followed by the actual response
        try:
            sending = self.server_sends(message)
        except BaseException:
            self.gone = True
            raise
        if type(sending) is not CoroutineType:
            return self._watched(message, sending)
        # Every response has a start, and a coroutine around each would take a thirtieth of metering's time.
        self.starting = sending  # for `could_not_start`
        return sending

    def _count(self, kind: str, message: Message) -> None:
        recorder: Recorder = self.owner.recorder
        is_last = not message.get("more_body", False)
        if kind == "http.response.body":
            recorder.chunk(self, message.get("body", b""), last=is_last)
        elif kind == "http.response.pathsend" or (kind == "http.response.zerocopysend" and is_last):
            recorder.sendfile(self, lambda: size_of_file(message.get("path", "")))

    async def _watched(self, message: Message, sending: Awaitable[None] | None = None) -> None:
        try:
            await (self.server_sends(message) if sending is None else sending)
        except BaseException:
            self.gone = True
            raise

    def could_not_start(self, error: BaseException | None) -> bool:
        """Return whether *error*, or one of its causes, was raised while the server sent the response's start."""
        code = getattr(getattr(self, "starting", None), "cr_code", None)
        return code is not None and any(
            frame.f_code is code for each in _causes(error) for frame, _ in walk_tb(each.__traceback__)
        )


class AskingExchange(ASGIExchange):
    """An exchange whose company an async ``identify=`` names, at the latest before its response starts."""

    __slots__ = ()

    def _start(self, message: Message) -> Awaitable[None]:
        return self._start_identified(message)

    async def _start_identified(self, message: Message) -> None:
        headers = message.get("headers", ())
        if not isinstance(headers, list | tuple):
            message = {**message, "headers": list(headers)}
        self.status = message["status"]
        self._response_headers = message.get("headers", ())
        self.find_route()
        await self.owner.recorder.ask(self)
        await super()._start(message)


_BODILESS = frozenset([204, 304])

_EMPTY = (b"content-length", b"0")


class MeterMiddleware:
    """
    Meters an ASGI app: ``app.add_middleware(MeterMiddleware, kit=kit)``, or ``app = MeterMiddleware(app, kit)``.

    WebSockets pass through unchanged. The kit is closed when the app shuts down.

    Args:
        app: ASGI app to meter.
        kit: Kit that counts the app's usage.

    Raises:
        ConfigurationError: *kit* is not a MeterKit.
    """

    def __init__(self, app: ASGIApp, kit: MeterKit) -> None:
        self.app = app
        self._kit = kit
        self.recorder = recorder_of(kit)
        self._endpoint = kit.endpoint
        self._governor = kit.governor
        self._page = kit.page
        self._page_prefix = None if self._page is None else self._page.prefix
        self._reads_requests = self.recorder.reads_requests
        self._asks = self.recorder.identity.asks
        self._check_waits = self._asks is not None or (self._governor is not None and self._governor.is_exact)
        self._makes_exchange = ASGIExchange if self._asks is None else AskingExchange
        self.templates = Templates()
        self._lifespans = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901, PLR0912, PLR0915 - calls cost time
        """Serve one connection."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        if MARK in scope and self.recorder.counts_already(scope[MARK]):
            await self.app(scope, receive, send)
            return
        if self._endpoint is not None and scope["path"] == self._endpoint.path:
            await _serve_webhook(self._endpoint, scope, receive, send)
            return
        governor = self._governor
        exchange = self._makes_exchange()
        headers = RawHeaders()
        headers.pairs = scope.get("headers", ())
        exchange.begin(scope["method"], scope["path"], scope, headers, self)
        prefix = scope.get("root_path")
        exchange.target = _split(scope["path"], prefix) if prefix else scope["path"]
        if exchange.outer is not None and crosses_bridge(exchange, scope):
            try:
                await self.app(scope, receive, send)
            finally:
                exchange.keep_route()
            return
        scope[MARK] = exchange
        response = None
        if self._page_prefix is not None and (prefix or exchange.path.startswith(self._page_prefix)):
            response = await self._show_page(exchange)
        if governor is not None and response is None:
            response = await self._check(governor, exchange) if self._check_waits else governor.check(exchange)
            if exchange.added_headers and response is None:
                send = _adding(send, exchange.added_headers)
        if response is not None:
            self.recorder.refuse(exchange)
            await _send_response(response, send, scope["method"])
            return
        exchange.server_receives = receive
        exchange.server_sends = send
        receives = exchange.receive
        if self._reads_requests:
            exchange.read_bytes, receives = 0, exchange.receive_counted
        try:
            await self.app(scope, receives, exchange.send)
        except BaseException as error:
            response = None if exchange.status else self.refusal_of(error, exchange)
            if response is None:
                await _ended(exchange, self.recorder, error)
                raise
            await _send_response(response, send, scope["method"])
        else:
            if not exchange.closed:
                await _ended(exchange, self.recorder, None)
        finally:
            # Servers keep the context for a while, and with it the exchange. If it still referred to their objects,
            # only the garbage collector could free them.
            exchange.server_receives, exchange.server_sends = _receive_after_end, _send_after_end
            # Here, not when the last byte leaves: that may happen in a copy of this context.
            if exchange.outer is not None:
                exchange.retract()

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a lifespan, or a WebSocket: it matches no meter by itself, and what it adds is counted at once."""
        if scope["type"] == "lifespan":
            send = self._closing(send)
        if scope["type"] != "websocket" or (MARK in scope and self.recorder.counts_already(scope[MARK])):
            await self.app(scope, receive, send)
            return
        exchange = ASGIExchange()
        headers = RawHeaders()
        headers.pairs = scope.get("headers", ())
        exchange.begin("GET", scope["path"], scope, headers, self)
        exchange.status, exchange.counts_at_once = 200, True
        scope[MARK] = exchange
        if self._asks is not None:
            await self._asks.ask(exchange)
        try:
            await self.app(scope, receive, send)
        finally:
            self.recorder.close_counted_at_once(exchange)
            exchange.retract()

    async def _show_page(self, exchange: ASGIExchange) -> Response | None:
        """Return the page that *exchange* asks for; None if it is the app's."""
        page = self._page
        if page is None or not page.serves(exchange):
            return None
        if self._asks is not None:
            await self._asks.ask(exchange)
        query = exchange.native.get("query_string", b"").decode("latin-1")
        return await in_thread(lambda: page.respond(exchange, query))

    async def _check(self, governor: Governor, exchange: ASGIExchange) -> Response | None:
        """Return the response to a blocked request; None allows *exchange*. Its company or a unit may be waited for."""
        if self._asks is not None and not governor.exempts(exchange):
            await self._asks.ask(exchange)
        waits = governor.waits_for(exchange)
        return await in_thread(lambda: governor.check(exchange)) if waits else governor.check(exchange)

    async def asked(self, exchange: ASGIExchange) -> Identity | None:
        """Return whom the app or ``identify=`` names, for a view that has not asked governance; None if nobody."""
        before, identity = exchange.identified, self.recorder.identity
        if self._asks is not None and before is None and exchange.identity is None:
            await self._asks.ask(exchange)
        if identity.early(exchange) is None:
            return None
        who = exchange.identity or Identity(*both_of(exchange.identified or ""))
        exchange.identified = before  # `Governor.check_again` would take it for whom it has decided about
        return who

    async def decide_again(self, exchange: ASGIExchange, who: Identity | None) -> Response | None:
        """
        Return a response to send instead of the view's, which is not billed; None if the request is allowed.

        Args:
            exchange: Exchange whose view runs, so that its route is known.
            who: Whom the view has authenticated; None to ask ``identify=`` again.
        """
        governor, before = self._governor, len(exchange.added_headers)
        if governor is None:
            return None
        exchange.find_route()
        if who is None and self._asks is not None and exchange.identified is None:
            await self._asks.ask(exchange)
        if governor.waits_for(exchange):
            response = await in_thread(lambda: governor.check_again(exchange, who))
        else:
            response = governor.check_again(exchange, who)
        if response is not None:
            self.recorder.refuse(exchange)
        elif len(exchange.added_headers) > before and exchange.native["type"] == "http":
            exchange.server_sends = _adding(exchange.server_sends, exchange.added_headers[before:])
        return response

    def refusal_of(self, error: BaseException, exchange: ASGIExchange | None) -> Response | None:
        """Return the response to a request in which too little was left to hold, as *error* says; otherwise None."""
        return response_to(error, exchange, recorder=self.recorder, governor=self._governor)

    def _closing(self, send: Send) -> Send:
        self._lifespans += 1
        ends_process = self._lifespans == 1  # Mangum, on AWS Lambda, runs a lifespan around each invocation

        async def closing_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                if ends_process:
                    self._kit.close()  # some servers then end by a signal, and no exit hook runs
                else:
                    self._kit.process().try_flush()
            await send(message)

        return closing_send


def _split(path: str, prefix: str) -> tuple[str, str]:
    """Return *prefix*, ``root_path`` in ASGI, and the rest of *path*; some servers and proxies have cut it off."""
    rest = path.removeprefix(prefix)
    return prefix, rest if rest == "" or rest.startswith("/") else path


def _adding(send: Send, added: Iterable[tuple[str, str]]) -> Send:
    encoded = [(name.lower().encode(), value.encode()) for name, value in added]

    def adding(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and message["status"] >= 200:
            message = {**message, "headers": [*message.get("headers", ()), *encoded]}
        return send(message)

    return adding


async def _serve_webhook(endpoint: WebhookEndpoint, scope: Scope, receive: Receive, send: Send) -> None:
    method, signature = scope["method"], raw_headers(scope["headers"]).get("stripe-signature")
    most = LARGEST_BYTES if endpoint.reads_body(method, signature) else -1
    payload = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        if len(payload) <= most:  # the rest is read and dropped: a client reads only after it has sent all
            payload += message.get("body", b"")
    response = await in_thread(lambda: endpoint.respond(method, lambda: bytes(payload), signature))
    await _send_response(response, send, scope["method"])


async def _send_response(response: Response, send: Send, method: str) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})


def exchange_of(scope: Scope) -> ASGIExchange | None:
    """Return the exchange that a middleware of meterkit has opened for *scope*, an HTTP request or a WebSocket."""
    found = scope.get(MARK)
    return found if isinstance(found, ASGIExchange) and not found.closed else None


async def _receive_after_end() -> Message:
    return {"type": "http.disconnect"}


async def _send_after_end(_message: Message) -> None:
    raise RuntimeError("this app has returned, so its response is complete")


async def _ended(exchange: ASGIExchange, recorder: Recorder, error: BaseException | None) -> None:
    """Count *exchange* after the app returned or raised, complete or not."""
    if exchange.closed:
        return
    if not exchange.status:
        exchange.find_route()
    client_left = exchange.gone or _is_cancellation(error) or exchange.could_not_start(error)
    exchange.status = (exchange.status or CLIENT_LEFT) if client_left else 500
    if exchange.answer is None and not isinstance(error, GeneratorExit):  # then nothing can be awaited
        await recorder.ask(exchange, shielded=True)
    recorder.close(exchange)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error*, its causes and contexts, and the members of exception groups."""
    seen: set[int] = set()  # an app may create a cycle
    queue = [error]
    while queue:
        error = queue.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        # In Python 3.10, groups come from a package, so they are recognised by name.
        is_group = any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__)
        queue += [error.__cause__, error.__context__, *(error.exceptions if is_group else ())]  # type: ignore[attr-defined]


def _is_cancellation(error: BaseException | None) -> bool:
    # trio's is recognised by name: trio may not be installed.
    return isinstance(error, CancelledError | GeneratorExit) or type(error).__name__ == "Cancelled"
