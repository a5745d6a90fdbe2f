"""Render the measurements as tables and a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from statistics import median

from benchmarks.rounds import Cost
from benchmarks.served import Served

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Costs = Mapping[str, Mapping[str, Cost]]

NULL_APPS = ("wsgi", "asgi")

Runs = Mapping[str, list[Served]]
"""What was measured under one server, by variant."""


def costs_of(stack: str, costs: Mapping[str, Cost]) -> str:
    """The overheads of one stack, as lines for the terminal."""
    lines = [f"{stack}: the bare app takes {next(iter(costs.values())).bare:.2f} µs"]
    lines += [f"  {name:32} {each.median:+8.2f} [{each.low:+.2f} {each.high:+.2f}]" for name, each in costs.items()]
    return "\n".join(lines)


def costs_table(costs: Costs) -> str:
    """The overheads of all stacks: medians, with quartiles in brackets."""
    names = list(dict.fromkeys(name for found in costs.values() for name in found))
    bare = [f"{next(iter(found.values())).bare:.1f}" for found in costs.values()]
    rows = [["overhead per request, µs", *costs], ["bare app, total", *bare]]
    rows += [[name, *(_cost(found.get(name)) for found in costs.values())] for name in names]
    return _table(rows)


SERVED: Mapping[str, Callable[[Served], float]] = {
    "requests/s from the first on": lambda run: run.first.per_second,
    "p99, ms": lambda run: run.first.p99,
    "requests/s after the first flush": lambda run: run.settled.per_second,
    "p99 then, ms": lambda run: run.settled.p99,
    "longest wait then, ms": lambda run: run.settled.longest,
    "p99 at 500 requests/s, ms": lambda run: run.paced_p99,
    "first byte of a stream, ms": lambda run: run.first_byte,
    "memory of the worker, MiB": lambda run: run.resident,
}


def served_table(server: str, found: Runs) -> str:
    """The figures of one server: the median of the runs, and their range."""
    rows = [[server, *SERVED]]
    rows += [[name, *(_range([read(run) for run in runs]) for read in SERVED.values())] for name, runs in found.items()]
    return _table(rows)


def budgets_table(found: Mapping[str, Mapping[str, float]], costs: Costs, served: Mapping[str, Runs]) -> str:
    """Each budget, the measurement, and whether the budget was met."""
    rows = [["what", "budget", "measured", ""]]
    for stack, each in costs.items():
        rows += _ratios(stack, each)
    for server, runs in served.items():
        rows += _served(server, runs)
    importing, memory, pauses = found["importing"], found["memory"], found["pauses"]
    folding, reporting, size = found["folding"], found["reporting"], found["ledger_size"]
    flushes = [seconds for name, seconds in size.items() if name.startswith("flush")]
    reports = [seconds for name, seconds in size.items() if name.startswith("report")]
    many = max(int(name.rpartition("_")[2]) for name in size)
    rows += [
        _row("folding 100,000 usage keys into SQLite, vs. a bare upsert", 3, folding["ratio"], "x"),
        _row("longest delay of a count while they are flushed", 5, pauses["longest_milliseconds"], " ms"),
        _row("reporting, one by one", 1_000, reporting["v1"], " events/s", least=True),
        _row("reporting, through the stream", 10_000, reporting["stream"], " events/s", least=True),
        ["one by one, if Stripe takes 100 ms to respond", "-", _rate(reporting["v1_far_away"]), ""],
        ["through the stream, if Stripe takes 100 ms to respond", "-", _rate(reporting["stream_far_away"]), ""],
        _row(f"a flush with {many:,} rows in the ledger, vs. 10,000", 1.5, flushes[1] / flushes[0], "x"),
        _row(f"a report with {many:,} rows in the ledger, vs. 10,000", 1.5, reports[1] / reports[0], "x"),
        _row("memory per customer in a flush interval", 300, memory["bytes_per_cell"], " bytes"),
        _row("memory growth over a million further requests", 1024, memory["kibibytes_after_a_million"], " KiB"),
        _row("`import meterkit`", 30, importing["milliseconds"], " ms"),
        ["the imports of a typical `billing.py`", "-", f"{importing['milliseconds_with_kit']:.0f} ms", ""],
        _row("heavy modules among them", 0, importing["heavy_modules"], ""),
    ]
    return _table(rows)


def write(page: Path, text: str) -> None:
    """Write *text* between the marks of *page*."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def plot(costs: Costs) -> str:
    """A bar chart of the medians, by stack, as SVG."""
    bars = [(stack, name, each.median) for stack, found in costs.items() for name, each in found.items()]
    widest = max(value for _, _, value in bars)
    lines, y, last = [], 20, ""
    for stack, name, value in bars:
        if stack != last:
            lines.append(f'<text x="10" y="{y + 14}" font-weight="bold">{stack}</text>')
            y, last = y + 22, stack
        width = max(0.5, value / widest * 420)
        colour = "#3366aa" if name.startswith("meterkit") else "#999999"
        lines.append(f'<text x="190" y="{y + 11}" text-anchor="end">{name}</text>')
        lines.append(f'<rect x="200" y="{y}" width="{width:.1f}" height="13" fill="{colour}"/>')
        lines.append(f'<text x="{205 + width:.1f}" y="{y + 11}">{value:.1f} µs</text>')
        y += 18
    size = f'width="720" height="{y + 20}" font-family="sans-serif" font-size="11"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{background}{"".join(lines)}</svg>\n'


