"""
The app that the faults befall: run as a program, configured from the environment, ended by the end of its input.

One port has three mounts: ``/bare`` is the app, ``/metered`` is the same app inside its middleware, and ``/control`` is
what a test asks of the kit. The log goes to stderr.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from dataclasses import asdict
from socketserver import ThreadingMixIn
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.util import shift_path_info

import httpx
from guard import GUARD

from meterkit import Meter, MeterKit, MeterKitError
from meterkit.core import problems
from meterkit.ledger import database
from meterkit.runtime import process
from meterkit.stripe_api import retry, transport
from meterkit.wsgi import MeterMiddleware

TIME = [float(os.environ.get("FAULTY_NOW", "0"))]
"""What the kit's clock says; a test moves it."""

# The same tries as ever, in less time; and no limit is reached because a machine is slow.
retry.MAX_WAIT = 0.01
transport.LONGEST_SECONDS = float(os.environ.get("FAULTY_STRIPE_SECONDS", GUARD))
transport.TIMEOUT = httpx.Timeout(transport.LONGEST_SECONDS, connect=GUARD)
database.PATIENCE = database.HURRY = process.STOP_SECONDS = problems.QUIET_SECONDS = GUARD

kit = MeterKit(
    customer_ids=True,
    meters=[Meter("calls")],
    identify=lambda exchange: exchange.headers.get("x-company-id"),
    flush_interval=float(os.environ.get("FAULTY_FLUSH_INTERVAL", "0.05")),
    clock=lambda: TIME[0],
)


def app(environ, start_response):
    """Answers whole, in pieces, with what it got, with an error of its own, and not at all."""
    path, plain = environ["PATH_INFO"], [("Content-Type", "text/plain"), ("X-App", "yes")]
    if path == "/boom":
        raise RuntimeError("the view is broken")
    if path == "/score":
        start_response("200 OK", plain)
        return [b"810"]
    if path == "/stream":
        start_response("200 OK", plain)
        return (chunk for chunk in (b"one,", b"two,", b"three"))
    if path == "/echo":
        start_response("201 Created", plain)
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]
    start_response("404 Not Found", plain)
    return [b"there is no " + path.encode()]


def move_clock(now):
    """Let the kit's clock say *now*."""
    TIME[0] = float(now)
    return {"now": TIME[0]}


def wait_for_locks(seconds):
    """From now on, wait so long for others that use the ledger."""
    kit.process().database().patience = float(seconds)
    return {"seconds": seconds}


CONTROLS = {
    "/health": kit.health,
    "/flush": lambda: {"error": kit.flush()},
    "/report": lambda: asdict(kit.report()),
    "/clock": move_clock,
    "/wait_for_locks": wait_for_locks,
}


def control(environ, start_response):
    """What a test asks of the kit, and the answer as JSON; an error of the kit's is an answer, too."""
    try:
        answer = CONTROLS[environ["PATH_INFO"]](**dict(parse_qsl(environ["QUERY_STRING"])))
    except MeterKitError as error:
        answer = {"error": str(error)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


MOUNTS = {"bare": app, "metered": MeterMiddleware(app, kit), "control": control}


def mounted(environ, start_response):
    """The app of the path's first segment."""
    return MOUNTS[shift_path_info(environ)](environ, start_response)


class Connection(WSGIRequestHandler):
    """One request; of a broken view nothing is said, because the log is the kit's."""

    def get_stderr(self):
        return io.StringIO()

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, and none of them holds up the end."""

    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with Server(("127.0.0.1", 0), Connection) as server:
        server.set_app(mounted)
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()
        serving.join()
