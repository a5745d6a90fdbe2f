"""Render the measurements as tables and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from benchmarks.rounds import Cost
from benchmarks.served import Served

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Costs = Mapping[str, Mapping[str, Cost]]

NULL_APPS = {"flask": "wsgi", "django": "wsgi", "django_asgi": "asgi", "starlette": "asgi", "fastapi": "asgi"}


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


def served_table(server: str, found: Mapping[str, list[Served]]) -> str:
    """The figures of one server: the median of the runs, and their range."""
    rows = [[server, "p50, ms", "p99, ms", "requests/s, saturated", "first byte of a stream, ms"]]
    for name, runs in found.items():
        columns = [[getattr(run, field) for run in runs] for field in ("p50", "p99", "per_second", "first_byte")]
        rows.append([name, *(_range(values) for values in columns)])
    return _table(rows)


def budgets_table(found: Mapping[str, Mapping[str, float]], costs: Costs) -> str:
    """Each budget, the measurement, and whether the budget was met."""
    rows = [["what", "budget", "measured", ""]]
    for stack, each in costs.items():
        rows += _ratios(stack, each)
        null = costs.get(NULL_APPS.get(stack, ""))
        if null is not None:
            rows.append(_beyond(stack, each, null["meterkit"]))
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
    one = costs["meterkit"]
    rows = [
        _ratio(f"{stack}: 100 meters, vs. one", 1.3, costs["meterkit, 100 meters"], one),
        _ratio(f"{stack}: 100,000 companies, vs. one", 1.5, costs["meterkit, 100,000 companies"], one),
    ]
    if stack in NULL_APPS:
        return rows
    return [
        _ratio(f"{stack}: one meter, vs. prometheus_client", 1, one, costs["prometheus_client"]),
        _ratio(f"{stack}: one meter, vs. a counter by hand", 2.5, one, costs["counter by hand"]),
        *rows,
    ]


def _beyond(stack: str, costs: Mapping[str, Cost], null: Cost) -> list[str]:
    what, budget, control = f"{stack}: one meter, beyond its overhead on the null app", 2, costs["bare again"]
    if control.high - control.low > budget:  # the measurement error is larger
        return [what, f"at most {budget} µs", "-", "too noisy to tell"]
    return _row(what, budget, costs["meterkit"].median - null.median, " µs")


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
