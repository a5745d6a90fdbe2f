"""Stripe's event log (`billing.meter.created`, `invoice.finalized`, …), to be read; nothing is delivered yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Array, Span, Text, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record


def retrieve(account: Account, call: Call) -> Record:
    """One event."""
    return account.get("event", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Events, newest first, of one type or of several."""
    wanted = set(call.params.get("types", ()))
    if "type" in call.params:
        wanted.add(call.params["type"])
    records = [
        event
        for event in reversed(account.all("event"))
        if (not wanted or event["type"] in wanted) and within(event["created"], call.params.get("created"))
    ]
    return page(call, records, "event")


ROUTES = [
    Route("GET", "/v1/events/{id}", retrieve),
    Route("GET", "/v1/events", list_all, {**PAGE, "type": Text(), "types": Array(Text(), 20), "created": Span()}),
]
