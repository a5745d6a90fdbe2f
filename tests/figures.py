"""
Figures that tests measure but do not assert, and the command that writes them into a page.

    METERKIT_TEST_FIGURES=figures.jsonl pytest ...
    python tests/figures.py figures.jsonl docs/reliability.md

The command writes the tables between the page's two marks, and fails if a measurement exceeds its budget.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

# Read at import: the tests themselves run without METERKIT_ variables.
FIGURES = os.environ.get("METERKIT_TEST_FIGURES")

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

BUDGETS = {"Stripe does not answer": 2.0, "ledger is locked": 5.0}
"""Seconds that a server may take to exit in this situation."""


def note_figure(name: str, **values: object) -> None:
    """Append one line of JSON to the file that ``METERKIT_TEST_FIGURES`` names; without it, do nothing."""
    if FIGURES:
        line = json.dumps({"name": name, **values}) + "\n"
        descriptor = os.open(FIGURES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # in one write, because other processes append to this file, too
        finally:
            os.close(descriptor)


def tables(figures: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the tables as Markdown, and the measurements that exceed their budgets."""
    kills = [each for each in figures if each["name"].startswith("kills of ")]
    exits: dict[str, list[float]] = defaultdict(list)
    for each in figures:
        if each["name"].startswith("exit: "):
            exits[each["name"].removeprefix("exit: ")].append(each["seconds"])
    over = [
        f"{name}: {max(seconds):.1f} s, over {budget:.0f}"
        for name, seconds in exits.items()
        for trouble, budget in BUDGETS.items()
        if trouble in name and max(seconds) > budget
    ]
    parts = [_machine(), _kills(kills), _exits(exits), _others(figures)]
    return "\n\n".join(part for part in parts if part), over


def _machine() -> str:
    return (
        f"On {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}."
    )


def _kills(kills: list[dict[str, Any]]) -> str:
    rows = ["| Killed | Kills | Seed | Lower bound | Counted and billed | Upper bound |", "|---|---|---|---|---|---|"]
    for each in kills:
        at_least = each.get("complete", each.get("acknowledged"))
        billed = each.get("counted", each.get("billed"))
        at_most = each.get("sent", each.get("begun"))
        who = each["name"].removeprefix("kills of ")
        rows.append(f"| {who} | {each['kills']:,} | {each['seed']} | {at_least:,} | {billed:,} | {at_most:,} |")
    return "\n".join(rows) if kills else ""


def _exits(exits: dict[str, list[float]]) -> str:
    rows = ["| Exit of | Runs | Median | Longest |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {len(seconds)} | {median(seconds):.1f} s | {max(seconds):.1f} s |"
        for name, seconds in sorted(exits.items())
    ]
    return "\n".join(rows) if exits else ""


def _others(figures: list[dict[str, Any]]) -> str:
    lines = []
    for each in figures:
        if each["name"] == "model":
            lines.append(
                f"- The model, {each['world']}: {each['examples']:,} scenarios of up to {each['steps']} steps."
            )
        elif each["name"] == "a quota reaches all workers":
            lines.append(
                f"- A quota with four saturated workers, `flush_interval={each['flush_interval']}`: the last request "
                f"was allowed {each['seconds']} s after the first was blocked; {each['overrun']} requests exceeded "
                "the quota."
            )
        elif each["name"] == "flood":
            lines.append(
                f"- {each['companies']:,} invented companies: memory grew by {each['mebibytes']} MiB, "
                f"{each['capped']:,} units were counted as `capped`, and known companies were exact."
            )
    return "\n".join(lines)


def main(figures: str, page: str) -> int:
    """Write the tables into the page; return 1 if a budget is exceeded."""
    found = [json.loads(line) for line in Path(figures).read_text().splitlines()]
    text, over = tables(found)
    before, _, rest = Path(page).read_text().partition(BEGIN)
    Path(page).write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    for each in over:
        print(f"over its budget: {each}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
