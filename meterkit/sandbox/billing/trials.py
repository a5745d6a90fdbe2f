"""Trials: a first period that costs nothing, and what its end does to the subscription."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import item_changes
from meterkit.sandbox.billing.charges import advance, items_of, period_end
from meterkit.sandbox.billing.cycles import begin, bill
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import Choice, Integer, Moment, Object, Rule

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

DAY = 24 * 3600
NOTICE = 3 * DAY  # `trial_will_end` comes that long before the end
LONGEST = 730  # days
NOW = "now"

SETTINGS = Object(
    {
        "end_behavior": Object(
            {
                "billing_cycle_anchor": Choice(("now", "unchanged")),
                "missing_payment_method": Choice(("cancel", "create_invoice", "pause")),
            },
            required=True,
        )
    }
)
UPDATE: dict[str, Rule] = {"trial_end": Moment((NOW,)), "trial_settings": SETTINGS}
CREATE: dict[str, Rule] = {**UPDATE, "trial_period_days": Integer(1, LONGEST)}


def end_of(account: Account, params: dict[str, Any], start: int) -> int | None:
    """
    Return the Unix second at which the trial of a new subscription ends; None if it has none.

    Raises:
        ApiError: 400 if both ways to say it are used, or if the end lies in the past.

    """
    if "trial_end" in params and "trial_period_days" in params:
        raise invalid("You cannot set both `trial_end` and `trial_period_days`.", param="trial_end")
    if "trial_period_days" in params:
        return start + int(params["trial_period_days"]) * DAY
    end = params.get("trial_end", NOW)
    if end == NOW:
        return None
    _check(account, end)
    return int(end)


def settings(params: dict[str, Any]) -> Record:
    """Return a subscription's `trial_settings`."""
    behavior = params.get("trial_settings", {}).get("end_behavior", {})
    return {
        "end_behavior": {
            "billing_cycle_anchor": behavior.get("billing_cycle_anchor"),
            "missing_payment_method": behavior.get("missing_payment_method", "create_invoice"),
        }
    }


def notice_due(subscription: Record) -> int | None:
    """Return the Unix second at which `trial_will_end` is due; None if there is no trial or it was sent."""
    if subscription["status"] != "trialing" or subscription.get("_notified") == subscription["trial_end"]:
        return None
    return max(int(subscription["trial_end"]) - NOTICE, int(subscription["trial_start"]))


def notify(account: Account, subscription: Record) -> None:
    """Announce that a trial is about to end, once for each end."""
    subscription["_notified"] = subscription["trial_end"]
    account.announce("customer.subscription.trial_will_end", subscription)


def change(account: Account, subscription: Record, end: int | str) -> None:
    """End the trial now, or let it last until another time. A subscription without one gets a free period."""
    now = account.now
    if end == NOW:
        if subscription["status"] == "trialing":
            subscription.update(trial_end=now)
            notify(account, subscription)
            if subscription["trial_settings"]["end_behavior"]["billing_cycle_anchor"] != "unchanged":
                subscription["billing_cycle_anchor"] = now
            _begin_paying(account, subscription, "customer.subscription.updated")
        return
    _check(account, int(end))
    if subscription["status"] != "trialing":
        item_changes.leave_all(account, subscription)
    started = subscription["trial_start"] if subscription["status"] == "trialing" else now
    for item in items_of(subscription):
        item.update(current_period_start=started, current_period_end=end, _since=started, _billed=0, _used=Decimal(0))
    account.change(
        subscription,
        "customer.subscription.updated",
        status="trialing",
        trial_start=started,
        trial_end=end,
        billing_cycle_anchor=end,
    )
    bill(
        account,
        subscription,
        advance(subscription, items_of(subscription)),
        reason="subscription_update",
        period=(now, now),
        at_once=True,
    )


def resume(account: Account, subscription: Record, *, unchanged: bool) -> None:
    """Continue a subscription that its trial's end has paused, with a period that begins now."""
    if not unchanged:
        subscription["billing_cycle_anchor"] = account.now
    _begin_paying(account, subscription, "customer.subscription.resumed")


def _begin_paying(account: Account, subscription: Record, event: str) -> None:
    """Begin periods that are paid, now, and bill what is due in advance at once."""
    now, items = account.now, items_of(subscription)
    previous = {"status": subscription["status"]}
    subscription["status"] = "active"
    begin(subscription, items, now)
    account.announce(event, subscription, previous)
    charges = advance(subscription, items)
    bill(account, subscription, charges, reason="subscription_update", period=(now, now), at_once=True)


def _check(account: Account, end: int) -> None:
    if end <= account.now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")


def first_end(account: Account, subscription: Record, price: Record) -> int:
    """Return when the first period of an item ends: with the trial, or on the first billing date."""
    if subscription["trial_end"] is not None:
        return int(subscription["trial_end"])
    return period_end(subscription, price, account.now)
