"""
How many flushes a ledger takes: processes that do nothing else, each with other customers.

    python -m benchmarks.flushes                        SQLite
    python -m benchmarks.flushes postgresql+psycopg://… that database, which should be empty
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import uuid

HOUR = 3600
SECONDS = 5.0
"""For so long each combination is measured."""

READY_SECONDS = 6.0
"""By then, all processes have started and connected."""


def host(ledger: str, rows: int, begin: float) -> int:
    """Flush so many customers again and again, from then on for `SECONDS`; answer how often."""
    from meterkit.core.usage_key import Counted
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger

    mine = uuid.uuid4().hex
    now = int(time.time())
    kept = Ledger(Database(ledger), clock=time.time)
    cells: list[Counted] = [(("calls", "calls", f"{mine}-{n}", "", now - now % HOUR), 1, now) for n in range(rows)]
    kept.fold(uuid.uuid4().hex, cells)  # connects, and writes the rows that the others then find
    times = 0
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + SECONDS:
        kept.fold(uuid.uuid4().hex, cells)
        times += 1
    return times


def measure(ledger: str, *, hosts: int, rows: int) -> float:
    """Flushes a second of all together."""
    with multiprocessing.get_context("spawn").Pool(hosts) as pool:
        times = pool.starmap(host, [(ledger, rows, time.time() + READY_SECONDS)] * hosts)
    return sum(times) / SECONDS


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flushes", description=__doc__)
    parser.add_argument("ledger", nargs="?", help="as MeterKit takes it; a new SQLite file by default")
    given = parser.parse_args().ledger
    ledger = given or f"sqlite:///{tempfile.mkdtemp(prefix='meterkit-benchmark-')}/ledger.sqlite"
    print("| processes | customers of a flush | flushes/s | rows/s |")
    print("|---|---|---|---|")
    for hosts in (1, 8):
        for rows in (10, 500):
            flushes = measure(ledger, hosts=hosts, rows=rows)
            print(f"| {hosts} | {rows} | {flushes:,.0f} | {2 * rows * flushes:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
