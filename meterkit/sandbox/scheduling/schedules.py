"""Subscription schedules over the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import cancellation, subscriptions
from meterkit.sandbox.billing.charges import items_of
from meterkit.sandbox.protocol.errors import ApiError, invalid, missing_parameter
from meterkit.sandbox.protocol.lists import page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Boolean,
    Choice,
    Moment,
    Object,
    Rule,
    Span,
    Text,
    merged,
    within,
)
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.scheduling import phases, transitions
from meterkit.sandbox.scheduling.transitions import KIND
from meterkit.sandbox.state.fork import fork

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

OPEN = ("active", "not_started")
_END = Choice(("cancel", "release"))
CREATE: dict[str, Rule] = {
    "billing_mode": Object({"type": Choice(("classic", "flexible"), required=True)}),
    "customer": Text(),
    "default_settings": Object({"default_payment_method": Text()}),
    "end_behavior": _END,
    "from_subscription": Text(),
    "metadata": METADATA,
    "phases": phases.CREATE,
    "start_date": Moment((phases.NOW,)),
}
UPDATE: dict[str, Rule] = {
    "end_behavior": _END,
    "metadata": METADATA,
    "phases": phases.UPDATE,
    "proration_behavior": Choice(("always_invoice", "create_prorations", "none")),
}
_TIMES = ("canceled_at", "completed_at", "created", "released_at")


def create(account: Account, call: Call) -> Record:
    """Create a schedule, for a new subscription or from one that is there."""
    params = call.params
    if "from_subscription" in params:
        return _from_subscription(account, params)
    for name in ("customer", "phases"):
        if name not in params:
            raise missing_parameter(name)
    customer = account.get("customer", params["customer"], param="customer")
    start = params.get("start_date", phases.NOW)
    moment = account.now if start == phases.NOW else int(start)
    if moment < account.now:
        raise invalid("This sandbox does not backdate schedules.", param="start_date")
    mode = params.get("billing_mode", {}).get("type", "flexible")
    record = _blank(account, customer, mode, params)
    record["phases"] = phases.build(account, params["phases"], moment)
    _try(account, record)
    account.add(record)
    if moment == account.now:
        transitions.begin(account, record)
    account.announce("subscription_schedule.created", record)
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one schedule."""
    return account.get(KIND, call.id)


def update(account: Account, call: Call) -> Record:
    """Change the phases that are running or to come, and what happens at the end."""
    record, params = account.get(KIND, call.id), call.params
    _check_open(record)
    now = phases.current(record, account.now)
    values: Record = {}
    if "metadata" in params:
        values["metadata"] = merged(record["metadata"], params["metadata"])
    if "end_behavior" in params:
        values["end_behavior"] = params["end_behavior"]
    if "phases" in params:
        values["phases"] = _replaced(account, record, params["phases"], now)
    previous = {name: record[name] for name in values}
    trial = {**record, **values}
    changes = {"end_behavior", "phases"} & set(values)
    running = phases.current(trial, account.now) if changes and record["status"] == "active" else None
    proration = params.get("proration_behavior", "create_prorations")
    if running is not None:  # if it is refused, nothing has happened
        transitions.apply(fork(account, record["customer"]), trial, running, proration, now)
    elif record["status"] == "not_started":
        _try(account, trial)
    record.update(values)
    if running is not None:
        transitions.apply(account, record, running, proration, now)
        record["current_phase"] = {"end_date": running["end_date"], "start_date": running["start_date"]}
    account.announce("subscription_schedule.updated", record, previous)
    return record


def release(account: Account, call: Call) -> Record:
    """Let the subscription go on without its schedule, as it is now."""
    record = account.get(KIND, call.id)
    _check_open(record)
    subscription = account.find("subscription", record["subscription"] or "")
    if subscription is not None and record["end_behavior"] == "cancel" and not call.params.get("preserve_cancel_date"):
        subscriptions.change(account, subscription, {"cancel_at": None})
    transitions.release(account, record)
    return record


