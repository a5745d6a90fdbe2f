"""Invoice previews: the next invoice as it would be if the period ended now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.billing.subscription_items import ITEM
from meterkit.sandbox.billing.subscriptions import advance_charges, arrears_charges, build
from meterkit.sandbox.invoicing.invoice_lines import Charge
from meterkit.sandbox.invoicing.invoices import draft
from meterkit.sandbox.protocol.errors import ApiError, invalid
from meterkit.sandbox.protocol.params import Array, Choice, Object, Rule, Text
from meterkit.sandbox.protocol.routes import Call, Route
from meterkit.sandbox.state.account import fresh_id
from meterkit.sandbox.state.periods import following

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

FIELDS: dict[str, Rule] = {
    "customer": Text(),
    "preview_mode": Choice(("next", "recurring")),  # without prorations and one-off items they are the same
    "subscription": Text(),
    "subscription_details": Object({"items": Array(ITEM, required=True)}),
}


def create(account: Account, call: Call) -> Record:
    """Return the next invoice of a subscription, or of one that does not exist yet."""
    subscription = _subject(account, call.params)
    first = subscription["items"]["data"][0]
    start, end = first["current_period_start"], first["current_period_end"]
    charges = arrears_charges(subscription, until=end)
    if not subscription["cancel_at_period_end"]:
        charges += _next_period(subscription, end)
    invoice = draft(
        account,
        subscription,
        charges,
        reason="upcoming",
        period=(start, end),
        identity=fresh_id("upcoming_in_1", 23),
    )
    invoice.update(automatically_finalizes_at=None, next_payment_attempt=end + account.switches.invoice_grace)
    return invoice


def _subject(account: Account, params: dict[str, Any]) -> Record:
    if "subscription_details" in params:
        if "customer" not in params or "subscription" in params:
            raise invalid(
                "This sandbox previews `subscription_details` only with a `customer`, without a subscription."
            )
        return {**build(account, {"customer": params["customer"], **params["subscription_details"]}), "id": ""}
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
    upcoming = [each for each in candidates if each["status"] == "active"]
    if not upcoming:
        raise ApiError(
            404, f"No upcoming invoices for customer: {params.get('customer')}", code="invoice_upcoming_none"
        )
    return min(upcoming, key=lambda each: int(each["items"]["data"][0]["current_period_end"]))


def _next_period(subscription: Record, end: int) -> list[Charge]:
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    anchor = subscription["billing_cycle_anchor"]
    last = following(anchor, recurring["interval"], recurring["interval_count"], end)
    return [
        Charge(charge.subscription, charge.item, charge.price, end, last, charge.quantity)
        for charge in advance_charges(subscription)
    ]


ROUTES = [Route("POST", "/v1/invoices/create_preview", create, FIELDS)]
