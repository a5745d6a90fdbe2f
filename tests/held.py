"""
Time-outs at Stripe that depend on no clock: a request times out when the sandbox is holding it, and only then.

Who holds and who waits may be in different processes, so they tell each other by files, one for each held connection.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import httpcore

from meterkit.sandbox.faults import Fault
from meterkit.sandbox.server import Server
from meterkit.stripe_api import transport

LOOKS = 0.01
"""Seconds between two looks at whether a request is held."""

_here = threading.local()


def tell_what_is_held(directory: Path, *kinds: str, put=setattr) -> None:
    """Let sandboxes in this process tell of the requests that faults of these *kinds* hold without an end in sight."""
    hold, serve = Fault.hold, Server.process_request_thread

    def serve_and_know_whom(server, request, client_address):
        _here.port = client_address[1]
        serve(server, request, client_address)

    def tell_and_hold(fault):
        if fault.kind in kinds and fault.seconds is None:
            told = directory / str(_here.port)
            told.touch()
            hold(fault)
            told.unlink()
        else:
            hold(fault)

    put(Server, "process_request_thread", serve_and_know_whom)
    put(Fault, "hold", tell_and_hold)


def time_out_when_held(directory: Path, put=setattr) -> None:
    """Let meterkit's requests, in this process, time out as soon as they are held, and wait without an end if not."""
    trace = transport.HTTPXClient._trace

    def trace_and_listen(client, event, about):
        trace(client, event, about)
        if event == "connection.connect_tcp.complete":
            line = about["return_value"]
            _, port = line.get_extra_info("client_addr")
            line.read = partial(_read, line.read, directory / str(port))

    put(transport.HTTPXClient, "_trace", trace_and_listen)


def _read(read, held: Path, max_bytes: int, timeout: float | None = None) -> bytes:
    while True:
        try:
            return read(max_bytes, timeout=LOOKS)
        except httpcore.ReadTimeout:
            if held.exists():
                raise
