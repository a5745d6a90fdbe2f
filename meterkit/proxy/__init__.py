"""
A streaming reverse proxy, for an app that cannot be changed: ``meterkit proxy billing:kit --upstream http://...``.

`Proxy` is an ASGI app without any billing; `meterkit.asgi.MeterMiddleware` around it meters and governs what passes::

    app        answer a connection: an HTTP request, a WebSocket, the server's start and stop
    relay      pass one request and its response on, in both directions at once, and never hold a body
    websocket  pass a WebSocket on
    headers    what of a request and a response is passed on, and what is added
    upstream   the address of the app, and the connections to it that are kept
    connection one of them: HTTP/1.1 by h11, back-pressure, time limits
    failures   what the client gets if the app cannot be reached, or answers nonsense
    told       the usage that the app tells in its response headers
    options    the options of the command
    uvicorn    serve it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterkit.proxy.app import Proxy

__all__ = ["Proxy"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "Proxy":  # the command line needs the options alone, and nothing of asyncio
            from meterkit.proxy.app import Proxy

            return Proxy
        raise AttributeError(f"module 'meterkit.proxy' has no attribute {name!r}")
