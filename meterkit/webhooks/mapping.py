"""Map Stripe objects to account models."""

from __future__ import annotations

import json
from typing import Any

import stripe

from meterkit.accounts.models import Customer, Invoice, Item, Subscription
from meterkit.core.validation import checked_id, is_customer_id
from meterkit.errors import UsageError
from meterkit.stripe_api.catalog import Catalog


def customer_of(customer: stripe.Customer, metadata_key: str, now: int) -> Customer:
    """Return a customer, with the company id in its metadata under *metadata_key*; a deleted one has only its id."""
    if getattr(customer, "deleted", False):
        return Customer(customer.id, "", None, deleted=True, checked_at=now)
    metadata: Any = customer.metadata or {}
    company = metadata[metadata_key] if metadata_key in metadata else None  # noqa: SIM401 - not always a dict
    return Customer(customer.id, customer.name or "", _company(company), deleted=False, checked_at=now)


def subscription_of(subscription: stripe.Subscription, catalog: Catalog, now: int) -> Subscription:
    """
    Return a subscription with its prices.

    Raises:
        stripe.StripeError: A price or a meter could not be read from Stripe.
    """
    customer = _id(subscription.customer)
    return Subscription(
        id=subscription.id,
        customer=customer,
        status=subscription.status,
        created=subscription.created,
        ended_at=subscription.ended_at,
        cancel_at=subscription.cancel_at,
        checked_at=now,
        items=tuple(
            _item(item, subscription.id, customer, catalog)
            for item in subscription["items"].auto_paging_iter()  # .items is the method of a dict
        ),
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
        checked_at=now,
    )


def _item(item: stripe.SubscriptionItem, subscription: str, customer: str, catalog: Catalog) -> Item:
    price = catalog.price(item.price.id)
    meter = (price.get("recurring") or {}).get("meter")
    return Item(
        id=item.id,
        subscription=subscription,
        customer=customer,
        event_name=catalog.event_name(meter) if meter else None,
        quantity=None if meter else getattr(item, "quantity", None),
        period_start=item.current_period_start,
        period_end=item.current_period_end,
        price=json.dumps(price, sort_keys=True),
    )


def _id(found: Any) -> str:
    """Return the id of an object, which Stripe may have expanded."""
    return found if isinstance(found, str) else str(getattr(found, "id", ""))


def _company(named: Any) -> str | None:
    try:
        company = checked_id(named, "company")
    except UsageError:
        return None
    return None if is_customer_id(company) else company  # a customer id pays for itself
