"""
What it saves to add the counts of several processes in one transaction, in one process and on one connection at a time.

    python -m benchmarks.folds                        SQLite
    python -m benchmarks.folds postgresql+psycopg://… this database, which should be empty
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator

from meterkit.core.usage_key import Counted
from meterkit.ledger.database import Database
from meterkit.ledger.ledger import Ledger

HOUR = 3600
CUSTOMERS = 20_000
"""Customers that all processes have in common. The top tenth makes nine tenths of the requests."""

ROUNDS = 7


def generations(number: int, rows: int, chance: random.Random) -> Iterator[list[Counted]]:
    """Yield what *number* processes count between two flushes, each of *rows* customers."""
    now = int(time.time())
    for _ in range(number):
        seen: set[int] = set()
        while len(seen) < rows:
            seen.add(chance.randrange(CUSTOMERS // 10 if chance.random() < 0.9 else CUSTOMERS))
        yield [(("calls", "calls", f"customer-{each}", "", now - now % HOUR), 1, now) for each in seen]


def ratio(ledger: Ledger, *, together: int, rows: int) -> float:
    """Return how many times as long *together* generations take one by one; the two take turns."""
    chance = random.Random(1)
    ratios = []
    for _ in range(ROUNDS):
        counts = list(generations(together, rows, chance))
        began = time.perf_counter()
        for each in counts:
            ledger.fold(uuid.uuid4().hex, each)
        changed = time.perf_counter()
        ledger.fold_many({uuid.uuid4().hex: each for each in counts})
        ratios.append((changed - began) / (time.perf_counter() - changed))
    return statistics.median(ratios)


def main() -> None:
    """Measure on the ledger that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folds", description=__doc__)
    parser.add_argument("ledger", nargs="?", help="a database URL, as for MeterKit; a new SQLite file by default")
    given = parser.parse_args().ledger
    url = given or f"sqlite:///{tempfile.mkdtemp(prefix='meterkit-benchmark-')}/ledger.sqlite"
    ledger = Ledger(Database(url), clock=time.time)
    for each in generations(1, CUSTOMERS // 10, random.Random(2)):
        ledger.fold(uuid.uuid4().hex, each)  # connects, and writes rows that later folds update
    print("| processes | customers each | one by one / together |")
    print("|---|---|---|")
    for together in (8, 50):
        for rows in (10, 500):
            print(f"| {together} | {rows} | {ratio(ledger, together=together, rows=rows):.1f} |", flush=True)


if __name__ == "__main__":
    main()
