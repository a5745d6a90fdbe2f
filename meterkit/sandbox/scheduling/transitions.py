"""What time does to a schedule: its subscription begins, changes at the start of each phase, and goes on or ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import subscriptions
from meterkit.sandbox.billing.charges import items_of
from meterkit.sandbox.scheduling import phases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meterkit.sandbox.state.account import Account, Record

KIND = "subscription_schedule"
Due = tuple[int, int, "Callable[[Account, Record], object]", "Record"]


def steps(account: Account) -> Iterator[Due]:
    """Yield what time will do to the schedules: when, its place among what is due then, how, and to which schedule."""
    for schedule in account.tables[KIND].values():
        if schedule["status"] == "not_started":
            yield schedule["phases"][0]["start_date"], 0, begin_later, schedule
        elif schedule["status"] == "active":
            subscription = account.tables["subscription"][schedule["subscription"]]
            if subscription["status"] == "canceled":
                yield subscription["ended_at"], 2, finish, schedule
            elif schedule["current_phase"]["end_date"] == schedule["phases"][-1]["end_date"]:
                yield schedule["current_phase"]["end_date"], 2, finish, schedule
            else:  # before the period ends, so that its invoice charges the next phase in advance
                yield schedule["current_phase"]["end_date"], 0, next_phase, schedule


def begin(account: Account, schedule: Record) -> None:
    """Create the subscription of a schedule, with its first phase."""
    phase = schedule["phases"][0]
    subscription = subscriptions.start(account, first_params(schedule))
    schedule.update(subscription=subscription["id"], status="active")
    _enter(schedule, phase)


def begin_later(account: Account, schedule: Record) -> None:
    """Begin a schedule that was planned for this time."""
    begin(account, schedule)
    account.announce("subscription_schedule.updated", schedule)


def first_params(schedule: Record) -> dict[str, Any]:
    """Return the parameters of the subscription with which a schedule begins."""
    phase = schedule["phases"][0]
    params = {
        "billing_mode": {"type": schedule["billing_mode"]["type"]},
        "currency": phase["currency"],
        "customer": schedule["customer"],
        "items": phase["_params"]["items"],
        "_schedule": schedule["id"],
        **_default(schedule),
        **phases.settings(phase),
    }
    if len(schedule["phases"]) == 1 and schedule["end_behavior"] == "cancel":
        params["cancel_at"] = phase["end_date"]
    return params


def next_phase(account: Account, schedule: Record) -> None:
    """Begin the phase that follows the current one."""
    phase = phases.current(schedule, schedule["current_phase"]["end_date"])
    if phase is not None:
        apply(account, schedule, phase, phase["proration_behavior"])
        _enter(schedule, phase)
        account.announce("subscription_schedule.updated", schedule)


def apply(account: Account, schedule: Record, phase: Record, proration: str, before: Record | None = None) -> None:
    """Change the subscription to what a phase says; *before* is what that phase has been so far, if it has begun."""
    subscription = account.get("subscription", schedule["subscription"])
    known = {} if before is None else phases.settings(before)
    values: dict[str, Any] = {
        **{name: value for name, value in phases.settings(phase).items() if known.get(name) != value},
        "items": _changes(subscription, phase),
        "proration_behavior": proration,
    }
    if not values["items"]:
        del values["items"]
    if phase["billing_cycle_anchor"] == "phase_start":
        values["billing_cycle_anchor"] = {"type": "now"}
    last = phase is schedule["phases"][-1]
    ends = phase["end_date"] if last and schedule["end_behavior"] == "cancel" else None
    if subscription["cancel_at"] != ends:
        values["cancel_at"] = ends
    subscriptions.change(account, subscription, values)


def finish(account: Account, schedule: Record) -> None:
    """End a schedule: its subscription goes on without it, or has ended."""
    subscription = account.tables["subscription"][schedule["subscription"]]
    over = schedule["phases"][-1]["end_date"] <= account.now
    if subscription["status"] != "canceled":
        release(account, schedule)
    elif over:
        schedule.update(status="completed", completed_at=account.now, current_phase=None)
        account.announce("subscription_schedule.completed", schedule)
    else:
        close(account, schedule)


def release(account: Account, schedule: Record) -> None:
    """Let the subscription go on without its schedule."""
    subscription = account.find("subscription", schedule["subscription"] or "")
    if subscription is not None:
        subscription["schedule"] = None
    schedule.update(
        status="released",
        released_at=account.now,
        released_subscription=schedule["subscription"],
        subscription=None,
        current_phase=None,
    )
    account.announce("subscription_schedule.released", schedule)


def close(account: Account, schedule: Record) -> None:
    """Note that a schedule was canceled."""
    schedule.update(status="canceled", canceled_at=account.now, current_phase=None)
    account.announce("subscription_schedule.canceled", schedule)


def _enter(schedule: Record, phase: Record) -> None:
    schedule["current_phase"] = {"end_date": phase["end_date"], "start_date": phase["start_date"]}


def _default(schedule: Record) -> dict[str, Any]:
    method = schedule["default_settings"]["default_payment_method"]
    return {} if method is None else {"default_payment_method": method}


def _changes(subscription: Record, phase: Record) -> list[dict[str, Any]]:
    """
    Return the changes that make the items of a subscription those of a phase.

    An item keeps its id while its price stays, and where one price takes the place of another of the same kind.
    """
    wanted = [
        params if item["quantity"] is None else {"quantity": 1, **params}
        for params, item in zip(phase["_params"]["items"], phase["items"], strict=True)
    ]
    left, changes = [], []
    for item in items_of(subscription):
        same = next((each for each in wanted if each["price"] == item["price"]["id"]), None)
        if same is None:
            left.append(item)
            continue
        wanted.remove(same)
        kept = {name: value for name, value in same.items() if name != "price" and value != item.get(name)}
        if kept:
            changes.append({"id": item["id"], **kept})
    for item in left:
        if wanted:
            changes.append({"id": item["id"], **wanted.pop(0)})
        else:
            changes.append({"id": item["id"], "deleted": True})
    return changes + wanted
