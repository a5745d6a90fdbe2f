"""Meter event summaries: a customer's usage per hour, per day or over a whole range."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Choice, Integer, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.usage import WINDOWS, aggregate

if TYPE_CHECKING:
    from decimal import Decimal

    from meterkit.sandbox.state.account import Account, Record
    from meterkit.sandbox.state.usage import MeterEvent

FIELDS: dict[str, Rule] = {
    **PAGE,
    "customer": Text(required=True),
    "start_time": Integer(0, required=True),
    "end_time": Integer(0, required=True),
    "value_grouping_window": Choice(("day", "hour")),
}


def list_all(account: Account, call: Call) -> Record:
    """Return the summaries for one customer and one meter, latest first."""
    params = call.params
    meter = account.get("billing.meter", call.id)
    customer = account.get("customer", params["customer"], param="customer")["id"]
    window = params.get("value_grouping_window")
    start, end = params["start_time"], params["end_time"]
    _check_alignment(start, end, window)
    step = WINDOWS.get(window or "", end - start)
    last = end if account.switches.summary_end == "inclusive" else end - 1
    buckets: dict[int, list[MeterEvent]] = defaultdict(list)
    for event in account.usage.counted(meter, customer, lagging=True):
        if start <= event.timestamp <= last:
            # With an inclusive end, an event at the very end belongs to the last bucket.
            buckets[min((event.timestamp - start) // step, (end - start) // step - 1)].append(event)
    sparse = window is not None and not account.switches.empty_buckets
    places = sorted(buckets, reverse=True) if sparse else range((end - start) // step - 1, -1, -1)
    records = [
        _summary(
            account,
            meter,
            customer,
            aggregate(meter, buckets.get(place, ())),
            start=start + place * step,
            length=step,
        )
        for place in places
    ]
    return page(call, records, "billing meter event summary")


def _check_alignment(start: int, end: int, window: str | None) -> None:
    step = WINDOWS.get(window or "", 60)
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % step:
            raise invalid(f"{name} must align with {window or 'minute'} boundaries in UTC.", param=name)
    if start >= end:
        raise invalid("end_time must be after start_time.", param="end_time")


def _summary(account: Account, meter: Record, customer: str, value: Decimal, *, start: int, length: int) -> Record:
    # The same range has the same id, so that a cursor is still valid when the next page is requested.
    name = f"{meter['id']} {customer} {start} {length}".encode()
    return {
        "id": f"mtrusg_test_61{hashlib.sha256(name).hexdigest()[:30]}",
        "object": "billing.meter_event_summary",
        "aggregated_value": int(value) if value == int(value) else float(value),
        "end_time": start + length,
        "livemode": account.switches.livemode,
        "meter": meter["id"],
        "start_time": start,
    }


ROUTES = [Route("GET", "/v1/billing/meters/{id}/event_summaries", list_all, FIELDS)]
