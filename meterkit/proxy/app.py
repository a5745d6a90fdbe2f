"""`Proxy`: an ASGI app that passes everything on to another app."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

from meterkit.asgi import ASGIExchange, exchange_of
from meterkit.core.problems import Problems
from meterkit.errors import ConfigurationError
from meterkit.proxy.failures import BrokenResponseError, Failure, send_failure
from meterkit.proxy.headers import COMPANY, Rules, request_head
from meterkit.proxy.relay import Limits, Receive, Relay, Send
from meterkit.proxy.upstream import Pool, address_of


class Proxy:
    """
    A streaming reverse proxy as an ASGI app, with nothing of billing in it: ``MeterMiddleware(Proxy(upstream), kit)``.

    For servers that run asyncio. Bodies are never held; both directions are passed on at once, and each side waits for
    the other. No redirect is followed, no cookie is kept, nothing is decompressed, and no proxy of the environment is
    used.

    Args:
        upstream: Where the app is: ``http://127.0.0.1:3000``, ``https://app.example`` or ``unix:/run/app.sock``.
        rewrite_host: Whether the app gets a ``Host`` header that names *upstream*, and not the client's own.
        trust_forwarded: Whether a front server has set ``X-Forwarded-For``, ``-Proto`` and ``-Host``, so that they are
            kept. Otherwise they are replaced, because a client could have written them.
        pass_underscores: Whether request headers with an underscore in their name are passed on. Otherwise they are
            dropped, because WSGI and PHP apps read ``X_Api_Key`` as ``X-Api-Key``, and meterkit does not.
        usage_headers: Whether usage that the app tells in ``X-Meterkit-Usage: tokens=12`` is counted. Such response
            headers are removed.
        company_header: Whether the app is told who pays, in the request header ``X-Meterkit-Company``.
        uncompressed: Whether the app is asked not to compress responses: a client must not be able to choose that a
            meter with `response_json` cannot read them.
        connect_timeout: Seconds until a connection is made.
        first_byte_timeout: Seconds until the response begins, once the request is sent.
        idle_timeout: Seconds without a byte, in either direction, after which a request is given up.
        max_connections: Connections to the app at a time, in this process; a request beyond gets a 503.
        keep_alive: Seconds for which an idle connection is kept, less than the app keeps it; 0 to keep none.
        tls: Context for an upstream with ``https``; by default, the system's authorities are trusted.

    Raises:
        ConfigurationError: An argument is wrong; the message says how to correct it.
    """

    def __init__(
        self,
        upstream: str,
        *,
        rewrite_host: bool = False,
        trust_forwarded: bool = False,
        pass_underscores: bool = False,
        usage_headers: bool = False,
        company_header: bool = False,
        uncompressed: bool = False,
        connect_timeout: float = 10.0,
        first_byte_timeout: float = 600.0,
        idle_timeout: float = 300.0,
        max_connections: int = 1000,
        keep_alive: float = 4.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        seconds = {"connect": connect_timeout, "first_byte": first_byte_timeout, "idle": idle_timeout}
        for name, value in seconds.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigurationError(f"{name}_timeout= must be a positive number of seconds, not {value!r:.100}")
        if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float) or not keep_alive >= 0:
            raise ConfigurationError(f"keep_alive= must be a number of seconds, not {keep_alive!r:.100}")
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ConfigurationError(f"max_connections= must be a positive number, not {max_connections!r:.100}")
        self.address = address_of(upstream)
        self._pool = Pool(
            self.address, most=max_connections, connect_timeout=connect_timeout, keep_alive=keep_alive, context=tls
        )
        self._rules = Rules(
            self.address.authority,
            rewrites_host=rewrite_host,
            trusts_forwarded=trust_forwarded,
            passes_underscores=pass_underscores,
            asks_uncompressed=uncompressed,
        )
        self._limits = Limits(first_byte=first_byte_timeout, idle=idle_timeout)
        self._usage_headers = usage_headers
        self._company_header = company_header
        self._problems = Problems()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """
        Serve one connection.

        Raises:
            BrokenResponseError: The app's response ended too early. The server then breaks off the client's, too.
        """
        if scope["type"] == "http":
            await self._serve_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)

    async def reaches_app(self) -> bool:
        """Return whether a connection to the app can be made."""
        try:
            connection = await self._pool.connect()
        except Failure as failure:
            self._note(failure.reason, failure.cause, None)
            return False
        connection.abort()
        return True

    async def _serve_http(self, scope: Any, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        try:
            head = request_head(scope, self._rules)
            company = await self._company(exchange)
            if company is not None:
                head.headers.append((COMPANY, company))
            relay = Relay(
                head,
                self._pool,
                self._limits,
                receive,
                send,
                exchange=exchange,
                hides_usage=self._usage_headers,
            )
            await relay.run()
        except Failure as failure:
            self._note(failure.reason, failure.cause, exchange)
            await send_failure(failure, send, scope["method"])
        except BrokenResponseError as error:
            self._note("upstream_broken", f"{error}; the client's response was broken off, too", exchange)
            raise

    async def _serve_websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            from meterkit.proxy import websocket
        except ImportError:
            message = "a WebSocket was refused: pip install 'meterkit[proxy]'"
            self._note("websockets_missing", message, None)
            await send({"type": "websocket.close", "code": 1011})
            return
        if (await receive())["type"] != "websocket.connect":
            return
        exchange = exchange_of(scope)
        refusal = None if exchange is None else await exchange.owner.decide_again(exchange, None)
        if refusal is not None:
            headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
            await websocket.refuse(scope, send, refusal.status, headers, refusal.body)
            return
        try:
            await websocket.relay(
                scope,
                receive,
                send,
                pool=self._pool,
                rules=self._rules,
                company=await self._company(exchange),
                exchange=exchange,
                hides_usage=self._usage_headers,
            )
        except Failure as failure:
            self._note(failure.reason, failure.cause, exchange)
            await websocket.refuse_with(failure, scope, send)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._pool.close()
                await asyncio.sleep(0)  # for the transports to close
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _company(self, exchange: ASGIExchange | None) -> bytes | None:
        """Return who pays, as a header's value; None if that is unknown, or if the app is not told."""
        if not self._company_header or exchange is None:
            return None
        who = await exchange.owner.asked(exchange)
        return None if who is None else str(who.company).strip().encode()

    def _note(self, reason: str | None, message: str, exchange: ASGIExchange | None) -> None:
        """Count and log a problem with the app, in the kit's health where a middleware meters the request."""
        if reason is not None:
            problems = self._problems if exchange is None else exchange.owner.recorder.problems
            problems.note(reason, f"{self.address.text}: {message}", level=logging.ERROR)
