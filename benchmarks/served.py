"""
Latency and throughput under real servers: one worker on one core, clients on another, in turns.

The paced run sends 500 requests a second, whether or not the previous one has been answered; the saturated run sends as
many as are answered. In meterkit's runs, its flusher and reporter are running, against a sandbox.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.stacks import PATH
from meterkit.sandbox import Sandbox

PACE = 500
PACED_SECONDS = 12.0
"""More than two flush intervals."""

SETTLED_SECONDS = 7.0
"""The time after which a process has flushed once, and so has imported what it needs."""

CLIENTS = 8
SATURATED_SECONDS = 2.0

_UVICORN = "uvicorn --fd {fd} --no-access-log --log-level error --factory benchmarks.served_app:make_asgi"
_GUNICORN = "gunicorn --bind fd://{fd} --worker-class gthread --threads 4 --log-level error"

SERVERS = {
    "uvicorn": [sys.executable, "-m", *_UVICORN.split()],
    "gunicorn": [sys.executable, "-m", *_GUNICORN.split(), "benchmarks.served_app:make_wsgi()"],
}


@dataclass(frozen=True)
class Served:
    """
    What clients saw.

    Attributes:
        p50: Milliseconds, paced.
        p99: Milliseconds, paced.
        per_second: Responses, saturated.
        first_byte: Milliseconds to the first byte of a stream.
    """

    p50: float
    p99: float
    per_second: float
    first_byte: float


def measure(server: str, variants: list[str], *, rounds: int) -> dict[str, list[Served]]:
    """What clients of each variant saw, once in each of the rounds, in turns."""
    found: dict[str, list[Served]] = {variant: [] for variant in variants}
    with Sandbox() as sandbox:
        for _ in range(rounds):
            for variant in variants:
                with _serving(server, variant, sandbox) as address:
                    _settle(address)
                    latencies = sorted(_paced(address))
                    cuts = quantiles(latencies, n=100)
                    found[variant].append(
                        Served(
                            p50=cuts[49] * 1000,
                            p99=cuts[98] * 1000,
                            per_second=_saturated(address),
                            first_byte=median([_first_byte(address) for _ in range(5)]) * 1000,
                        )
                    )
    return found


@contextmanager
def _serving(server: str, variant: str, sandbox: Sandbox) -> Iterator[tuple[str, int]]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # for its connections: uvicorn knows no better
        environment = {
            **os.environ,
            "BENCHMARK_VARIANT": variant,
            "METERKIT_STRIPE_BASE": sandbox.url,
            "STRIPE_SECRET_KEY": sandbox.api_key,
            "XDG_RUNTIME_DIR": stack.enter_context(tempfile.TemporaryDirectory()),  # gunicorn's control socket
        }
        process = subprocess.Popen(
            [word.format(fd=listener.fileno()) for word in SERVERS[server]],
            env=environment,
            pass_fds=[listener.fileno()],
        )
        try:
            if hasattr(os, "sched_setaffinity"):
                cores = sorted(os.sched_getaffinity(0))
                os.sched_setaffinity(process.pid, {cores[-1]})
            yield listener.getsockname()
        finally:
            process.terminate()
            process.wait()


class _Connection:
    """A client that keeps its connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Company: acme\r\nContent-Length: 0\r\n\r\n".encode()

    def ask(self) -> None:
        """Send a request, and read its answer."""
        self._socket.sendall(self._request)
        answer = b""
        while not answer.endswith(b"}"):
            piece = self._socket.recv(65536)
            assert piece, "the server hung up"
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        self._socket.close()


def _settle(address: tuple[str, int]) -> None:
    client = _Connection(address)
    end = time.monotonic() + SETTLED_SECONDS
    while time.monotonic() < end:
        client.ask()
        time.sleep(0.01)
    client.close()


def _paced(address: tuple[str, int]) -> list[float]:
    """Seconds from when each request was due to when it was answered: what a client waits who does not wait in line."""
    latencies: list[float] = []
    begin = time.perf_counter() + 0.05
    number = iter(range(int(PACE * PACED_SECONDS)))

    def send() -> None:
        client = _Connection(address)
        for mine in number:  # each takes the next that is due
            due = begin + mine / PACE
            time.sleep(max(0.0, due - time.perf_counter()))
            client.ask()
            latencies.append(time.perf_counter() - due)
        client.close()

    _together(send, 4)
    return latencies


def _saturated(address: tuple[str, int]) -> float:
    """Responses per second."""
    counts: list[int] = []
    end = time.perf_counter() + SATURATED_SECONDS

    def send() -> None:
        client, count = _Connection(address), 0
        while time.perf_counter() < end:
            client.ask()
            count += 1
        counts.append(count)
        client.close()

    _together(send, CLIENTS)
    return sum(counts) / SATURATED_SECONDS


def _first_byte(address: tuple[str, int]) -> float:
    """Seconds until the first byte of a stream's body."""
    with socket.create_connection(address, timeout=30) as client:
        begun = time.perf_counter()
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while b"xxx" not in answer:
            piece = client.recv(65536)
            assert piece, "the server hung up"
            answer += piece
        return time.perf_counter() - begun


def _together(work: object, times: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(times)]  # type: ignore[arg-type]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
