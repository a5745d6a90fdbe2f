"""
What metering costs in a proxy: the app itself, a proxy that does not meter, and ``meterkit proxy``, in turns.

    python -m benchmarks.proxy [--rounds 5] [--seconds 4]

The proxies have a core of their own; the app shares the other with the clients. The CPU time is that of the process
that answers the clients, with its flusher; it says more than the rate on a machine that is busy.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import clients
from benchmarks.clients import Address, Load
from benchmarks.stacks import PATH

COMPANIES = 1_000
"""Companies that ask in turn."""

UPSTREAM = "BENCHMARK_UPSTREAM"

APP = "benchmarks.served_app:make_asgi"
VARIANTS = {"the app itself": APP, "proxy": "benchmarks.proxy:plain", "proxy, metered": "benchmarks.proxy:metered"}


def plain() -> Any:
    """The proxy without a kit."""
    from meterkit.proxy import Proxy

    return Proxy(os.environ[UPSTREAM])


def metered() -> Any:
    """The proxy as the command runs it."""
    from meterkit import Meter, MeterKit
    from meterkit.asgi import MeterMiddleware

    kit = MeterKit(
        meters=[Meter("credit_score", path=PATH, method="POST", status=200)],
        identify=lambda exchange: exchange.headers.get("x-company"),
        data_dir=tempfile.mkdtemp(prefix="meterkit-benchmark-"),
        stripe_key="sk_test_x",
    )
    return MeterMiddleware(plain(), kit)


@contextmanager
def serving(factory: str, core: int, environment: dict[str, str]) -> Iterator[tuple[Address, int]]:
    """Serve what *factory* makes on one of the cores; the address, and the pid."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        options = ["--fd", str(listener.fileno()), "--http", "h11", "--no-access-log", "--log-level", "error"]
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *options, "--factory", factory],
            env={**os.environ, **environment},
            pass_fds=[listener.fileno()],
        )
        try:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {sorted(os.sched_getaffinity(0))[core]})
            yield listener.getsockname(), process.pid
        finally:
            process.terminate()
            process.wait()


def busy(pid: int) -> float:
    """CPU time of a process, seconds."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(*, rounds: int, seconds: float) -> dict[str, list[tuple[Load, float]]]:
    """What clients of each variant saw in each round after the first, and the CPU time per request, seconds."""
    found: dict[str, list[tuple[Load, float]]] = {name: [] for name in VARIANTS}
    with ExitStack() as stack:
        app = stack.enter_context(serving(APP, 0, {"BENCHMARK_VARIANT": "bare"}))
        upstream = {UPSTREAM: f"http://127.0.0.1:{app[0][1]}"}
        served = {
            name: app if factory == APP else stack.enter_context(serving(factory, -1, upstream))
            for name, factory in VARIANTS.items()
        }
        for number in range(rounds + 1):
            for name, (address, pid) in served.items():
                before = busy(pid)
                load = clients.saturated(address, companies=COMPANIES, seconds=seconds)
                if number:
                    found[name].append((load, (busy(pid) - before) / (load.per_second * seconds)))
    return found


def table(found: dict[str, list[tuple[Load, float]]]) -> str:
    """The medians, as Markdown."""
    rows = ["| | requests/s | p99, ms | CPU time per request, µs |", "|---|---|---|---|"]
    for name, loads in found.items():
        rate = median([load.per_second for load, _ in loads])
        p99 = median([load.p99 for load, _ in loads])
        cpu = median([each for _, each in loads]) * 1e6
        rows.append(f"| {name} | {rate:,.0f} | {p99:.1f} | {cpu:,.0f} |")
    return "\n".join(rows)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each variant")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is")
    arguments = parser.parse_args()
    print(table(measure(rounds=arguments.rounds, seconds=arguments.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
