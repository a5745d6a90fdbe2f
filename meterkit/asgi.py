"""
Faces: the middleware for any ASGI app; Starlette and FastAPI publish their route templates to it.

It hands on every message as the app made it, and counts just before the one that completes the response.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from meterkit.counting import MARK, Counting, counting_of
from meterkit.endpoint import LARGEST_BYTES, Endpoint, endpoint_of, in_thread
from meterkit.exchange import Exchange
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
    """

    __slots__ = ("_response_headers", "_templates", "gone")

    def __init__(self, scope: Scope, templates: Templates) -> None:
        super().__init__(scope["method"], scope["path"], scope)
        self._templates = templates
        self._response_headers: Iterable[tuple[bytes, bytes]] = ()
        self.gone = False
        """The client is: the server said so, or could not send."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return RawHeaders(self.native["headers"] if self.native else ())

    @property
    def response_headers(self) -> Mapping[str, str]:
        """The response's headers."""
        return RawHeaders(self._response_headers)

    def known_routes(self) -> Iterable[str] | None:
        """The templates of the outermost router, and of what it mounts and includes."""
        return self._templates.known(self.native)

    def start(self, message: Message) -> Message:
        """Take down the status, the headers and the route. Answers the message to send on."""
        headers = message.get("headers", ())
        if not isinstance(headers, list | tuple):
            headers = list(headers)  # it may be readable but once
            message = {**message, "headers": headers}
        self.status = message["status"]
        self._response_headers = headers
        self.find_route()
        return message

    def find_route(self) -> None:
        """Ask the app's router which template it matched."""
        self.route = self._templates.matched(self.native)


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
        self._counting = counting_of(kit)
        self._endpoint = endpoint_of(kit)
        self._templates = Templates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            send = self._closing(send)
        if scope["type"] != "http" or (MARK in scope and self._counting.counts_already(scope[MARK])):
            await self.app(scope, receive, send)
            return
        if self._endpoint is not None and scope["path"] == self._endpoint.path:
            await _answer(self._endpoint, scope, receive, send)
            return
        counting = self._counting
        exchange = scope[MARK] = ASGIExchange(scope, self._templates)
        counting.open(exchange)
        try:
            await self.app(scope, _observed(receive, exchange), _metered(send, exchange, counting))
        except BaseException as error:
            _ended(exchange, counting, error)
            raise
        else:
            _ended(exchange, counting, None)
        finally:
            # Here, not when the last byte left: that may have been in a copy of this context.
            exchange.retract()

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
        key = name.lower().encode("latin-1", "replace")
        values = [value for each, value in self._pairs if each == key or each.lower() == key]
        if not values:
            raise KeyError(name)
        return b", ".join(values).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})


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
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _observed(receive: Receive, exchange: ASGIExchange) -> Receive:
    async def observed_receive() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.gone = True
        return message

    return observed_receive


def _metered(send: Send, exchange: ASGIExchange, counting: Counting) -> Send:
    async def metered_send(message: Message) -> None:
        if not exchange.closed:
            kind = message["type"]
            if kind == "http.response.start":
                try:
                    message = exchange.start(message)
                except Exception as error:
                    counting.internal(error)
                if exchange.status >= 200:  # not a 103, after which the real one comes
                    counting.chunk(exchange, b"")  # servers send the start at once, and it may be all there is
            elif not exchange.status:
                pass  # what comes before the start is the app's mistake, and the server's to tell
            elif kind == "http.response.body":
                counting.chunk(exchange, message.get("body", b""), last=not message.get("more_body", False))
            elif kind == "http.response.pathsend" or (
                kind == "http.response.zerocopysend" and not message.get("more_body", False)
            ):
                counting.sendfile(exchange)
        try:
            await send(message)
        except BaseException:
            exchange.gone = True
            raise

    return metered_send


def _ended(exchange: ASGIExchange, counting: Counting, error: BaseException | None) -> None:
    """The app returned or raised; what is not complete by now never will be."""
    if exchange.closed:
        return
    if not exchange.status:
        try:
            exchange.find_route()
        except Exception as trouble:
            counting.internal(trouble)
    client_left = exchange.gone or _is_cancellation(error)
    if client_left and (exchange.status or error is None):
        counting.close(exchange)
    else:
        counting.broke(exchange)


def _is_cancellation(error: BaseException | None) -> bool:
    # trio's is known by its name: only who uses trio has it installed.
    return isinstance(error, CancelledError | GeneratorExit) or type(error).__name__ == "Cancelled"
