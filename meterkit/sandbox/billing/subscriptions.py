"""Subscriptions: which customer pays which prices, and in which billing periods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.subscription_items import ITEM, chosen_prices, new_item
from meterkit.sandbox.invoicing.invoice_lines import Charge
from meterkit.sandbox.invoicing.invoices import draft, finalize, open_draft
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.lists import listing, page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Array,
    Boolean,
    Choice,
    Integer,
    Object,
    Rule,
    Text,
    merged,
)
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.periods import boundary, following

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

_SHARED: dict[str, Rule] = {
    "cancel_at_period_end": Boolean(),
    "collection_method": Choice(("charge_automatically", "send_invoice")),
    "days_until_due": Integer(0),
    "description": Text(500, nullable=True),
    "metadata": METADATA,
}
CREATE: dict[str, Rule] = {
    **_SHARED,
    "backdate_start_date": Integer(),
    "billing_cycle_anchor": Integer(),
    "billing_mode": Object({"type": Choice(("classic", "flexible"), required=True)}),
    "currency": Text(3),
    "customer": Text(required=True),
    "items": Array(ITEM, required=True),
}
CANCEL: dict[str, Rule] = {"invoice_now": Boolean(), "prorate": Boolean()}
STATUSES = ("active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
LIST: dict[str, Rule] = {
    **PAGE,
    "customer": Text(),
    "price": Text(),
    "status": Choice((*STATUSES, "all", "ended")),
}


def create(account: Account, call: Call) -> Record:
    """Create a subscription, active at once; licensed items are billed in advance, metered ones in arrears."""
    subscription = build(account, call.params)
    account.add(subscription)
    for item in subscription["items"]["data"]:
        account.add(item)
    customer = account.tables["customer"][subscription["customer"]]
    customer["currency"] = customer["currency"] or subscription["currency"]
    account.announce("customer.subscription.created", subscription)
    first = advance_charges(subscription)
    if first or subscription["billing_mode"]["type"] == "classic":
        start = subscription["start_date"]
        invoice = draft(account, subscription, first, reason="subscription_create", period=(start, start))
        open_draft(account, subscription, invoice)
        finalize(account, invoice)
    return subscription


def build(account: Account, params: dict[str, Any]) -> Record:
    """Return the record of a subscription, without storing it or its items."""
    customer = account.get("customer", params["customer"], param="customer")
    prices = chosen_prices(account, params["items"])
    if "currency" in params and params["currency"].lower() != prices[0]["currency"]:
        raise invalid("The subscription's currency must be that of its prices.", param="currency")
    start = params.get("backdate_start_date", account.now)
    if start > account.now:
        raise invalid("The backdate_start_date must be in the past.", param="backdate_start_date")
    anchor = params.get("billing_cycle_anchor", start)
    recurring = prices[0]["recurring"]
    end = following(anchor, recurring["interval"], recurring["interval_count"], account.now)
    if anchor > account.now and anchor != end:
        raise invalid(
            "billing_cycle_anchor cannot be later than next natural billing date.", param="billing_cycle_anchor"
        )
    whole = end == boundary(start, recurring["interval"], recurring["interval_count"], 1)
    if not whole and any(price["recurring"]["usage_type"] == "licensed" for price in prices):
        raise _no_proration("billing_cycle_anchor" if "billing_cycle_anchor" in params else "backdate_start_date")
    subscription = _record(account, params, customer["id"], prices[0]["currency"])
    subscription.update(start_date=start, billing_cycle_anchor=anchor)
    if subscription["cancel_at_period_end"]:
        subscription.update(cancel_at=end, canceled_at=account.now)
    items = [
        new_item(account, subscription["id"], price, item, (start, end))
        for price, item in zip(prices, params["items"], strict=True)
    ]
    subscription["items"] = listing(f"/v1/subscription_items?subscription={subscription['id']}", items)
    subscription["items"]["total_count"] = len(items)
    return subscription


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent. Items cannot be changed here."""
    record = account.get("subscription", call.id)
    if record["status"] == "canceled":
        raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    values = dict(call.params)
    values.pop("expand", None)
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if "cancel_at_period_end" in values:
        ends = values["cancel_at_period_end"]
        values["cancel_at"] = record["items"]["data"][0]["current_period_end"] if ends else None
        values["canceled_at"] = account.now if ends else None
    account.change(record, "customer.subscription.updated", **values)
    return record


def retrieve(account: Account, call: Call) -> Record:
    """Return one subscription, even if it has ended."""
    return account.get("subscription", call.id)


def cancel(account: Account, call: Call) -> Record:
    """End a subscription at once. Without `invoice_now`, its metered usage is not billed."""
    record = account.get("subscription", call.id)
    if record["status"] == "canceled":
        raise invalid(f"No such subscription: '{call.id}'", code="resource_missing", param="id")
    if call.params.get("prorate") and any(item["quantity"] is not None for item in record["items"]["data"]):
        raise _no_proration("prorate")
    end_now(account, record, invoice_now=call.params.get("invoice_now", False))
    return record


