"""
Run the benchmarks, and write the results into a page.

    python -m benchmarks [--rounds 15] [--stacks wsgi,asgi] [--page docs/performance.md] [--quick]
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import meterkit
from benchmarks import budgets, pages, served
from benchmarks.rounds import Cost, compare
from benchmarks.stacks import STACKS
from benchmarks.variants import VARIANTS

COMPANIES = 1_000
"""Companies that ask in turn."""

OTHERS = {
    "meterkit, one company": ("meterkit", 1),
    "meterkit, 100,000 companies": ("meterkit", 100_000),
    "meterkit, new companies": ("meterkit", 1_000_000),
}
"""Variants with another number of companies. With a million, each request is the first of its company."""

AGAIN = ["meterkit, 100,000 companies"]
"""Variants whose companies have all been seen before the measurement begins."""

SERVED = ["bare", "bare again", "prometheus_client", "meterkit", "meterkit, governance"]


def main() -> int:
    """Run the benchmarks that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="samples of each variant in process")
    parser.add_argument("--served-rounds", type=int, default=3, help="runs of each variant under each server")
    parser.add_argument("--stacks", default=",".join(STACKS), help="the stacks to measure")
    parser.add_argument("--page", type=Path, help="the page to write the tables into; the plot is written next to it")
    parser.add_argument("--quick", action="store_true", help="in process only: no servers, no budgets")
    arguments = parser.parse_args()
    # As pip does when it installs: each process would otherwise compile what it imports, and keep memory of it.
    compileall.compile_dir(str(Path(meterkit.__file__).parent), quiet=1)
    variants = {name: (name, COMPANIES) for name in VARIANTS if name != "bare"} | OTHERS
    costs: dict[str, dict[str, Cost]] = {}
    for stack in arguments.stacks.split(","):
        costs[stack] = compare(stack, variants, companies=COMPANIES, rounds=arguments.rounds, again=AGAIN)
        print(pages.costs_of(stack, costs[stack]), flush=True)
    parts = [_machine(), pages.costs_table(costs)]
    if not arguments.quick:
        served_by = {}
        for server in served.SERVERS:
            served_by[server] = served.measure(server, SERVED, rounds=arguments.served_rounds)
            parts.append(pages.served_table(server, served_by[server]))
            print(parts[-1], flush=True)
        found = {name: budgets.measured(name) for name in budgets.BUDGETS}
        parts.append(pages.budgets_table(found, costs, served_by))
        print(parts[-1])
    if arguments.page:
        pages.write(arguments.page, "\n\n".join(parts))
        arguments.page.with_suffix(".svg").write_text(pages.plot(costs))
    return 0


def _machine() -> str:
    found = []
    for name in ("flask", "django", "starlette", "fastapi", "uvicorn", "gunicorn", "prometheus-client"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{cores} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{machine}; {', '.join(found)}."


if __name__ == "__main__":
    sys.exit(main())
