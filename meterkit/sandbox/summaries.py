"""Meter event summaries: what a customer used, per hour, per day or over a whole range."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from meterkit.sandbox.errors import invalid
from meterkit.sandbox.lists import page
from meterkit.sandbox.params import PAGE, Choice, Integer, Rule, Text
from meterkit.sandbox.routes import Call, Route
from meterkit.sandbox.usage import WINDOWS, aggregate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterkit.sandbox.account import Account, Record

FIELDS: dict[str, Rule] = {
    **PAGE,
    "customer": Text(required=True),
    "start_time": Integer(0, required=True),
    "end_time": Integer(0, required=True),
    "value_grouping_window": Choice(("day", "hour")),
}


def list_all(account: Account, call: Call) -> Record:
    """The summaries of one customer on one meter, latest first."""
    params = call.params
    meter = account.get("billing.meter", call.id)
    customer = account.get("customer", params["customer"], param="customer")["id"]
    window = params.get("value_grouping_window")
    start, end = params["start_time"], params["end_time"]
    _check_alignment(start, end, window)
    records = [_summary(account, meter, customer, bounds) for bounds in _buckets(start, end, WINDOWS.get(window or ""))]
    if window and not account.switches.empty_buckets:
        records = [record for record in records if record["_events"]]
    return page(call, records, "billing meter event summary")


def _check_alignment(start: int, end: int, window: str | None) -> None:
    step = WINDOWS.get(window or "", 60)
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % step:
            raise invalid(f"{name} must align with {window or 'minute'} boundaries in UTC.", param=name)
    if start >= end:
        raise invalid("end_time must be after start_time.", param="end_time")


def _buckets(start: int, end: int, step: int | None) -> Iterator[tuple[int, int]]:
    if step is None:
        yield start, end
        return
    for first in range(end - step, start - step, -step):
        yield first, first + step


def _summary(account: Account, meter: Record, customer: str, bounds: tuple[int, int]) -> Record:
    start, end = bounds
    last = end if account.switches.summary_end == "inclusive" else end - 1
    events = [
        event for event in account.usage.counted(meter, customer, lagging=True) if start <= event.timestamp <= last
    ]
    value = aggregate(meter, events)
    # The same range is the same summary: a cursor must still name it when the next page is asked for.
    name = f"{meter['id']} {customer} {start} {end}".encode()
    return {
        "id": f"mtrusg_test_61{hashlib.sha256(name).hexdigest()[:30]}",
        "object": "billing.meter_event_summary",
        "aggregated_value": int(value) if value == int(value) else float(value),
        "end_time": end,
        "livemode": account.switches.livemode,
        "meter": meter["id"],
        "start_time": start,
        "_events": len(events),
    }


ROUTES = [Route("GET", "/v1/billing/meters/{id}/event_summaries", list_all, FIELDS)]
