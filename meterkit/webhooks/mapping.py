"""Map Stripe objects to account models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import stripe

from meterkit.accounts.models import Checkout, Customer, Invoice, Item, StripeMeter, Subscription
from meterkit.core.validation import checked_id, is_customer_id
from meterkit.errors import UsageError
from meterkit.outbox.reports import REPORT_KEY
from meterkit.stripe_api.catalog import Catalog
from meterkit.stripe_api.transport import plain


def customer_of(customer: stripe.Customer, catalog: Catalog, metadata_key: str, now: int) -> Customer:
    """
    Return a customer, with the company id in its metadata under *metadata_key*; a deleted one has only its id.

    Raises:
        stripe.StripeError: The customer's discount could not be read from Stripe.
    """
    if getattr(customer, "deleted", False):
        return Customer(customer.id, "", None, deleted=True, checked_at=now)
    company = _company_in(customer.metadata, metadata_key)
    discounts = catalog.discounts_of_customer(customer.id) if getattr(customer, "discount", None) else []
    return Customer(
        id=customer.id,
        name=customer.name or "",
        company=company,
        deleted=False,
        checked_at=now,
        discounts=json.dumps([_discount(each, None) for each in discounts], sort_keys=True),
    )


def subscription_of(subscription: stripe.Subscription, catalog: Catalog, metadata_key: str, now: int) -> Subscription:
    """
    Return a subscription with its prices, and the company id in its metadata under *metadata_key*.

    Raises:
        stripe.StripeError: A price, a meter or a discount could not be read from Stripe.
    """
    customer = _id(subscription.customer)
    items = list(subscription["items"].auto_paging_iter())  # .items is the method of a dict
    pause: Any = subscription.pause_collection
    thresholds: Any = subscription.billing_thresholds
    discounts = _discounts(subscription, catalog.discounts_of_subscription)
    for item in items:
        discounts += _discounts(item, catalog.discounts_of_item)
    return Subscription(
        id=subscription.id,
        customer=customer,
        status=subscription.status,
        created=subscription.created,
        ended_at=subscription.ended_at,
        cancel_at=subscription.cancel_at,
        currency=subscription.currency,
        billing_mode=str(getattr(subscription.billing_mode, "type", "")),
        anchor=subscription.billing_cycle_anchor,
        trial_start=subscription.trial_start,
        trial_end=subscription.trial_end,
        pause=None if pause is None else str(pause.behavior),
        resumes_at=None if pause is None else pause.resumes_at,
        discounts=json.dumps(discounts, sort_keys=True),
        threshold=None if thresholds is None else thresholds.amount_gte,
        company=_company_in(subscription.metadata, metadata_key),
        started_at=subscription.start_date,
        cancel_reason=getattr(subscription.cancellation_details, "reason", None),
        checked_at=now,
        items=tuple(_item(item, subscription.id, customer, subscription.currency, catalog) for item in items),
    )


def invoice_of(invoice: stripe.Invoice, now: int) -> Invoice:
    """Return an invoice."""
    details = getattr(invoice.parent, "subscription_details", None)
    return Invoice(
        id=str(invoice.id),
        customer=_id(invoice.customer),
        subscription=None if details is None else _id(details.subscription),
        number=invoice.number,
        status=str(invoice.status),
        billing_reason=invoice.billing_reason,
        collection_method=invoice.collection_method,
        currency=invoice.currency,
        total=invoice.total,
        amount_remaining=invoice.amount_remaining,
        attempts=invoice.attempt_count,
        created=invoice.created,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
        due_at=invoice.due_date,
        next_attempt_at=invoice.next_payment_attempt,
        finalized_at=invoice.status_transitions.finalized_at,
        url=invoice.hosted_invoice_url,
        lines=json.dumps([_line(line) for line in invoice.lines.auto_paging_iter()], sort_keys=True),
        checked_at=now,
    )


def meter_of(meter: stripe.billing.Meter) -> StripeMeter:
    """Return a meter."""
    is_active = meter.status == "active"
    return StripeMeter(meter.id, meter.event_name, None if is_active else meter.status_transitions.deactivated_at)


def checkout_of(session: stripe.checkout.Session, metadata_key: str) -> Checkout | None:
    """
    Return which company has paid in a Checkout session; None if it does not say so, or is not complete.

    The company id is in its metadata under *metadata_key*, or is its ``client_reference_id``. The latter does not count
    for a payment link, where whoever opens the link can choose it.
    """
    customer = _id(session.customer)
    if session.status != "complete" or not customer:
        return None
    company = _company_in(session.metadata, metadata_key)
    if company is None and not session.payment_link:
        company = _company_in({metadata_key: session.client_reference_id}, metadata_key)
    return None if company is None else Checkout(customer, company)


def _line(line: stripe.InvoiceLineItem) -> dict[str, Any]:
    known = plain(line)
    details = (known.get("parent") or {}).get("subscription_item_details") or {}
    return {
        "price": ((known.get("pricing") or {}).get("price_details") or {}).get("price"),
        "item": details.get("subscription_item"),
        "quantity": known.get("quantity"),
        "amount": known.get("amount"),
        "start": known["period"]["start"],
        "end": known["period"]["end"],
        "proration": bool(details.get("proration")),
        "report": (known.get("metadata") or {}).get(REPORT_KEY),
    }


def _item(item: stripe.SubscriptionItem, subscription: str, customer: str, currency: str, catalog: Catalog) -> Item:
    # Of all its fields that matter here, only the lookup key changes.
    price = {**catalog.price(item.price.id, currency), "lookup_key": item.price.lookup_key}
    meter = (price.get("recurring") or {}).get("meter")
    return Item(
        id=item.id,
        subscription=subscription,
        customer=customer,
        meter=meter,
        event_name=catalog.event_name(meter) if meter else None,
        quantity=None if meter else getattr(item, "quantity", None),
        since=item.created,
        period_start=item.current_period_start,
        period_end=item.current_period_end,
        price=json.dumps(price, sort_keys=True),
    )


def _discounts(discounted: Any, expanded: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the discounts of a subscription or an item; *expanded* requests them, given the id of that."""
    if not getattr(discounted, "discounts", None):
        return []
    item = discounted.id if discounted.object == "subscription_item" else None
    return [_discount(each, item) for each in expanded(discounted.id)]


def _discount(discount: dict[str, Any], item: str | None) -> dict[str, Any]:
    coupon = discount["source"]["coupon"]
    return {
        "item": item,
        "start": discount["start"],
        "end": discount["end"],
        "duration": coupon["duration"],
        "percent_off": coupon["percent_off"],
        "amount_off": coupon["amount_off"],
        "currency": coupon["currency"],
        "products": (coupon.get("applies_to") or {}).get("products"),
    }


def _id(found: Any) -> str:
    """Return the id of an object, which Stripe may have expanded."""
    return found if isinstance(found, str) else str(getattr(found, "id", "") or "")


def _company_in(metadata: Any, key: str) -> str | None:
    """Return the company id under *key* of an object's metadata; None if there is none, or it is not valid."""
    if not metadata or key not in metadata:
        return None
    try:
        company = checked_id(metadata[key], "company")
    except UsageError:
        return None
    return None if is_customer_id(company) else company  # a customer id pays for itself