def end_now(account: Account, subscription: Record, *, invoice_now: bool = False) -> None:
    """End a subscription, with or without a last invoice for its metered usage."""
    if invoice_now:
        charges = arrears_charges(subscription, until=account.now)
        start = subscription["items"]["data"][0]["current_period_start"]
        invoice = draft(account, subscription, charges, reason="subscription_cycle", period=(start, account.now))
        open_draft(account, subscription, invoice)
    subscription.update(status="canceled", canceled_at=account.now, ended_at=account.now)
    account.announce("customer.subscription.deleted", subscription)


def list_all(account: Account, call: Call) -> Record:
    """Return subscriptions, newest first, without cancelled ones unless requested."""
    params = call.params
    status = params.get("status")
    records = [
        subscription
        for subscription in reversed(account.all("subscription"))
        if params.get("customer") in (None, subscription["customer"])
        and _has_status(subscription, status)
        and (
            "price" not in params or params["price"] in [item["price"]["id"] for item in subscription["items"]["data"]]
        )
    ]
    return page(call, records, "subscription")


def roll(account: Account, subscription: Record) -> None:
    """End the current period: draft its invoice, then begin the next one or end the subscription."""
    items = subscription["items"]["data"]
    start, end = items[0]["current_period_start"], items[0]["current_period_end"]
    charges = arrears_charges(subscription, until=end)
    if subscription["cancel_at_period_end"]:
        subscription.update(status="canceled", ended_at=end)
        account.announce("customer.subscription.deleted", subscription)
    else:
        recurring = items[0]["price"]["recurring"]
        following_end = following(
            subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], end
        )
        for item in items:
            item.update(current_period_start=end, current_period_end=following_end)
        charges += advance_charges(subscription)
        account.announce("customer.subscription.updated", subscription)
    if charges:
        invoice = draft(account, subscription, charges, reason="subscription_cycle", period=(start, end))
        open_draft(account, subscription, invoice)


def arrears_charges(subscription: Record, *, until: int) -> list[Charge]:
    """Return the charges of metered items for the current period."""
    return [
        Charge(subscription["id"], item["id"], item["price"]["id"], item["current_period_start"], until, None)
        for item in subscription["items"]["data"]
        if item["quantity"] is None
    ]


def advance_charges(subscription: Record) -> list[Charge]:
    """Return the charges of licensed items for the period that begins."""
    return [
        Charge(
            subscription["id"],
            item["id"],
            item["price"]["id"],
            item["current_period_start"],
            item["current_period_end"],
            item["quantity"],
        )
        for item in subscription["items"]["data"]
        if item["quantity"] is not None
    ]


def _has_status(subscription: Record, status: str | None) -> bool:
    if status == "all":
        return True
    canceled = subscription["status"] == "canceled"
    if status is None or status == "ended":
        return canceled is (status == "ended")
    return status == str(subscription["status"])


def _no_proration(param: str) -> ApiError:
    # An error is better than a made-up amount.
    return invalid("This sandbox does not prorate licensed prices.", param=param)


def _record(account: Account, params: dict[str, Any], customer: str, currency: str) -> Record:
    method = params.get("collection_method", "charge_automatically")
    if method == "send_invoice" and "days_until_due" not in params:
        raise invalid(
            "You must specify `days_until_due` with `collection_method=send_invoice`.", param="days_until_due"
        )
    if method != "send_invoice" and "days_until_due" in params:
        raise invalid("`days_until_due` needs `collection_method=send_invoice`.", param="days_until_due")
    nothing = dict.fromkeys(
        (
            "application", "application_fee_percent", "billing_cycle_anchor_config", "billing_thresholds", "cancel_at",
            "canceled_at", "customer_account", "default_payment_method", "default_source", "ended_at", "latest_invoice",
            "next_pending_invoice_item_invoice", "on_behalf_of", "pause_collection", "pending_invoice_item_interval",
            "pending_setup_intent", "pending_update", "schedule", "test_clock", "transfer_data", "trial_end",
            "trial_start",
        )
    )  # fmt: skip
    mode = params.get("billing_mode", {}).get("type", "flexible")
    return {
        **nothing,
        "id": account.new_id("subscription"),
        "object": "subscription",
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_mode": {
            "flexible": {"proration_discounts": "included"} if mode == "flexible" else None,
            "type": mode,
            "updated_at": None,
        },
        "billing_schedules": [],
        "cancel_at_period_end": params.get("cancel_at_period_end", False),
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": method,
        "created": account.now,
        "currency": currency,
        "customer": customer,
        "days_until_due": params.get("days_until_due"),
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "livemode": account.switches.livemode,
        "metadata": merged({}, params.get("metadata")),
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "status": "active",
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
    }


_SUBSCRIPTION = "/v1/subscriptions/{id}"
ROUTES = [
    Route("POST", "/v1/subscriptions", create, CREATE),
    Route("GET", "/v1/subscriptions", list_all, LIST),
    Route("GET", _SUBSCRIPTION, retrieve),
    Route("POST", _SUBSCRIPTION, update, _SHARED),
    Route("DELETE", _SUBSCRIPTION, cancel, CANCEL),
]
