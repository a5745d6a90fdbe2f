"""
Faces: the middleware for any ASGI app; Starlette and FastAPI publish their route templates to it.

It hands on every message as the app made it, and counts just before the one that completes the response.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.answers import WARNING, Answer
from meterkit.counting import MARK, Counting, counting_of
from meterkit.endpoint import LARGEST_BYTES, Endpoint, endpoint_of, in_thread
from meterkit.exchange import UNREAD, Exchange
from meterkit.templates import Templates

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
    """

    __slots__ = ("gone", "server_receives", "server_sends")

    server_receives: Receive
    server_sends: Send

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return RawHeaders(self.native["headers"] if self.native else ())

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers."""
        return RawHeaders(self._response_headers)

    def _read_route(self) -> str | None:
        try:
            return self.owner.templates.matched(self.native) if self.native is not None else None
        except Exception as error:
            self.owner.counting.internal(error)
            return None

    def known_routes(self) -> Iterable[str] | None:
        """The templates of the outermost router, and of what it mounts and includes."""
        known: Iterable[str] | None = self.owner.templates.known(self.native)
        return known

    def find_route(self) -> None:
        """The app's router has matched, if it ever will."""
        self._route = UNREAD

    async def receive(self) -> Message:
        """What the app calls instead of the server's; a method of this, which costs less than a closure."""
        message = await self.server_receives()
        if message["type"] == "http.disconnect":
            self.gone = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """
        The same; and no coroutine for the message that completes the response, after which nothing is to be learnt.
        """
        if self.closed:
            return self.server_sends(message)
        kind = message["type"]
        counting: Counting = self.owner.counting
        if kind == "http.response.start":
            message = self._take_down(message)
        elif not self.status:
            pass  # what comes before the start is the app's mistake, and the server's to tell
        elif kind == "http.response.body":
            if message.get("more_body", False):
                counting.chunk(self, message.get("body", b""))
            else:
                counting.chunk(self, message.get("body", b""), last=True)
        elif kind == "http.response.pathsend" or (
            kind == "http.response.zerocopysend" and not message.get("more_body", False)
        ):
            counting.sendfile(self)
        return self.server_sends(message) if self.closed else self._sent(message)

    async def _sent(self, message: Message) -> None:
        try:
            await self.server_sends(message)
        except BaseException:
            self.gone = True
            raise

    def _take_down(self, message: Message) -> Message:
        """Take down the status, the headers and the route. Answers the message to send on."""
        counting: Counting = self.owner.counting
        headers: Any = ()
        try:
            headers = message.get("headers", ())
            if not isinstance(headers, list | tuple):
                headers = list(headers)  # it may be readable but once
                message = {**message, "headers": headers}
            self.status = message["status"]
            self._response_headers = headers
            self._route = UNREAD
        except Exception as error:
            counting.internal(error)
        # It may be all there is. Otherwise nothing else is looked at yet: most send their body in one piece.
        bodiless = self.method == "HEAD" or self.status in _BODILESS or (b"content-length", b"0") in headers
        if bodiless and self.status >= 200:  # not a 103, after which the real one comes
            counting.chunk(self, b"")
        if self.warning is None:
            return message
        headers = [*message.get("headers", ()), (WARNING.lower().encode(), self.warning.encode())]
        return {**message, "headers": headers}


_BODILESS = frozenset([204, 304])


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
        self.counting = counting_of(kit)
        self._endpoint = endpoint_of(kit)
        self._governor = kit.governor
        self._page = kit.page
        self.templates = Templates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            send = self._closing(send)
        if scope["type"] != "http" or (MARK in scope and self.counting.counts_already(scope[MARK])):
            await self.app(scope, receive, send)
            return
        if self._endpoint is not None and scope["path"] == self._endpoint.path:
            await _answer(self._endpoint, scope, receive, send)
            return
        counting = self.counting
        exchange = ASGIExchange()
        exchange.begin(scope["method"], scope["path"], scope, self)
        scope[MARK] = exchange
        exchange.gone = False
        exchange.server_receives = receive
        exchange.server_sends = send
        exchange.publish(counting.problems)
        if self._governor is not None or self._page is not None:
            answer = await self._answer_before(exchange)
            if answer is not None:
                counting.refuse(exchange)
                await _send_answer(answer, send, scope["method"])
                return
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            _ended(exchange, counting, error)
            raise
        else:
            if not exchange.closed:
                _ended(exchange, counting, None)
        finally:
            # Here, not when the last byte left: that may have been in a copy of this context.
            if exchange.outer is not None:
                exchange.retract()

    async def _answer_before(self, exchange: ASGIExchange) -> Answer | None:
        """What to send instead of the app's response; None lets it answer."""
        page = self._page
        if page is not None and exchange.path == page.path:
            return await in_thread(lambda: page.answer(exchange))
        governor = self._governor
        if governor is not None and governor.waits_for(exchange):
            return await in_thread(lambda: governor.stop(exchange))
        return None if governor is None else governor.stop(exchange)

    def _closing(self, send: Send) -> Send:
        async def closing_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                self._kit.close()  # some servers leave by a signal next, and no exit hook runs
            await send(message)

        return closing_send


class RawHeaders(Mapping[str, str]):
    """Headers as ASGI has them: pairs of bytes, in order; several of one name are joined with a comma."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """A header's value, or *default*. Mapping's own takes longer, and ``identify=`` calls this."""
        key = _KEYS.get(name) or _key_of(name)
        found = None
        for each, value in self._pairs:
            if each == key or (len(each) == len(key) and each.lower() == key):
                found = value if found is None else found + b", " + value
        return default if found is None else found.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})


def _key_of(name: str) -> bytes:
    key = name.lower().encode("latin-1", "replace")
    if len(_KEYS) >= MAX_NAMES:
        _KEYS.clear()
    _KEYS[name] = key
    return key


MAX_NAMES = 1000
"""Names of headers remembered. They stand in code; but who knows what code does."""

_KEYS: dict[str, bytes] = {}


async def _answer(endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
    payload = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        if len(payload) <= LARGEST_BYTES:  # what follows is read, and forgotten: a client listens when it has said all
            payload += message.get("body", b"")
    signature = RawHeaders(scope["headers"]).get("stripe-signature")
    answer = await in_thread(lambda: endpoint.answer(scope["method"], bytes(payload), signature))
    await _send_answer(answer, send, scope["method"])


async def _send_answer(answer: Answer, send: Send, method: str) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


def _ended(exchange: ASGIExchange, counting: Counting, error: BaseException | None) -> None:
    """The app returned or raised; what is not complete by now never will be."""
    if exchange.closed:
        return
    if not exchange.status:
        exchange.find_route()
    client_left = exchange.gone or _is_cancellation(error)
    if client_left and (exchange.status or error is None):
        counting.close(exchange)
    else:
        counting.broke(exchange)


def _is_cancellation(error: BaseException | None) -> bool:
    # trio's is known by its name: only who uses trio has it installed.
    return isinstance(error, CancelledError | GeneratorExit) or type(error).__name__ == "Cancelled"
