"""Cancellation of a subscription: at once, at a time, or with its period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.charges import arrears, items_of
from meterkit.sandbox.billing.cycles import bill
from meterkit.sandbox.billing.prorations import credit
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import Boolean, Choice, Moment, Object, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_FEEDBACK = Choice(
    (
        "customer_service", "low_quality", "missing_features", "other", "switched_service", "too_complex",
        "too_expensive", "unused",
    ),
    nullable=True,
)  # fmt: skip
DETAILS = Object({"comment": Text(nullable=True), "feedback": _FEEDBACK})
CANCEL: dict[str, Rule] = {"cancellation_details": DETAILS, "invoice_now": Boolean(), "prorate": Boolean()}
FIELDS: dict[str, Rule] = {
    "cancel_at": Moment(("max_period_end", "min_period_end"), nullable=True),
    "cancel_at_period_end": Boolean(),
    "cancellation_details": DETAILS,
}


def cancel(account: Account, call: Call) -> Record:
    """End a subscription at once. Without `invoice_now`, its metered usage is not billed."""
    record = account.get("subscription", call.id)
    if record["status"] == "canceled":
        raise invalid(f"No such subscription: '{call.id}'", code="resource_missing", param="id")
    if call.params.get("prorate"):
        for item in items_of(record):
            credit(account, record, item, account.now)
    record["cancellation_details"] = _details(call.params, "cancellation_requested")
    end_now(account, record, invoice_now=call.params.get("invoice_now", False))
    return record


def end_now(account: Account, subscription: Record, *, invoice_now: bool = False) -> None:
    """End a subscription, with or without a last invoice for its metered usage."""
    if invoice_now:
        items = items_of(subscription)
        trial = subscription["status"] == "trialing"
        charges = [] if trial else arrears(subscription, items, until=account.now)
        start = min(item["current_period_start"] for item in items)
        bill(account, subscription, charges, reason="subscription_cycle", period=(start, account.now))
    subscription.update(status="canceled", canceled_at=account.now, ended_at=account.now)
    account.announce("customer.subscription.deleted", subscription)


def planned(account: Account, subscription: Record, params: dict[str, Any]) -> Record:
    """
    Return the fields that say when a subscription is to end, as the parameters set them.

    Raises:
        ApiError: 400 if there are two times, or if the time lies in the past.

    """
    if "cancel_at" in params and params.get("cancel_at_period_end"):
        raise invalid("You may only specify one of `cancel_at`, `cancel_at_period_end`.", param="cancel_at")
    ends = {item["current_period_end"] for item in items_of(subscription)}
    moment, with_period = params.get("cancel_at"), params.get("cancel_at_period_end")
    if with_period and len(ends) > 1:
        raise invalid(
            "`cancel_at_period_end` cannot be used when the periods of the items end at different times. Use "
            "`cancel_at=min_period_end` or `cancel_at=max_period_end`.",
            param="cancel_at_period_end",
        )
    if with_period or moment == "min_period_end":
        moment = min(ends)
    elif moment == "max_period_end":
        moment = max(ends)
    elif moment is not None and moment <= account.now:
        raise invalid("`cancel_at` must be in the future.", param="cancel_at")
    fields: Record = {}
    if "cancel_at" in params or "cancel_at_period_end" in params:
        fields = {
            "cancel_at": moment,
            "cancel_at_period_end": bool(with_period),
            "canceled_at": None if moment is None else account.now,
            "_cancel_prorates": params.get("proration_behavior") != "none",
        }
    if "cancellation_details" in params or fields:
        reason = "cancellation_requested" if fields.get("cancel_at") else None
        fields["cancellation_details"] = _details(params, reason)
    return fields


def _details(params: dict[str, Any], reason: str | None) -> Record:
    given = params.get("cancellation_details", {})
    return {
        "comment": given.get("comment"),
        "feedback": given.get("feedback"),
        "feedback_option": None,
        "reason": reason,
    }


ROUTES = [Route("DELETE", "/v1/subscriptions/{id}", cancel, CANCEL)]
