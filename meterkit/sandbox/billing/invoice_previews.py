"""Invoice previews: the next invoice as it would be if the period ended now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing import cancellation, subscriptions
from meterkit.sandbox.billing.cycles import next_end, roll
from meterkit.sandbox.invoicing import discounts
from meterkit.sandbox.invoicing.invoices import refresh
from meterkit.sandbox.protocol.errors import ApiError, invalid, missing_parameter
from meterkit.sandbox.protocol.params import Boolean, Choice, Integer, Object, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.fork import fork

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

# What a preview may change about a subscription; what it may say about a new one.
_CHANGES = ("cancel_at", "cancel_at_period_end", "items", "proration_behavior", "proration_date", "trial_end")
_DETAILS: dict[str, Rule] = {
    **{name: subscriptions.UPDATE[name] for name in _CHANGES},
    "billing_cycle_anchor": Object(
        {"timestamp": Integer(0), "type": Choice(("now", "timestamp", "unchanged"), required=True)}
    ),
    "billing_mode": subscriptions.CREATE["billing_mode"],
    "cancel_now": Boolean(),
}
FIELDS: dict[str, Rule] = {
    "customer": Text(),
    "discounts": discounts.PARAM,
    "preview_mode": Choice(("next", "recurring")),
    "subscription": Text(),
    "subscription_details": Object(_DETAILS),
}


def create(account: Account, call: Call) -> Record:
    """
    Return the next invoice of a subscription, of a changed one, or of one that does not exist yet.

    It is made in a fork of the account, by what will make it, so it has all that the invoice will have.
    """
    params = call.params
    if "subscription_details" in params and "subscription" not in params:
        return _of_new(account, params)
    found = _subject(account, params)
    forked = fork(account, found["customer"])
    subscription = forked.get("subscription", found["id"])
    known = set(forked.tables["invoice"])
    if params.get("preview_mode") == "recurring":  # without what is billed once
        forked.tables["invoiceitem"] = {}
    if "subscription_details" in params:
        details = dict(params["subscription_details"])
        if "timestamp" in details.get("billing_cycle_anchor", {}).values():
            raise invalid(
                "`billing_cycle_anchor[type]=timestamp` is for subscriptions that do not exist yet.",
                param="subscription_details[billing_cycle_anchor][type]",
            )
        if details.pop("cancel_now", False):
            cancellation.end_now(forked, subscription, invoice_now=True)
        else:
            subscriptions.change(forked, subscription, details)
    if "discounts" in params:
        _discount(forked, subscription, params)
    return _next(account, forked, subscription, known)


def _of_new(account: Account, params: dict[str, Any]) -> Record:
    if "customer" not in params:
        raise invalid("You must pass `customer` or `subscription` to preview an invoice.", code="parameter_missing")
    forked = fork(account, account.get("customer", params["customer"], param="customer")["id"])
    known = set(forked.tables["invoice"])
    details = {"customer": params["customer"], **params["subscription_details"]}
    anchor = details.pop("billing_cycle_anchor", {})
    if "timestamp" in anchor:
        details["billing_cycle_anchor"] = anchor["timestamp"]
    if "items" not in details:
        raise missing_parameter("subscription_details[items]")
    if any("price" not in item for item in details["items"]):
        raise missing_parameter("subscription_details[items][0][price]")
    if "discounts" in params:
        details["discounts"] = params["discounts"]
    subscription = subscriptions.start(forked, details)
    invoice = _next(account, forked, subscription, known)
    invoice["parent"]["subscription_details"]["subscription"] = None
    for line in invoice["_lines"]:
        line["subscription"] = None
        if line["parent"]["subscription_item_details"]:
            line["parent"]["subscription_item_details"]["subscription"] = None
    return invoice


def _discount(forked: Account, subscription: Record, params: dict[str, Any]) -> None:
    subscription["discounts"] = discounts.attach(
        forked,
        params["discounts"],
        subscription["customer"],
        subscription["currency"],
        kept=subscription["discounts"],
        subscription=subscription["id"],
    )


def _next(account: Account, forked: Account, subscription: Record, known: set[str]) -> Record:
    """Return the first new invoice of a fork; if none is due at once, the one that ends the period."""
    if not set(forked.tables["invoice"]) - known:
        if subscription["status"] in ("canceled", "paused"):
            raise _none(subscription["customer"])
        forked.clock.pin(next_end(subscription))
        roll(forked, subscription)
    made = [invoice for identity, invoice in forked.tables["invoice"].items() if identity not in known]
    if not made:
        raise _none(subscription["customer"])
    invoice = made[0]
    refresh(forked, invoice, with_credit=True)
    due = invoice["created"] + account.switches.invoice_grace
    invoice.update(
        id=fresh_id("upcoming_in_1", 23),
        automatically_finalizes_at=None,
        billing_reason="upcoming",
        created=account.now,
        next_payment_attempt=due if invoice["collection_method"] == "charge_automatically" else None,
    )
    for line in invoice["_lines"]:
        line["invoice"] = invoice["id"]
    invoice["lines"]["url"] = f"/v1/invoices/{invoice['id']}/lines"
    return invoice


def _subject(account: Account, params: dict[str, Any]) -> Record:
    if "subscription" in params:
        found = account.get("subscription", params["subscription"], param="subscription")
        if params.get("customer") not in (None, found["customer"]):
            raise invalid(f"The subscription {found['id']} is not the customer's.", param="subscription")
        candidates = [found]
    elif "customer" in params:
        customer = account.get("customer", params["customer"], param="customer")["id"]
        candidates = [each for each in account.all("subscription") if each["customer"] == customer]
    else:
        raise invalid("You must pass `customer` or `subscription` to preview an invoice.", code="parameter_missing")
    upcoming = [each for each in candidates if each["status"] not in ("canceled", "paused")]
    if not upcoming:
        raise _none(params.get("customer"))
    return min(upcoming, key=next_end)


def _none(customer: str | None) -> ApiError:
    return ApiError(404, f"No upcoming invoices for customer: {customer}", code="invoice_upcoming_none")


ROUTES = [Route("POST", "/v1/invoices/create_preview", create, FIELDS)]
