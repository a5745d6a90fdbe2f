"""
Latency, throughput and memory under real servers: one worker on one core, clients on another, in turns.

The saturated runs begin with the worker's first request, and again after its first flush. The paced run sends 500
requests a second, whether or not the previous one has been answered. In meterkit's runs, its flusher and reporter are
running, against a sandbox: in a process of its own on the worker's core, as a kit has it that sets nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks import clients
from benchmarks.clients import Address, Load
from meterkit.sandbox import Sandbox

COMPANIES = 1_000
"""Companies that ask in turn."""

MANY_COMPANIES = 10_000
"""Companies that have asked when a worker's memory is read."""

FIRST_SECONDS = 8.0
"""The first saturated run: long enough for a process to flush once, and so to import what that needs."""

SATURATED_SECONDS = 4.0
PACED_SECONDS = 12.0
"""More than two flush intervals."""

_UVICORN = "uvicorn --fd {fd} --no-access-log --log-level error --factory benchmarks.served_app:make_asgi"
_GUNICORN = "gunicorn --bind fd://{fd} --worker-class gthread --threads 4 --log-level error"

SERVERS = {
    "uvicorn": [sys.executable, "-m", *_UVICORN.split()],
    "gunicorn": [sys.executable, "-m", *_GUNICORN.split(), "benchmarks.served_app:make_wsgi()"],
}


@dataclass(frozen=True)
class Served:
    """
    What clients saw, and what became of the worker.

    Attributes:
        first: Saturated, from the first request on.
        settled: Saturated, after the first flush.
        paced_p99: 99th percentile of the latency, paced, milliseconds.
        first_byte: Milliseconds to the first byte of a stream.
        resident: Memory of the worker after many companies' requests, MiB.
        heavy: Number of modules for a database or Stripe that the worker has imported.
    """

    first: Load
    settled: Load
    paced_p99: float
    first_byte: float
    resident: float
    heavy: int


def measure(server: str, variants: list[str], *, rounds: int) -> dict[str, list[Served]]:
    """What clients of each variant saw, once in each of the rounds, in turns."""
    found: dict[str, list[Served]] = {variant: [] for variant in variants}
    with Sandbox() as sandbox:
        for _ in range(rounds):
            for variant in variants:
                with _serving(server, variant, sandbox) as address:
                    found[variant].append(_measured(address))
    return found


def _measured(address: Address) -> Served:
    clients.worker(address)  # the server has started; nothing has been counted
    first = clients.saturated(address, companies=COMPANIES, seconds=FIRST_SECONDS)
    settled = clients.saturated(address, companies=COMPANIES, seconds=SATURATED_SECONDS)
    paced = quantiles(clients.paced(address, companies=COMPANIES, seconds=PACED_SECONDS), n=100)
    first_byte = median([clients.first_byte(address) for _ in range(5)])
    clients.saturated(address, companies=MANY_COMPANIES, seconds=FIRST_SECONDS)
    worker = clients.worker(address)
    return Served(
        first=first,
        settled=settled,
        paced_p99=paced[98] * 1000,
        first_byte=first_byte * 1000,
        resident=worker["resident"] / (1 << 20),
        heavy=len(worker["heavy"]),
    )


@contextmanager
def _serving(server: str, variant: str, sandbox: Sandbox) -> Iterator[Address]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # for its connections: uvicorn knows no better
        environment = {
            **os.environ,
            "BENCHMARK_VARIANT": variant,
            "METERKIT_DATA_DIR": stack.enter_context(tempfile.TemporaryDirectory(prefix="meterkit-benchmark-")),
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