def _ratios(stack: str, costs: Mapping[str, Cost]) -> list[list[str]]:
    one, prometheus = costs["meterkit"], costs["prometheus_client"]
    rows = [
        _ratio(f"{stack}: one meter, vs. prometheus_client", 1, one, prometheus),
        _ratio(f"{stack}: governed, vs. prometheus_client", 1.3, costs["meterkit, governance"], prometheus),
        _ratio(f"{stack}: 100 meters, vs. one", 1.3, costs["meterkit, 100 meters"], one),
        _ratio(f"{stack}: 100,000 companies, vs. 1,000", 1.5, costs["meterkit, 100,000 companies"], one),
    ]
    if stack in NULL_APPS:
        rows.append(_ratio(f"{stack}: one meter, vs. a counter by hand", 2.5, one, costs["counter by hand"]))
    return rows


def _served(server: str, runs: Runs) -> list[list[str]]:
    """Medians of the runs under one server, beside those of the Prometheus counter and the bare app."""

    def middle(variant: str, read: Callable[[Served], float]) -> float:
        return median([read(run) for run in runs[variant]])

    def ratio(read: Callable[[Served], float]) -> float:
        return middle("meterkit", read) / middle("prometheus_client", read)

    rows = []
    for when, load in (("from the first request on", "first"), ("after the first flush", "settled")):
        per_second, p99 = ratio(attrgetter(f"{load}.per_second")), ratio(attrgetter(f"{load}.p99"))
        rows.append(_row(f"{server}, {when}: requests/s, vs. prometheus_client", 1, per_second, "x", least=True))
        rows.append(_row(f"{server}, {when}: p99, vs. prometheus_client", 1.1, p99, "x"))
    longest = max(run.settled.longest for name in ("bare", "bare again") for run in runs[name])
    waited = middle("meterkit", lambda run: run.settled.longest)
    more = middle("meterkit", lambda run: run.resident) - middle("bare", lambda run: run.resident)
    heavy = max(run.heavy for run in runs["meterkit"])
    rows.append(_row(f"{server}: longest wait, vs. the bare app's longest", 1, waited / longest, "x"))
    rows.append(_row(f"{server}: memory of a worker, beyond the bare app's", 4, more, " MiB"))
    rows.append(_row(f"{server}: modules for a database or Stripe in a worker", 0, heavy, ""))
    return rows


def _ratio(what: str, budget: float, cost: Cost, to: Cost) -> list[str]:
    if to.low <= 0:  # in a quarter of its samples, it costs nothing
        return [what, f"at most {budget:,}x", "-", "too noisy to tell"]
    return _row(what, budget, cost.median / to.median, "x")


def _row(what: str, budget: float, value: float, unit: str, *, least: bool = False) -> list[str]:
    is_met = value >= budget if least else value <= budget
    sign = "at least" if least else "at most"
    shown = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
    return [what, f"{sign} {budget:,}{unit}", f"{shown}{unit}", "" if is_met else "**missed**"]


def _rate(value: float) -> str:
    return f"{value:,.0f} events/s"


def _cost(cost: Cost | None) -> str:
    return "-" if cost is None else f"{cost.median:.1f} ({cost.low:.1f} to {cost.high:.1f})"


def _range(values: list[float]) -> str:
    digits = 0 if median(values) >= 100 else 2
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _table(rows: Iterable[list[str]]) -> str:
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rest])
