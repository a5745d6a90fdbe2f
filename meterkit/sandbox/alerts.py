"""Billing alerts: an event, once for a customer, when its usage of a meter reaches a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.errors import invalid
from meterkit.sandbox.lists import page
from meterkit.sandbox.params import PAGE, Array, Choice, Integer, Object, Text
from meterkit.sandbox.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.account import Account, Record
    from meterkit.sandbox.usage import MeterEvent

MOST = 25
"""Active alerts for one meter and customer."""

_FILTER = Object({"type": Choice(("customer",), required=True), "customer": Text()})
CREATE = {
    "alert_type": Choice(("usage_threshold",), required=True),
    "title": Text(256, required=True),
    "usage_threshold": Object(
        {
            "meter": Text(required=True),
            "gte": Integer(1, required=True),
            "recurrence": Choice(("one_time",), required=True),
            "filters": Array(_FILTER, 1),
        },
        required=True,
    ),
}


def create(account: Account, call: Call) -> Record:
    """A new alert, active at once."""
    threshold = call.params["usage_threshold"]
    account.get("billing.meter", threshold["meter"], param="usage_threshold[meter]")
    filters = [{"customer": each.get("customer"), "type": each["type"]} for each in threshold.get("filters", ())]
    same = [
        each
        for each in account.all("billing.alert")
        if each["status"] == "active"
        and (each["usage_threshold"]["meter"], each["usage_threshold"]["filters"]) == (threshold["meter"], filters)
    ]
    if len(same) >= MOST:
        raise invalid(f"There can be at most {MOST} active alerts for a meter and customer.")
    record: Record = {
        "id": account.new_id("billing.alert"),
        "object": "billing.alert",
        "alert_type": "usage_threshold",
        "livemode": account.switches.livemode,
        "status": "active",
        "title": call.params["title"],
        "usage_threshold": {
            "filters": filters,
            "gte": threshold["gte"],
            "meter": threshold["meter"],
            "recurrence": "one_time",
        },
        "_told": set(),
    }
    return account.add(record)


def retrieve(account: Account, call: Call) -> Record:
    """One alert."""
    return account.get("billing.alert", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Alerts, newest first."""
    meter = call.params.get("meter")
    records = [
        each for each in reversed(account.all("billing.alert")) if meter in (None, each["usage_threshold"]["meter"])
    ]
    return page(call, records, "billing alert")


def set_status(status: str) -> Route:
    """The endpoint that makes an alert active, inactive or archived."""

    def run(account: Account, call: Call) -> Record:
        record = account.get("billing.alert", call.id)
        if record["status"] == "archived":
            raise invalid("An archived alert cannot be changed.")
        record["status"] = status
        return record

    verb = {"active": "activate", "inactive": "deactivate", "archived": "archive"}[status]
    return Route("POST", f"/v1/billing/alerts/{{id}}/{verb}", run)


def look(account: Account, event: MeterEvent) -> None:
    """A meter event came in: tell of the thresholds that its customer has reached, with all that was used before."""
    for alert in account.all("billing.alert"):
        threshold = alert["usage_threshold"]
        if alert["status"] != "active" or threshold["meter"] != event.meter or event.customer in alert["_told"]:
            continue
        if any(each["customer"] not in (None, event.customer) for each in threshold["filters"]):
            continue
        meter = account.tables["billing.meter"][event.meter]
        used = account.usage.total(meter, event.customer, start=0, end=2**62, lagging=False)
        if used >= threshold["gte"]:
            alert["_told"].add(event.customer)
            account.announce(
                "billing.alert.triggered",
                {
                    "object": "billing.alert_triggered",
                    "alert": alert,
                    "created": account.now,
                    "customer": event.customer,
                    "livemode": account.switches.livemode,
                    "value": int(used),
                },
            )


ROUTES = [
    Route("POST", "/v1/billing/alerts", create, CREATE),
    Route("GET", "/v1/billing/alerts", list_all, {**PAGE, "meter": Text(), "alert_type": Text()}),
    Route("GET", "/v1/billing/alerts/{id}", retrieve),
    *(set_status(status) for status in ("active", "inactive", "archived")),
]
