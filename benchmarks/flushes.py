"""
How many flushes a ledger handles, from processes that do nothing else, each with its own customers.

    python -m benchmarks.flushes                        SQLite
    python -m benchmarks.flushes postgresql+psycopg://… this database, which should be empty
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import uuid

HOUR = 3600
SECONDS = 5.0
"""How long each combination is measured."""

READY_SECONDS = 6.0
"""The time in which all processes start and connect."""


def host(ledger: str, rows: int, begin: float) -> int:
    """Flush *rows* customers repeatedly for `SECONDS`, starting at *begin*; return how often."""
    from meterkit.core.usage_key import Counted
    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger

    mine = uuid.uuid4().hex
    now = int(time.time())
    kept = Ledger(Database(ledger), clock=time.time)
    cells: list[Counted] = [(("calls", "calls", f"{mine}-{n}", "", now - now % HOUR), 1, now) for n in range(rows)]
    kept.fold(uuid.uuid4().hex, cells)  # connects, and writes the rows that later folds update
    times = 0
    time.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + SECONDS:
        kept.fold(uuid.uuid4().hex, cells)
        times += 1
    return times


def measure(ledger: str, *, hosts: int, rows: int) -> float:
    """Flushes per second, of all processes together."""
    with multiprocessing.get_context("spawn").Pool(hosts) as pool:
        times = pool.starmap(host, [(ledger, rows, time.time() + READY_SECONDS)] * hosts)
    return sum(times) / SECONDS


def main() -> None:
    """Measure the ledger that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flushes", description=__doc__)
    parser.add_argument("ledger", nargs="?", help="a database URL, as for MeterKit; a new SQLite file by default")
    given = parser.parse_args().ledger
    ledger = given or f"sqlite:///{tempfile.mkdtemp(prefix='meterkit-benchmark-')}/ledger.sqlite"
    print("| processes | customers per flush | flushes/s | rows/s |")
    print("|---|---|---|---|")
    for hosts in (1, 8):
        for rows in (10, 500):
            flushes = measure(ledger, hosts=hosts, rows=rows)
            print(f"| {hosts} | {rows} | {flushes:,.0f} | {2 * rows * flushes:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
