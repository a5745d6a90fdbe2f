"""Test clocks: customers whose subscriptions live by a time of their own, which a test advances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterkit.sandbox.billing import customers
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import PAGE, Integer, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import CLOCK
from meterkit.sandbox.state.periods import boundary

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

LIFETIME = 30 * 24 * 3600
MOST_INTERVALS = 2
CREATE: dict[str, Rule] = {"frozen_time": Integer(0, required=True), "name": Text(300)}

# Kinds of objects in a path that belong to a customer.
_OWNED = (
    "subscription", "subscription_item", "subscription_schedule", "invoice", "invoiceitem", "checkout.session",
    "billing_portal.session",
)  # fmt: skip


def create(account: Account, call: Call) -> Record:
    """Create a clock, which stands at its `frozen_time`."""
    if account.switches.livemode:
        raise invalid("Test clocks can only be used in test mode.")
    record = account.add(
        {
            "id": account.new_id(CLOCK),
            "object": CLOCK,
            "created": account.now,
            "deletes_after": account.now + LIFETIME,
            "frozen_time": call.params["frozen_time"],
            "livemode": False,
            "name": call.params.get("name"),
            "status": "ready",
            "status_details": {"advancing": None},
        }
    )
    account.announce("test_helpers.test_clock.created", record)
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one clock."""
    return account.get(CLOCK, call.id)


def list_all(account: Account, call: Call) -> Record:
    """Return the clocks, newest first."""
    return page(call, list(reversed(account.all(CLOCK))), "test clock")


def advance(account: Account, call: Call) -> Record:
    """Begin to advance a clock; by the next request it is ready, and everything due on the way has happened."""
    record, moment = account.get(CLOCK, call.id), call.params["frozen_time"]
    if moment <= record["frozen_time"]:
        raise invalid(
            f"The frozen_time must be after the clock's current time, {record['frozen_time']}.", param="frozen_time"
        )
    latest = _latest(account, record)
    if latest is not None and moment > latest:
        raise invalid(
            "A test clock can only be advanced by two intervals of the shortest subscription on it: at most to "
            f"{latest}.",
            param="frozen_time",
        )
    record.update(status="advancing", status_details={"advancing": {"target_frozen_time": moment}})
    account.announce("test_helpers.test_clock.advancing", record)
    return record


def target(record: Record) -> int:
    """Return the Unix second that a clock is on its way to, or at which it stands."""
    way = record["status_details"]["advancing"]
    return int(record["frozen_time"] if way is None else way["target_frozen_time"])


def finish(account: Account, record: Record) -> None:
    """Note that a clock has reached its target."""
    record.update(frozen_time=target(record), status="ready", status_details={"advancing": None})
    account.announce("test_helpers.test_clock.ready", record)


def delete(account: Account, call: Call) -> Record:
    """Delete a clock with its customers; their subscriptions end."""
    record = account.get(CLOCK, call.id)
    with account.at(record["id"]):
        for customer in account.all("customer"):
            if customer["test_clock"] == record["id"]:
                customers.delete(account, Call("", customer["id"], {}))
    account.announce("test_helpers.test_clock.deleted", record)
    record["deleted"] = True
    return {"id": record["id"], "object": CLOCK, "deleted": True}


def of_call(account: Account, call: Call) -> str | None:
    """Return the id of the test clock by which a request is handled: that of the customer it is about."""
    params = call.params
    if params.get("test_clock") is not None:
        return str(params["test_clock"])
    about: list[Record | None] = [account.find("customer", call.id)]
    about += [account.find(kind, call.id) for kind in _OWNED]
    for name, kind in (
        ("customer", "customer"),
        ("subscription", "subscription"),
        ("from_subscription", "subscription"),
    ):
        if isinstance(params.get(name), str):
            about.append(account.find(kind, params[name]))
    if account.switches.test_clock_timestamps == "frozen":  # the payload of a meter event
        payload = params.get("payload")
        about += [account.find("customer", value) for value in (payload or {}).values() if isinstance(value, str)]
    return next((clock for clock in (_clock_of(account, record) for record in about) if clock is not None), None)


def _clock_of(account: Account, record: Record | None) -> str | None:
    if record is None:
        return None
    clock: str | None = record.get("test_clock")
    if clock is None and record["object"] == "subscription_item":
        return _clock_of(account, account.find("subscription", record["subscription"]))
    if clock is None and isinstance(record.get("customer"), str):
        return _clock_of(account, account.find("customer", record["customer"]))
    return clock


def _latest(account: Account, record: Record) -> int | None:
    """Return the last second that a clock may be advanced to; None if it has no subscriptions."""
    ends = []
    for subscription in account.all("subscription"):
        if subscription["test_clock"] == record["id"] and subscription["status"] != "canceled":
            for item in subscription["items"]["data"]:
                recurring = item["price"]["recurring"]
                ends.append(
                    boundary(record["frozen_time"], recurring["interval"], recurring["interval_count"], MOST_INTERVALS)
                )
    return min(ends, default=None)


_ONE = "/v1/test_helpers/test_clocks/{id}"
ROUTES = [
    Route("POST", "/v1/test_helpers/test_clocks", create, CREATE),
    Route("GET", "/v1/test_helpers/test_clocks", list_all, PAGE),
    Route("GET", _ONE, retrieve),
    Route("DELETE", _ONE, delete),
    Route("POST", f"{_ONE}/advance", advance, {"frozen_time": Integer(0, required=True)}),
]