def cancel(account: Account, call: Call) -> Record:
    """Cancel a schedule, and its subscription at once."""
    record = account.get(KIND, call.id)
    _check_open(record)
    if record["subscription"] is not None:
        options = {"invoice_now": True, "prorate": True, **call.params}
        cancellation.cancel(account, Call("", record["subscription"], options))
    transitions.close(account, record)
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return schedules, newest first."""
    params = call.params
    records = [
        record
        for record in reversed(account.all(KIND))
        if params.get("customer") in (None, record["customer"])
        and (not params.get("scheduled") or record["status"] == "not_started")
        and all(name not in params or within(record[name] or 0, params[name]) for name in _TIMES)
    ]
    return page(call, records, "subscription schedule")


def _from_subscription(account: Account, params: dict[str, Any]) -> Record:
    """Return a schedule of one phase: the running period of a subscription, as that is."""
    for name in set(params) - {"from_subscription", "expand", "billing_mode", "metadata"}:
        raise invalid(f"You cannot set `{name}` if `from_subscription` is set.", param=name)
    subscription = account.get("subscription", params["from_subscription"], param="from_subscription")
    if subscription["status"] == "canceled":
        raise invalid("You cannot migrate a subscription that is canceled.", param="from_subscription")
    if subscription["schedule"] is not None:
        raise invalid(
            f"You cannot migrate a subscription that is already attached to a schedule: {subscription['schedule']}.",
            param="from_subscription",
        )
    customer = account.tables["customer"][subscription["customer"]]
    record = _blank(account, customer, subscription["billing_mode"]["type"], params)
    items = items_of(subscription)
    phase = {
        "currency": subscription["currency"],
        "end_date": max(item["current_period_end"] for item in items),
        "items": [
            {"price": item["price"]["id"], **({} if item["quantity"] is None else {"quantity": item["quantity"]})}
            for item in items
        ],
    }
    record["phases"] = phases.build(account, [phase], min(item["current_period_start"] for item in items))
    record.update(subscription=subscription["id"], status="active")
    record["current_phase"] = {name: record["phases"][0][name] for name in ("end_date", "start_date")}
    subscription["schedule"] = record["id"]
    account.announce("subscription_schedule.created", account.add(record))
    return record


def _replaced(account: Account, record: Record, sent: list[dict[str, Any]], now: Record | None) -> list[Record]:
    """Return the phases after an update: those that are over, and the new ones from the running one on."""
    over = [each for each in record["phases"] if each["end_date"] <= account.now]
    first = sent[0].get("start_date")
    begun = now["start_date"] if now is not None else record["phases"][0]["start_date"]
    start = account.now if first == phases.NOW else begun if first is None else int(first)
    if record["status"] == "active" and start != begun:
        raise invalid("The start date of the current phase cannot be changed.", param="phases[0][start_date]")
    if start < account.now and record["status"] == "not_started":
        raise invalid("This sandbox does not backdate schedules.", param="phases[0][start_date]")
    made = phases.build(account, sent, start)
    for place, (params, phase) in enumerate(zip(sent, made, strict=True)):
        if params.get("start_date") not in (None, phases.NOW, phase["start_date"]):
            raise invalid("A phase must begin when the one before it ends.", param=f"phases[{place}][start_date]")
    return over + made


def _try(account: Account, schedule: Record) -> None:
    """
    Let the subscription of a schedule begin in a fork.

    Raises:
        ApiError: 400 if it cannot.

    """
    try:
        subscriptions.start(fork(account, schedule["customer"]), transitions.first_params(schedule))
    except ApiError as error:
        param = None if error.param is None else f"phases[0][{error.param.partition('[')[0]}]"
        raise invalid(error.message, param=param, code=error.code) from None


def _check_open(record: Record) -> None:
    if record["status"] not in OPEN:
        raise invalid(
            f"You cannot change a subscription schedule that is currently in the `{record['status']}` status."
        )


def _blank(account: Account, customer: Record, mode: str, params: dict[str, Any]) -> Record:
    method = params.get("default_settings", {}).get("default_payment_method")
    return {
        "id": account.new_id(KIND),
        "object": KIND,
        "application": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"} if mode == "flexible" else None,
            "type": mode,
            "updated_at": None,
        },
        "canceled_at": None,
        "completed_at": None,
        "created": account.now,
        "current_phase": None,
        "customer": customer["id"],
        "customer_account": None,
        "default_settings": {
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": None,
            "collection_method": "charge_automatically",
            "default_payment_method": method,
            "description": None,
            "invoice_settings": {
                "account_tax_ids": None,
                "custom_fields": None,
                "days_until_due": None,
                "description": None,
                "footer": None,
                "issuer": {"type": "self"},
            },
            "on_behalf_of": None,
            "transfer_data": None,
        },
        "end_behavior": params.get("end_behavior", "release"),
        "livemode": account.switches.livemode,
        "metadata": merged({}, params.get("metadata")),
        "pause_schedules": [],
        "phases": [],
        "released_at": None,
        "released_subscription": None,
        "status": "not_started",
        "subscription": None,
        "test_clock": customer["test_clock"],
    }


_ONE = "/v1/subscription_schedules/{id}"
ROUTES = [
    Route("POST", "/v1/subscription_schedules", create, CREATE),
    Route(
        "GET",
        "/v1/subscription_schedules",
        list_all,
        {**PAGE, **dict.fromkeys(_TIMES, Span()), "customer": Text(), "scheduled": Boolean()},
    ),
    Route("GET", _ONE, retrieve),
    Route("POST", _ONE, update, UPDATE),
    Route("POST", f"{_ONE}/release", release, {"preserve_cancel_date": Boolean()}),
    Route("POST", f"{_ONE}/cancel", cancel, {"invoice_now": Boolean(), "prorate": Boolean()}),
]
