"""Billing meters: which events are counted, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Choice, Object, Text
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

FORMULAS = ("count", "last", "sum")
CREATE = {
    "display_name": Text(250, required=True),
    "event_name": Text(100, required=True),
    "default_aggregation": Object({"formula": Choice(FORMULAS, required=True)}, required=True),
    "customer_mapping": Object(
        {"type": Choice(("by_id",), required=True), "event_payload_key": Text(100, required=True)}
    ),
    "event_time_window": Choice(("day", "hour")),
    "value_settings": Object({"event_payload_key": Text(100, required=True)}),
}


def create(account: Account, call: Call) -> Record:
    """Create a meter; no other active meter may have the same event name."""
    params = call.params
    _claim(account, params["event_name"])
    record: Record = {
        "id": account.new_id("billing.meter"),
        "object": "billing.meter",
        "created": account.now,
        "customer_mapping": params.get(
            "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
        ),
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "livemode": account.switches.livemode,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": account.now,
        "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
    }
    account.announce("billing.meter.created", account.add(record))
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one meter."""
    return account.get("billing.meter", call.id)


def update(account: Account, call: Call) -> Record:
    """Change the display name, the only field that can be changed."""
    record = account.get("billing.meter", call.id)
    if "display_name" in call.params:
        account.change(record, "billing.meter.updated", display_name=call.params["display_name"], updated=account.now)
    return record


def deactivate(account: Account, call: Call) -> Record:
    """Deactivate a meter, so that it accepts no more events and no more prices."""
    record = account.get("billing.meter", call.id)
    if record["status"] == "inactive":
        raise invalid(f"The meter {record['id']} is already inactive.")
    account.change(
        record,
        "billing.meter.deactivated",
        status="inactive",
        status_transitions={"deactivated_at": account.now},
        updated=account.now,
    )
    return record


def reactivate(account: Account, call: Call) -> Record:
    """Reactivate a meter."""
    record = account.get("billing.meter", call.id)
    if record["status"] == "active":
        raise invalid(f"The meter {record['id']} is already active.")
    _claim(account, record["event_name"], besides=record)
    account.change(
        record,
        "billing.meter.reactivated",
        status="active",
        status_transitions={"deactivated_at": None},
        updated=account.now,
    )
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return meters of one status or of both, newest first."""
    status = call.params.get("status")
    records = [meter for meter in reversed(account.all("billing.meter")) if status in (None, meter["status"])]
    return page(call, records, "billing meter")


def active_meter(account: Account, event_name: str) -> Record | None:
    """Return the active meter with that event name, or None."""
    for meter in account.all("billing.meter"):
        if meter["event_name"] == event_name and meter["status"] == "active":
            return meter
    return None


def inactive_meter(account: Account, event_name: str) -> Record | None:
    """Return the latest inactive meter with that event name, or None."""
    for meter in reversed(account.all("billing.meter")):
        if meter["event_name"] == event_name and meter["status"] != "active":
            return meter
    return None


def _claim(account: Account, event_name: str, besides: Record | None = None) -> None:
    for meter in account.all("billing.meter"):
        if meter is besides or meter["event_name"] != event_name:
            continue
        if meter["status"] == "active" or not account.switches.inactive_frees_name:
            raise invalid(
                f'You can only use an event name with a single meter; {meter["id"]} already uses "{event_name}".',
                param="event_name",
            )


_METER = "/v1/billing/meters/{id}"
ROUTES = [
    Route("POST", "/v1/billing/meters", create, CREATE),
    Route("GET", "/v1/billing/meters", list_all, {**PAGE, "status": Choice(("active", "inactive"))}),
    Route("GET", _METER, retrieve),
    Route("POST", _METER, update, {"display_name": Text(250)}),
    Route("POST", f"{_METER}/deactivate", deactivate),
    Route("POST", f"{_METER}/reactivate", reactivate),
]
