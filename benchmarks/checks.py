"""
How long ``/v1/check`` takes while usage events come in, beside a bare route of Starlette in the same process.

    python -m benchmarks.checks [--seconds 10] [--events 200]

One worker of uvicorn serves both. A client asks for one and the other in turn, over one connection; meanwhile another
process sends events, so many per second, whether or not the previous one has been answered.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import quantiles
from typing import Any

KEY = "the-key-of-the-benchmark"

HEADERS = {
    "X-Meterkit-Key": KEY,
    "X-Original-URI": "/v1/scores?person=ada",
    "X-Original-Method": "POST",
    "X-Api-Key": "key-of-acme",
    "User-Agent": "benchmark",
    "Accept": "*/*",
}

COMPANIES = 1_000


def make_app(directory: str) -> Any:
    """The service, and a bare route beside it."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    from meterkit import Governance, Meter, MeterKit, Quota
    from meterkit.service import Service

    scores = Meter("scores", path="/v1/scores", method="POST")
    kit = MeterKit(
        meters=[scores, Meter("events", event_type="score")],
        identify=lambda exchange: exchange.headers.get("x-api-key"),
        governance=Governance(quotas=[Quota(scores, 1_000_000)], rate_limit_headers=True),
        data_dir=directory,
    )
    for number in range(COMPANIES):
        kit.record(scores, f"company{number}", 1)
    kit.flush()

    async def bare(_request: Any) -> Response:
        return Response(b'{"allowed": true, "company": "acme"}', media_type="application/json")

    service = Service(kit, keys={"gateway": KEY})
    service.start()
    return Starlette(routes=[Route("/bare", bare), Mount("/", service)])


def serve(directory: str, listener: socket.socket) -> None:
    """Serve in this process."""
    import uvicorn

    config = uvicorn.Config(make_app(directory), access_log=False, log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


def send_events(port: int, per_second: int, told: Any) -> None:
    """Send events until the process ends; tell whether they were taken."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    begun, sent = time.monotonic(), 0
    while True:
        event = {
            "specversion": "1.0",
            "id": f"{begun}-{sent}",
            "source": "gateway",
            "type": "score",
            "subject": "acme",
        }
        headers = {"Content-Type": "application/cloudevents+json", "X-Meterkit-Key": KEY}
        connection.request("POST", "/v1/events", json.dumps(event), headers)
        response = connection.getresponse()
        response.read()
        sent += 1
        told.value = response.status
        time.sleep(max(0.0, begun + sent / per_second - time.monotonic()))


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Any:
    """Run *target* in a process of its own."""
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    child.start()
    try:
        yield
    finally:
        child.kill()
        child.join()


def measure(*, seconds: float, events: int) -> dict[str, Any]:
    """
    Measure once.

    Returns:
        ``bare`` and ``check``: microseconds of each request; ``events``: the status of the last event, 0 for none.
    """
    found: dict[str, list[float]] = {"bare": [], "check": []}
    told = multiprocessing.get_context("spawn").Value("i", 0)
    with tempfile.TemporaryDirectory() as directory, _listening() as listener:
        port = listener.getsockname()[1]
        with process(serve, directory, listener):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            paths = {"bare": "/bare", "check": "/v1/check"}
            for path in paths.values():
                _ask(connection, path)
            with process(send_events, port, events, told) if events else _nothing():
                while events and not told.value:
                    threading.Event().wait(0.05)
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    for name, path in paths.items():
                        found[name].append(_ask(connection, path))
            connection.close()
        return {**found, "events": told.value}


def _listening() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # as meterkit serve does
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def _ask(connection: http.client.HTTPConnection, path: str) -> float:
    begun = time.perf_counter()
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
    return (time.perf_counter() - begun) * 1e6


@contextmanager
def _nothing() -> Any:
    yield


def shown(found: dict[str, Any]) -> str:
    """The figures, as lines for the terminal."""
    lines = []
    percentiles = {name: quantiles(found[name], n=100) for name in ("bare", "check")}
    for name, at in percentiles.items():
        lines.append(f"{name:6} p50 {at[49]:7.0f} µs   p99 {at[98]:7.0f} µs   ({len(found[name]):,} requests)")
    bare, check = percentiles["bare"], percentiles["check"]
    lines.append(f"check / bare: p50 {check[49] / bare[49]:.2f}, p99 {check[98] / bare[98]:.2f}")
    lines.append(f"events meanwhile: last status {found['events']}" if found["events"] else "no events meanwhile")
    return "\n".join(lines)


def main() -> int:
    """Measure without and with events."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="length of each run")
    parser.add_argument("--events", type=int, default=200, help="events per second in the second run")
    arguments = parser.parse_args()
    for events in (0, arguments.events):
        print(shown(measure(seconds=arguments.seconds, events=events)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
