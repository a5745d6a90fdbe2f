"""Stripe's event log (`billing.meter.created`, `invoice.finalized`, …); `webhook_delivery` delivers the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Array, Span, Text, within
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record


def retrieve(account: Account, call: Call) -> Record:
    """Return one event."""
    return account.get("event", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return events of one or more types, newest first."""
    types = set(call.params.get("types", ()))
    if "type" in call.params:
        types.add(call.params["type"])
    records = [
        event
        for event in reversed(account.all("event"))
        if (not types or event["type"] in types) and within(event["created"], call.params.get("created"))
    ]
    return page(call, records, "event")


ROUTES = [
    Route("GET", "/v1/events/{id}", retrieve),
    Route("GET", "/v1/events", list_all, {**PAGE, "type": Text(), "types": Array(Text(), 20), "created": Span()}),
]
