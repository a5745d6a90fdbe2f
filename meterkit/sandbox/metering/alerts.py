"""Billing alerts: an event when a customer's usage of a meter reaches a threshold, once per customer, ever."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Array, Choice, Integer, Object, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.usage import aggregate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterkit.sandbox.state.account import Account, Record
    from meterkit.sandbox.state.usage import MeterEvent

MOST = 25  # alerts for one meter and one customer
_TYPES = ("usage_threshold",)
CREATE = {
    "alert_type": Choice(_TYPES, required=True),
    "title": Text(256, required=True),
    "usage_threshold": Object(
        {
            "filters": Array(Object({"type": Choice(("customer",), required=True), "customer": Text()}), 1),
            "gte": Integer(1, required=True),
            "meter": Text(required=True),
            "recurrence": Choice(("one_time",), required=True),
        },
        required=True,
    ),
}


def create(account: Account, call: Call) -> Record:
    """Create an alert, active from now on, for one customer or for all."""
    threshold = call.params["usage_threshold"]
    account.get("billing.meter", threshold["meter"], param="usage_threshold[meter]")
    filters = [{"customer": None, **each} for each in threshold.get("filters", ())]
    for each in filters:
        if each["customer"] is not None:
            account.get("customer", each["customer"], param="usage_threshold[filters][0][customer]")
    record: Record = {
        "id": account.new_id("billing.alert"),
        "object": "billing.alert",
        "alert_type": call.params["alert_type"],
        "livemode": account.switches.livemode,
        "status": "active",
        "title": call.params["title"],
        "usage_threshold": {
            "filters": filters,
            "gte": threshold["gte"],
            "meter": threshold["meter"],
            "recurrence": threshold["recurrence"],
        },
        "_triggered": set(),  # customers for whom it has triggered
    }
    _check_number(account, record)
    return account.add(record)


def retrieve(account: Account, call: Call) -> Record:
    """Return one alert."""
    return account.get("billing.alert", call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return alerts of one meter or of all, newest first, without archived ones."""
    meter = call.params.get("meter")
    records = [
        alert for alert in reversed(account.all("billing.alert")) if meter in (None, alert["usage_threshold"]["meter"])
    ]
    return page(call, records, "alert")


def activate(account: Account, call: Call) -> Record:
    """Reactivate an alert, for customers for whom it has never triggered."""
    return _turn(account, call, "active")


def deactivate(account: Account, call: Call) -> Record:
    """Deactivate an alert, so that it does not trigger."""
    return _turn(account, call, "inactive")


def archive(account: Account, call: Call) -> Record:
    """Remove an alert from lists and from the API, permanently."""
    record = account.get("billing.alert", call.id)
    record.update(status="archived", _hidden=True)
    return record


def watch(account: Account, event: MeterEvent) -> None:
    """Schedule a check of the alerts for an accepted event, for when summaries include it."""
    if not any(True for _ in _open(account, event.meter, event.customer)):
        return
    moment = account.now + account.switches.event_lag
    check: Record = {"moment": moment, "meter": event.meter, "customer": event.customer}
    account.watched[moment, event.meter, event.customer] = check
    if moment <= account.now:
        evaluate(account, check)


def pending(account: Account) -> Iterator[tuple[int, Record]]:
    """Yield each scheduled check, with the Unix second at which it is due."""
    for check in account.watched.values():
        yield check["moment"], check


def evaluate(account: Account, check: Record) -> None:
    """Trigger the alerts whose threshold the customer's total usage has reached."""
    meter, customer = account.get("billing.meter", check["meter"]), check["customer"]
    del account.watched[check["moment"], check["meter"], customer]
    total = aggregate(meter, account.usage.counted(meter, customer, lagging=True))
    for alert in list(_open(account, meter["id"], customer)):
        if total >= alert["usage_threshold"]["gte"]:
            alert["_triggered"].add(customer)
            triggered: Record = {
                "object": "billing.alert_triggered",
                "alert": alert,
                "created": account.now,
                "customer": customer,
                "livemode": account.switches.livemode,
                "value": int(total),
            }
            account.announce("billing.alert.triggered", triggered)


def _open(account: Account, meter: str, customer: str) -> Iterator[Record]:
    """Yield the alerts that may still trigger for a customer."""
    for alert in account.all("billing.alert"):
        if (
            alert["status"] == "active"
            and alert["usage_threshold"]["meter"] == meter
            and _filter(alert) in (None, customer)
            and customer not in alert["_triggered"]
        ):
            yield alert


def _filter(alert: Record) -> str | None:
    filters = alert["usage_threshold"]["filters"]
    customer: str | None = filters[0]["customer"] if filters else None
    return customer


def _check_number(account: Account, record: Record) -> None:
    meter = record["usage_threshold"]["meter"]
    numbers = Counter(
        _filter(alert) for alert in account.all("billing.alert") if alert["usage_threshold"]["meter"] == meter
    )
    general, customer = numbers.pop(None, 0), _filter(record)
    own = numbers[customer] if customer is not None else max(numbers.values(), default=0)
    if general + own >= MOST:
        raise invalid(f"You can create a maximum of {MOST} alerts for each combination of a meter and a customer.")


def _turn(account: Account, call: Call, status: str) -> Record:
    record = account.get("billing.alert", call.id)
    if record["status"] == status:
        raise invalid(f"The alert {record['id']} is already {status}.")
    record["status"] = status
    return record


_ALERT = "/v1/billing/alerts/{id}"
ROUTES = [
    Route("POST", "/v1/billing/alerts", create, CREATE),
    Route("GET", "/v1/billing/alerts", list_all, {**PAGE, "alert_type": Choice(_TYPES), "meter": Text()}),
    Route("GET", _ALERT, retrieve),
    Route("POST", f"{_ALERT}/activate", activate),
    Route("POST", f"{_ALERT}/deactivate", deactivate),
    Route("POST", f"{_ALERT}/archive", archive),
]
