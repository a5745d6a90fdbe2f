"""Subscriptions: which customer pays which prices, and in which billing periods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import cancellation, item_changes, thresholds, trials
from meterkit.sandbox.billing.charges import advance, items_of, rhythm
from meterkit.sandbox.billing.cycles import bill
from meterkit.sandbox.billing.subscription_items import CHANGE, ITEM, check_together, chosen_prices, new_item
from meterkit.sandbox.charging import payment_methods
from meterkit.sandbox.invoicing import discounts, pauses
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.lists import listing, page
from meterkit.sandbox.protocol.params import (
    METADATA,
    PAGE,
    Array,
    Choice,
    Integer,
    Object,
    Rule,
    Text,
    merged,
)
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.fork import fork
from meterkit.sandbox.state.periods import boundary, following

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

ANCHOR = Object({"type": Choice(("now", "unchanged"), required=True)})
_SHARED: dict[str, Rule] = {
    "billing_thresholds": thresholds.PARAM,
    **cancellation.FIELDS,
    "collection_method": Choice(("charge_automatically", "send_invoice")),
    "days_until_due": Integer(0),
    "default_payment_method": Text(nullable=True),
    "description": Text(500, nullable=True),
    "discounts": discounts.PARAM,
    "metadata": METADATA,
}
CREATE: dict[str, Rule] = {
    **_SHARED,
    **trials.CREATE,
    "backdate_start_date": Integer(),
    "billing_cycle_anchor": Integer(),
    "billing_mode": Object({"type": Choice(("classic", "flexible"), required=True)}),
    "currency": Text(3),
    "customer": Text(required=True),
    "items": Array(ITEM, required=True),
    "proration_behavior": item_changes.FIELDS["proration_behavior"],
}
UPDATE: dict[str, Rule] = {
    **_SHARED,
    **trials.UPDATE,
    **item_changes.FIELDS,
    "billing_cycle_anchor": ANCHOR,
    "items": Array(CHANGE),
    "pause_collection": pauses.PARAM,
}
RESUME: dict[str, Rule] = {
    "billing_cycle_anchor": ANCHOR,
    "proration_behavior": item_changes.FIELDS["proration_behavior"],
}
STATUSES = ("active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
LIST: dict[str, Rule] = {
    **PAGE,
    "customer": Text(),
    "price": Text(),
    "test_clock": Text(),
    "status": Choice((*STATUSES, "all", "ended")),
}


def create(account: Account, call: Call) -> Record:
    """Create a subscription, active at once; licensed items are billed in advance, metered ones in arrears."""
    start(fork(account, call.params["customer"]), call.params)  # if it is refused, nothing has happened
    return start(account, call.params)


def start(account: Account, params: dict[str, Any]) -> Record:
    """Create a subscription from its parameters, and bill what is due in advance."""
    subscription = build(account, params)
    account.add(subscription)
    for item, given in zip(items_of(subscription), params["items"], strict=True):
        account.add(item)
        if "discounts" in given:
            item["discounts"] = _discount(account, subscription, given, item["id"])
    subscription["discounts"] = _discount(account, subscription, params)
    customer = account.tables["customer"][subscription["customer"]]
    customer["currency"] = subscription["currency"]
    account.announce("customer.subscription.created", subscription)
    prorates = params.get("proration_behavior") != "none"
    first = [each for each in advance(subscription, items_of(subscription)) if prorates or each.share is None]
    if first or subscription["billing_mode"]["type"] == "classic":
        start = subscription["start_date"]
        bill(account, subscription, first, reason="subscription_create", period=(start, start), at_once=True)
    return subscription


def build(account: Account, params: dict[str, Any]) -> Record:
    """Return the record of a subscription, without storing it or its items."""
    customer = account.get("customer", params["customer"], param="customer")
    prices = chosen_prices(account, params["items"])
    currency = _currency(account, customer, params, prices)
    check_together(prices, currency, params.get("billing_mode", {}).get("type", "flexible"))
    start = params.get("backdate_start_date", account.now)
    if start > account.now:
        raise invalid("The backdate_start_date must be in the past.", param="backdate_start_date")
    subscription = _record(account, params, customer["id"], currency)
    subscription.update(start_date=start, test_clock=customer["test_clock"], schedule=params.get("_schedule"))
    subscription["billing_thresholds"] = thresholds.settings(params.get("billing_thresholds"))
    trial_end = trials.end_of(account, params, account.now)
    subscription["billing_cycle_anchor"] = params.get("billing_cycle_anchor", trial_end or start)
    if trial_end is not None:
        subscription.update(status="trialing", trial_start=account.now, trial_end=trial_end)
    else:
        _check_anchor(account, subscription, params, prices)
    items = []
    for price, item in zip(prices, params["items"], strict=True):
        period = (account.now if trial_end else start, trials.first_end(account, subscription, price))
        items.append(new_item(account, subscription["id"], price, item, period))
    if params.get("default_payment_method") is not None:
        subscription["default_payment_method"] = _payment_method(account, params, customer["id"])
    subscription["items"] = listing(f"/v1/subscription_items?subscription={subscription['id']}", items)
    subscription["items"]["total_count"] = len(items)
    subscription.update(cancellation.planned(account, subscription, params))
    return subscription


def _currency(account: Account, customer: Record, params: dict[str, Any], prices: list[Record]) -> str:
    """
    Return the currency of a new subscription: the one requested, else the customer's, else that of its prices.

    Raises:
        ApiError: 400 if something of the customer has another currency.

    """
    own = customer["currency"]
    default = own if own and all(own in price["currency_options"] for price in prices) else prices[0]["currency"]
    currency = str(params.get("currency", default)).lower()
    if "currency" in params and any(currency not in price["currency_options"] for price in prices):
        raise invalid("The subscription's currency must be among those of its prices.", param="currency")
    taken = [
        each["currency"]
        for each in (*account.all("subscription"), *account.all("invoiceitem"))
        if each["customer"] == customer["id"] and each.get("status") != "canceled" and each.get("invoice") is None
    ]
    if customer["balance"]:
        taken.append(own)
    if any(other != currency for other in taken):
        raise invalid(
            "You cannot combine currencies on a single customer. This customer has an active subscription, "
            f"subscription schedule, discount, quote, or invoice item with currency {own or taken[0]}.",
            param="currency" if "currency" in params else None,
        )
    return currency


def _discount(account: Account, record: Record, params: dict[str, Any], item: str | None = None) -> list[str]:
    kept = account.tables["subscription_item"][item]["discounts"] if item else record["discounts"]
    return discounts.attach(
        account,
        params.get("discounts"),
        record["customer"],
        record["currency"],
        kept=kept,
        subscription=record["id"],
        subscription_item=item,
    )


def _check_anchor(account: Account, subscription: Record, params: dict[str, Any], prices: list[Record]) -> None:
    start, anchor = subscription["start_date"], subscription["billing_cycle_anchor"]
    for price in prices:
        end = following(anchor, *rhythm(price), account.now)
        if anchor > account.now and anchor != end:
            raise invalid(
                "billing_cycle_anchor cannot be later than next natural billing date.", param="billing_cycle_anchor"
            )
        licensed = price["recurring"]["usage_type"] == "licensed"
        if "backdate_start_date" in params and licensed and end != boundary(start, *rhythm(price), 1):
            # An error is better than a made-up amount.
            raise invalid("This sandbox does not prorate licensed prices.", param="backdate_start_date")


def update(account: Account, call: Call) -> Record:
    """Change the fields that were sent."""
    record = account.get("subscription", call.id)
    if record["status"] == "canceled":
        raise invalid("A canceled subscription can only update its cancellation_details and metadata.")
    values = {key: value for key, value in call.params.items() if key != "expand"}
    forked = fork(account, record["customer"])
    change(forked, forked.get("subscription", call.id), dict(values))  # if it is refused, nothing has happened
    change(account, record, values)
    return record


def change(account: Account, record: Record, values: dict[str, Any]) -> None:
    """Change a subscription as the parameters say."""
    if "metadata" in values:
        values["metadata"] = merged(record["metadata"], values["metadata"])
    if values.get("default_payment_method") is not None:
        values["default_payment_method"] = _payment_method(account, values, record["customer"])
    if "trial_settings" in values:
        values["trial_settings"] = trials.settings(values)
    if "billing_thresholds" in values:
        values["billing_thresholds"] = thresholds.settings(values["billing_thresholds"])
    if "pause_collection" in values:
        values["pause_collection"] = pauses.settings(account, values["pause_collection"])
    if "discounts" in values:
        values["discounts"] = _discount(account, record, values)
    values.update(cancellation.planned(account, record, values))
    items, trial_end = values.pop("items", []), values.pop("trial_end", None)
    anchor = values.pop("billing_cycle_anchor", {}).get("type", "unchanged")
    options = {name: values.pop(name) for name in item_changes.FIELDS if name in values}
    account.change(record, "customer.subscription.updated", **values)
    if items or anchor == "now":
        item_changes.apply(account, record, items, options, anew=anchor == "now" and trial_end is None)
    if trial_end is not None:
        trials.change(account, record, trial_end)


def retrieve(account: Account, call: Call) -> Record:
    """Return one subscription, even if it has ended."""
    return account.get("subscription", call.id)


def resume(account: Account, call: Call) -> Record:
    """Continue a paused subscription."""
    record = account.get("subscription", call.id)
    if record["status"] != "paused":
        raise invalid("You can only resume a subscription that is paused.")
    trials.resume(account, record, unchanged=call.params.get("billing_cycle_anchor", {}).get("type") == "unchanged")
    return record


def list_all(account: Account, call: Call) -> Record:
    """Return subscriptions, newest first, without cancelled ones unless requested."""
    params = call.params
    status = params.get("status")
    records = [
        subscription
        for subscription in reversed(account.all("subscription"))
        if params.get("customer") in (None, subscription["customer"])
        and ("customer" in params or subscription["test_clock"] == params.get("test_clock"))
        and _has_status(subscription, status)
        and (
            "price" not in params or params["price"] in [item["price"]["id"] for item in subscription["items"]["data"]]
        )
    ]
    return page(call, records, "subscription")


def _payment_method(account: Account, params: dict[str, Any], customer: str) -> str:
    param = "default_payment_method"
    return str(payment_methods.named(account, params[param], param=param, customer=customer)["id"])


def _has_status(subscription: Record, status: str | None) -> bool:
    if status == "all":
        return True
    canceled = subscription["status"] == "canceled"
    if status is None or status == "ended":
        return canceled is (status == "ended")
    return status == str(subscription["status"])


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
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "feedback_option": None, "reason": None},
        "collection_method": method,
        "created": account.now,
        "currency": currency,
        "customer": customer,
        "days_until_due": params.get("days_until_due"),
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "livemode": account.switches.livemode,
        "metadata": merged({}, params.get("metadata")),
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "status": "active",
        "trial_settings": trials.settings(params),
        "_cancel_prorates": True,
    }


_SUBSCRIPTION = "/v1/subscriptions/{id}"
ROUTES = [
    Route("POST", "/v1/subscriptions", create, CREATE),
    Route("GET", "/v1/subscriptions", list_all, LIST),
    Route("GET", _SUBSCRIPTION, retrieve),
    Route("POST", _SUBSCRIPTION, update, UPDATE),
    Route("POST", f"{_SUBSCRIPTION}/resume", resume, RESUME),
    *cancellation.ROUTES,
]
