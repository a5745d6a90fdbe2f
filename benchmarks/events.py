"""
Usage events per second through ``POST /v1/events``, beside a bare ASGI app that only parses and answers, in one run.

    python -m benchmarks.events [--batch 100] [--batches 300] [--rounds 5] [--page docs/events.md]

Both are served by one worker of uvicorn. A client sends batches over one connection, each event with an id of its own,
in rounds that take turns; the median round of each counts. Then the fold of as many keyed records as there are in a
large flush is timed, of new keys, of known ones, and of many companies.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

KEY = "the-key-of-the-benchmark"
COMPANIES = 1_000
KEYS = 100_000
BEGIN, END = "<!-- events: begin -->", "<!-- events: end -->"


def make_app(directory: str) -> Any:
    """The service, or for ``/bare`` an app that parses and answers."""
    from meterkit import Meter, MeterKit
    from meterkit.service import Service

    kit = MeterKit(meters=[Meter("tokens", event_type="prompt", value="$.tokens")], data_dir=directory)
    service = Service(kit, keys={"bench": KEY})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/bare":
            await service(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = json.dumps({"accepted": len(json.loads(body))}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def _serve(listening: socket.socket, directory: str) -> None:
    import uvicorn

    config = uvicorn.Config(make_app(directory), interface="asgi3", log_level="error")
    uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def served() -> Iterator[int]:
    """Serve in another process; yields the port."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # as meterkit serve does
    with tempfile.TemporaryDirectory() as directory, listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listening, directory))
        process.start()
        try:
            yield listening.getsockname()[1]
        finally:
            process.terminate()
            process.join()


def _bodies(first: int, batch: int, batches: int) -> list[bytes]:
    return [
        json.dumps(
            [
                {
                    "specversion": "1.0",
                    "id": f"0b9cf3f4-7c34-4d21-9f3a-{number:012}",
                    "source": "bench",
                    "type": "prompt",
                    "subject": f"company-{number % COMPANIES}",
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "data": {"tokens": 120, "model": "large"},
                }
                for number in range(first + start * batch, first + start * batch + batch)
            ]
        ).encode()
        for start in range(batches)
    ]


def _rate(client: http.client.HTTPConnection, path: str, bodies: list[bytes], batch: int) -> float:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents-batch+json"}
    begun = time.perf_counter()
    for body in bodies:
        while True:
            client.request("POST", path, body=body, headers=headers)
            response = client.getresponse()
            said = response.read()
            if response.status == 202:
                break
            assert response.status == 503, said  # no room for a moment: as a client would, send it again
    return len(bodies) * batch / (time.perf_counter() - begun)


def rates(batch: int, batches: int, rounds: int) -> dict[str, float]:
    """Events per second of the bare app and of the service; medians."""
    found: dict[str, list[float]] = {"/bare": [], "/v1/events": []}
    with served() as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(rounds + 1):
            for path, each in found.items():
                each.append(_rate(client, path, _bodies(number * batch * batches, batch, batches), batch))
        client.close()
    return {path: median(each[1:]) for path, each in found.items()}  # the first round imports and grows files


def folds() -> dict[str, float]:
    """Seconds that the fold of many keyed records takes, and their pruning."""
    from meterkit import Meter, MeterKit

    found = {}
    for name, companies in {"new keys of 1,000 companies": 1_000, "new keys of 100,000 companies": KEYS}.items():
        with tempfile.TemporaryDirectory() as directory:
            now = time.time()
            offset = [0.0]
            kit = MeterKit(
                meters=[Meter("tokens")],
                data_dir=directory,
                flush_interval=3600,
                clock=lambda now=now, offset=offset: now + offset[0],  # type: ignore[misc]
            )
            for what in (name, name.replace("new", "known")):
                for number in range(KEYS):
                    kit.record("tokens", f"company-{number % companies}", 3, key=f"job-{number:032}")
                begun = time.perf_counter()
                kit.flush()
                found[what] = time.perf_counter() - begun
            offset[0] = 36 * 24 * 3600.0
            kit.record("tokens", "company-0")
            kit.flush()
            begun = time.perf_counter()
            kit.close()
            found[name.replace("new keys", "pruning keys")] = time.perf_counter() - begun
    return found


def table(batch: int, found: dict[str, float], single: dict[str, float], folded: dict[str, float]) -> str:
    """The results as Markdown."""
    rows = ["| Events per second, one worker | Bare ASGI app | The service | Ratio |", "|---|---|---|---|"]
    for name, each in ((f"in batches of {batch}", found), ("one by one", single)):
        bare, service = each["/bare"], each["/v1/events"]
        rows.append(f"| {name} | {bare:,.0f} | {service:,.0f} | {service / bare:.2f} |")
    rows += ["", f"| Flush of {KEYS:,} keyed records, SQLite | Seconds |", "|---|---|"]
    rows += [f"| {name} | {seconds:.1f} |" for name, seconds in folded.items()]
    return "\n".join(rows)


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--batch", type=int, default=100, help="events in a request")
    parser.add_argument("--batches", type=int, default=200, help="requests in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="the page to write the table into")
    arguments = parser.parse_args()
    found = rates(arguments.batch, arguments.batches, arguments.rounds)
    single = rates(1, 5 * arguments.batches, arguments.rounds)
    text = table(arguments.batch, found, single, folds())
    print(text)
    if arguments.page:
        before, _, rest = arguments.page.read_text().partition(BEGIN)
        arguments.page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
