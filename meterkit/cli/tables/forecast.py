"""Tables of forecasts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meterkit.cli.tables.usage import add, show, table


def show_forecasts(found: list[dict[str, Any]]) -> None:
    """Show what is expected of each company, and below that which limits are reached."""
    if not found:
        show("Nothing is expected: there is no usage, or no limit is reached.")
        return
    columns = {"so far": "right", "expected": "right", "range": "right", "period ends": "left"}
    grid = table("", company="left", what="left", **columns)
    for each in found:
        for row in _rows(each):
            add(grid, each["company"], *row)
    limits = table("Limits", company="left", limit="left", used="right", of="right", **{"reached on": "left"})
    for each in found:
        for limit in each["limits"]:
            name = f"quota of {limit['meter']} per {limit['per']}"
            if limit["kind"] == "spending_cap":
                name = f"spending cap in {limit['currency'].upper()}"
            add(limits, each["company"], name, limit["used"], limit["limit"], (limit["reached_at"] or "")[:10])
    show(grid, *([limits] if limits.rows else []))


def _rows(found: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for usage in found["usage"]:
        yield usage["meter"], usage["used"], *_expected(usage, usage["unknown"]), _end_of(usage["period"])
    cost = found["cost"]
    if cost is not None:
        so_far = "?" if cost["so_far"] is None else cost["so_far"]
        unknown = "; ".join(cost["unknown"])
        yield f"cost in {cost['currency'].upper()}", so_far, *_expected(cost, unknown), _end_of(found["period"])


def _expected(found: dict[str, Any], unknown: str) -> tuple[Any, Any]:
    if found["expected"] is None:
        return "unknown", unknown
    low, high = (f"{found[name]:,}" if isinstance(found[name], int) else found[name] for name in ("low", "high"))
    return found["expected"], f"{low} to {high}"


def _end_of(period: dict[str, str]) -> str:
    """Return the day on which *period* ends: the first one of the next."""
    return period["end"][:10]
