"""
The middleware for any ASGI app; Starlette and FastAPI publish their route templates to it.

It hands on every message as the app made it, and counts just before the one that completes the response.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from traceback import walk_tb
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.adapters.asgi_headers import RawHeaders, raw_headers
from meterkit.adapters.starlette_routes import Templates
from meterkit.core.responses import WARNING, Response
from meterkit.core.threads import in_thread
from meterkit.metering.exchange import UNREAD, Exchange
from meterkit.metering.recorder import MARK, Recorder, recorder_of
from meterkit.webhooks.config import LARGEST_BYTES
from meterkit.webhooks.endpoint import WebhookEndpoint

if TYPE_CHECKING:
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

    ``route`` is what Starlette or FastAPI matched, from the outermost router on; other apps publish none.

    Attributes:
        gone: The client is: the server said so, or could not send.
        starting: What the server made of the response's start.
    """

    __slots__ = ("server_receives", "server_sends", "starting")

    owner: MeterMiddleware
    gone: bool = False
    server_receives: Receive
    server_sends: Send
    starting: Awaitable[None]

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers."""
        return raw_headers(self._response_headers)

    def _read_route(self) -> str | None:
        return self.owner.templates.matched(self.native) if self.native is not None else None

    def known_routes(self) -> Iterable[str] | None:
        """The templates of the outermost router, and of what it mounts and includes."""
        known: Iterable[str] | None = self.owner.templates.known(self.native)
        return known

    async def receive(self) -> Message:
        """What the app calls instead of the server's; a method of this, which costs less than a closure."""
        message = await self.server_receives()
        if message["type"] == "http.disconnect":
            self.gone = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """The same; and no coroutine for the message that completes the response: then nothing is to be learnt."""
        if self.closed:
            return self.server_sends(message)
        kind = message["type"]
        if kind == "http.response.start":
            return self._start(message)
        if kind == "http.response.body" and self.status and not self.begun and not message.get("more_body", False):
            self.owner.recorder.whole(self, message.get("body", b""))
            return self.server_sends(message)
        if self.status:  # what comes before the start is the app's mistake, and the server's to tell
            self._count(kind, message)
        return self.server_sends(message) if self.closed else self._watched(message)

    def _start(self, message: Message) -> Awaitable[None]:
        """Take down the status, the headers and the route, and send *message* on."""
        headers: Any = ()
        try:
            headers = message.get("headers", ())
            if type(headers) is not list and not isinstance(headers, tuple):
                headers = list(headers)  # it may be readable but once
                message = {**message, "headers": headers}
            self.status = message["status"]
            self._response_headers = headers
            self._route = UNREAD
        except Exception as error:
            self.owner.recorder.problems.internal(error)
        # It may be all there is. Otherwise nothing else is looked at yet: most send their body in one piece.
        if (_EMPTY in headers or self.status in _BODILESS or self.method == "HEAD") and self.status >= 200:
            self.owner.recorder.chunk(self, b"")  # after a 103 the real one comes
        try:
            sending = self.server_sends(message)
        except BaseException:
            self.gone = True
            raise
        if type(sending) is not CoroutineType:
            return self._watched(message, sending)
        # Every response has a start, and a coroutine around each would take a thirtieth of all that metering does.
        self.starting = sending  # for `could_not_start`
        return sending

    def _count(self, kind: str, message: Message) -> None:
        recorder: Recorder = self.owner.recorder
        is_last = not message.get("more_body", False)
        if kind == "http.response.body":
            recorder.chunk(self, message.get("body", b""), last=is_last)
        elif kind == "http.response.pathsend" or (kind == "http.response.zerocopysend" and is_last):
            recorder.sendfile(self)

    async def _watched(self, message: Message, sending: Awaitable[None] | None = None) -> None:
        try:
            await (self.server_sends(message) if sending is None else sending)
        except BaseException:
            self.gone = True
            raise

    def could_not_start(self, error: BaseException | None) -> bool:
        """Whether *error*, or what led to it, came out of what the server made of the response's start."""
        code = getattr(getattr(self, "starting", None), "cr_code", None)
        return code is not None and any(
            frame.f_code is code for each in _led_to(error) for frame, _ in walk_tb(each.__traceback__)
        )


_BODILESS = frozenset([204, 304])

_EMPTY = (b"content-length", b"0")


