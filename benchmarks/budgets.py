"""
Measure flushing, reporting, importing and memory, each in a process of its own.

    python -m benchmarks.budgets NAME    prints one line of JSON
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

CELLS = 100_000
HOUR = 3600


IMPORT = "import meterkit"
IMPORT_A_KIT = "from meterkit import Meter, MeterKit, Price, Tier"


def importing() -> dict[str, float]:
    """Milliseconds that imports add to an idle Python, and the number of heavy modules that a kit imports."""

    def took(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return (time.perf_counter() - begun) * 1000

    took(IMPORT_A_KIT)  # writes its bytecode
    alone = [took(IMPORT) - took("pass") for _ in range(15)]
    with_kit = [took(IMPORT_A_KIT) - took("pass") for _ in range(15)]
    heavy = "{'stripe', 'sqlalchemy', 'httpx', 'tenacity', 'flask', 'django', 'starlette', 'fastapi'}"
    code = f"import sys; {IMPORT_A_KIT}; print(len({heavy} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {
        "milliseconds": median(alone),
        "milliseconds_with_kit": median(with_kit),
        "heavy_modules": int(found.stdout),
    }


def memory() -> dict[str, float]:
    """Bytes per customer, with many in one flush interval; and memory growth over a million requests."""
    kit = _kit(flush_interval=3600.0)
    kit.record("calls", "first")
    before = resident()
    for number in range(CELLS):
        kit.record("calls", f"company-{number}")
    cell = (resident() - before) / CELLS
    kit.flush()
    for _ in range(100_000):
        kit.record("calls", "first")
    settled = resident()
    for number in range(1_000_000):
        kit.record("calls", "first")
        if number % 100_000 == 0:
            kit.flush()
    return {"bytes_per_cell": cell, "kibibytes_after_a_million": (resident() - settled) / 1024}


def pauses() -> dict[str, float]:
    """
    The longest delay of a count while many usage keys are flushed, and its 99.9th percentile.

    Two flushes of the same size come first, because the first one's garbage collection scans what it has imported.
    """
    kit = _kit(flush_interval=3600.0)
    for _ in range(3):
        kit.flush()
        for number in range(CELLS):
            kit.record("calls", f"company-{number}")
    flusher = threading.Thread(target=kit.flush)
    took = []
    flusher.start()
    while flusher.is_alive():
        begun = time.perf_counter()
        time.sleep(0.0002)  # releases the GIL, which a request must reacquire before it counts
        kit.record("calls", "first")
        took.append(time.perf_counter() - begun - 0.0002)
    took.sort()
    return {"longest_milliseconds": took[-1] * 1000, "p999_milliseconds": took[int(len(took) * 0.999)] * 1000}


def folding() -> dict[str, float]:
    """Seconds to fold many new usage keys into SQLite, and for a bare upsert of as many rows."""
    import sqlite3

    from meterkit.ledger.database import Database
    from meterkit.ledger.ledger import Ledger

    now = int(time.time())
    cells = [(("calls", "calls", f"company-{n}", "", now - now % HOUR), 1, now) for n in range(CELLS)]
    directory = Path(tempfile.mkdtemp())
    ledger = Ledger(Database(f"sqlite:///{directory / 'ledger.sqlite'}"), clock=time.time)
    ledger.fold("first", cells[:1])
    begun = time.perf_counter()
    ledger.fold("second", cells)
    folded = time.perf_counter() - begun
    bare = sqlite3.connect(directory / "bare.sqlite", isolation_level=None)
    bare.execute("PRAGMA synchronous=FULL")
    bare.execute(
        "CREATE TABLE usage (meter TEXT, event_name TEXT, company TEXT, user TEXT, window INTEGER, quantity INTEGER, "
        "reported INTEGER, last_used INTEGER, PRIMARY KEY (meter, event_name, company, user, window))"
    )
    begun = time.perf_counter()
    bare.execute("BEGIN IMMEDIATE")
    bare.executemany(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT DO UPDATE SET quantity = quantity + "
        "excluded.quantity, last_used = max(last_used, excluded.last_used)",
        [(*cell, quantity, last) for cell, quantity, last in cells],
    )
    bare.execute("COMMIT")
    upserted = time.perf_counter() - begun
    return {"fold_seconds": folded, "upsert_seconds": upserted, "ratio": folded / upserted}


def reporting() -> dict[str, float]:
    """Events per second, one by one and through the stream, if Stripe responds at once or after 100 ms."""
    return {
        "v1": _reported("v1", 3_000),
        "v1_far_away": _reported("v1", 3_000, delay=0.1),
        "stream": _reported("stream", 30_000),
        "stream_far_away": _reported("stream", 30_000, delay=0.1),
    }


def ledger_size() -> dict[str, float]:
    """Seconds to flush and report a thousand customers, with ten thousand rows in the ledger, and with many."""
    found = {}
    for rows in (10_000, int(os.environ.get("BENCHMARK_ROWS", "10000000"))):
        kit, process = _billed_kit("v1")
        kit.record("calls", "cus_first")
        kit.flush()
        _fill(kit, rows)
        for number in range(1_000):
            kit.record("calls", f"cus_{number}")
        begun = time.perf_counter()
        kit.flush()
        found[f"flush_with_{rows}"] = time.perf_counter() - begun
        begun = time.perf_counter()
        kit.report(include_open=True)
        found[f"report_with_{rows}"] = time.perf_counter() - begun
        _end(process)
    return found


def _reported(via: str, events: int, *, delay: float = 0.0) -> float:
    kit, process = _billed_kit(via, delay)
    kit.record("calls", "cus_first")
    kit.report(include_open=True)  # after this, the process has imported stripe
    for number in range(events):
        kit.record("calls", f"cus_{number}")
    kit.flush()
    begun = time.perf_counter()
    summary = kit.report(include_open=True)
    seconds = time.perf_counter() - begun
    _end(process)
    assert summary.sent == events, summary
    return events / seconds


def _billed_kit(via: str, delay: float = 0.0) -> tuple[Any, subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.instant_stripe", str(delay)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base = f"http://127.0.0.1:{process.stdout.readline().strip()}"
    return _kit(
        flush_interval=3600.0, stripe_key="sk_test_x", stripe_base=base, report_via=via, customer_ids=True
    ), process


def _fill(kit: Any, rows: int) -> None:
    """Insert *rows* of reported usage into the ledger, for 10,000 customers and the hours of the last months."""
    from sqlalchemy import text

    start = int(time.time()) // HOUR * HOUR - 40 * 24 * HOUR
    with kit.process().database().transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO meterkit_usage"
                ' (meter, event_name, company, "user", "window", quantity, reported, last_used)'
                " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - 1)"
                " SELECT 'calls', 'calls', 'cus_old_' || (i % 10000), '', :start - (i / 10000) * 3600, 1, 1, :start"
                " FROM n"
            ),
            {"rows": rows, "start": start},
        )


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


def _kit(**options: Any) -> Any:
    from meterkit import Meter, MeterKit

    return MeterKit(meters=[Meter("calls")], data_dir=tempfile.mkdtemp(prefix="meterkit-benchmark-"), **options)


def resident() -> int:
    """Resident memory of this process in bytes; its peak, if the system does not report the current value."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


BUDGETS: dict[str, Callable[[], dict[str, float]]] = {
    each.__name__: each for each in (importing, memory, pauses, folding, reporting, ledger_size)
}


def measured(name: str) -> dict[str, float]:
    """Run one of `BUDGETS` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.budgets", name]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)  # type: ignore[no-any-return]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(BUDGETS[sys.argv[1]]()))
