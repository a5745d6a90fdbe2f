"""
The app that the real servers serve, as WSGI and as ASGI, with a kit that the environment configures.

``/`` is metered, for the company in ``X-Company``: ``/?gate`` answers when the test lets it, ``/?hang`` never.
``/health`` is what the kit of the answering process says of itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket

import meterkit.asgi
import meterkit.wsgi
from meterkit import Meter, MeterKit
from meterkit.ledger import database


def gate_address() -> tuple[str, int]:
    host, _, port = os.environ["SERVED_GATE"].rpartition(":")
    return host, int(port)


database.PATIENCE = float(os.environ.get("SERVED_LEDGER_SECONDS", database.PATIENCE))
kit = MeterKit(
    customer_ids=True,
    meters=[Meter("calls", path="/")],
    identify=lambda exchange: exchange.headers.get("x-company"),
    flush_interval=0.2,
)

if "SERVED_AT_IMPORT" in os.environ:
    # The worst that a preloaded app can do: its master has a journal and threads when it forks.
    kit.record("calls", os.environ["SERVED_AT_IMPORT"])


if "SERVED_SAYS_UP" in os.environ:
    socket.create_connection(gate_address()).close()


def wait_at_the_gate() -> None:
    """Tell the test that this request is being served, and go on when it hangs up."""
    with socket.create_connection(gate_address()) as gate:
        gate.recv(1)


def hang() -> None:
    """Tell the test that this request is being served, and stop the whole process: nobody gets the GIL again."""
    with socket.create_connection(gate_address()):
        while True:
            ctypes.PyDLL(None).pause()


def head_and_body(path: str) -> tuple[list[tuple[str, str]], bytes]:
    body = json.dumps(kit.health()).encode() if path == "/health" else b"ok"
    return [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("X-Worker", str(os.getpid()))], body


def plain_wsgi(environ, start_response):
    if environ["QUERY_STRING"] == "gate":
        wait_at_the_gate()
    elif environ["QUERY_STRING"] == "hang":
        hang()
    head, body = head_and_body(environ["PATH_INFO"])
    start_response("200 OK", head)
    return [body]


async def plain_asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if scope["query_string"] == b"gate":
        reader, writer = await asyncio.open_connection(*gate_address())
        await reader.read()
        writer.close()
    head, body = head_and_body(scope["path"])
    headers = [(name.lower().encode(), value.encode()) for name, value in head]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def live(receive, send):
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


wsgi = meterkit.wsgi.MeterMiddleware(plain_wsgi, kit)
asgi = meterkit.asgi.MeterMiddleware(plain_asgi, kit)