class MeterMiddleware:
    """
    Meters an ASGI app: ``app.add_middleware(MeterMiddleware, kit=kit)``, or ``app = MeterMiddleware(app, kit)``.

    WebSockets pass untouched. When the app shuts down, so does the kit.

    Args:
        app: The app.
        kit: What counts.

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
        self._asks_first = self._governor is not None or self._page is not None
        self.templates = Templates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, self._closing(send) if scope["type"] == "lifespan" else send)
            return
        if MARK in scope and self.recorder.counts_already(scope[MARK]):
            await self.app(scope, receive, send)
            return
        if self._endpoint is not None and scope["path"] == self._endpoint.path:
            await _answer(self._endpoint, scope, receive, send)
            return
        exchange = ASGIExchange()
        headers = RawHeaders()
        headers.pairs = scope.get("headers", ())
        exchange.begin(scope["method"], scope["path"], scope, headers, self)
        scope[MARK] = exchange
        if self._asks_first:
            answer, send = await self._ask(exchange, send)
            if answer is not None:
                self.recorder.refuse(exchange)
                await _send_answer(answer, send, scope["method"])
                return
        exchange.server_receives = receive
        exchange.server_sends = send
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            _ended(exchange, self.recorder, error)
            raise
        else:
            if not exchange.closed:
                _ended(exchange, self.recorder, None)
        finally:
            # Servers keep the context for a while, and with it the exchange; what is theirs must not hang on that: only
            # the garbage collector would find it.
            exchange.server_receives, exchange.server_sends = _is_gone, _is_over
            # Here, not when the last byte left: that may have been in a copy of this context.
            if exchange.outer is not None:
                exchange.retract()

    async def _ask(self, exchange: ASGIExchange, send: Send) -> tuple[Response | None, Send]:
        """What to send instead of the app's response, where None lets it answer; and how it is to send that."""
        page = self._page
        if page is not None and exchange.path == page.path:
            return await in_thread(lambda: page.respond(exchange)), send
        governor = self._governor
        if governor is None:
            return None, send
        waits = governor.waits_for(exchange)
        answer = await in_thread(lambda: governor.check(exchange)) if waits else governor.check(exchange)
        return answer, send if exchange.warning is None else _warning(send, exchange.warning)

    def _closing(self, send: Send) -> Send:
        async def closing_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                self._kit.close()  # some servers leave by a signal next, and no exit hook runs
            await send(message)

        return closing_send


def _warning(send: Send, warning: str) -> Send:
    def warned(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (WARNING.lower().encode(), warning.encode())]
            message = {**message, "headers": headers}
        return send(message)

    return warned


async def _answer(endpoint: WebhookEndpoint, scope: Scope, receive: Receive, send: Send) -> None:
    payload = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        if len(payload) <= LARGEST_BYTES:  # what follows is read, and forgotten: a client listens when it has said all
            payload += message.get("body", b"")
    signature = raw_headers(scope["headers"]).get("stripe-signature")
    answer = await in_thread(lambda: endpoint.respond(scope["method"], bytes(payload), signature))
    await _send_answer(answer, send, scope["method"])


async def _send_answer(answer: Response, send: Send, method: str) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _is_gone() -> Message:
    return {"type": "http.disconnect"}


async def _is_over(_message: Message) -> None:
    raise RuntimeError("this app has returned, and its response is over")


def _ended(exchange: ASGIExchange, recorder: Recorder, error: BaseException | None) -> None:
    """The app returned or raised; what is not complete by now never will be."""
    if exchange.closed:
        return
    if not exchange.status:
        exchange.find_route()
    client_left = exchange.gone or _is_cancellation(error) or exchange.could_not_start(error)
    if client_left and (exchange.status or error is None):
        recorder.close(exchange)
    else:
        recorder.broke(exchange)


def _led_to(error: BaseException | None) -> Iterator[BaseException]:
    """*error*, and all that it came from, or holds."""
    seen: set[int] = set()  # an app may make a circle of them
    led = [error]
    while led:
        error = led.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        # Python 3.10 has groups by a package, so they are known by their name.
        is_group = any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__)
        led += [error.__cause__, error.__context__, *(error.exceptions if is_group else ())]  # type: ignore[attr-defined]


def _is_cancellation(error: BaseException | None) -> bool:
    # trio's is known by its name: only who uses trio has it installed.
    return isinstance(error, CancelledError | GeneratorExit) or type(error).__name__ == "Cancelled"
