"""Create a customer and a subscription for a company."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import stripe

from meterkit.accounts.accounts import Accounts
from meterkit.errors import ConfigurationError
from meterkit.pricing.price import Price
from meterkit.provisioning.writer import lookup_key_of
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.outcomes import naming_failures

ENDED = ("canceled", "incomplete_expired")
"""Statuses of subscriptions that bill nothing any more."""


@dataclass(frozen=True, slots=True)
class SubscriptionResult:
    """
    The customer and subscription of a company.

    Attributes:
        customer: Stripe customer id, ``cus_...``.
        subscription: Stripe subscription id, ``sub_...``.
        is_new: Whether the subscription was created by this call.
    """

    customer: str
    subscription: str
    is_new: bool


def subscribe(
    client: stripe.StripeClient,
    accounts: Accounts,
    prices: Iterable[Price],
    *,
    company: str,
    metadata_key: str,
    about: dict[str, str],
    days_until_due: int | None,
) -> SubscriptionResult:
    """
    Create the Stripe customer and the subscription if they do not exist, and link the company. Can be repeated.

    Args:
        client: Client of stripe-python.
        accounts: Store in which the company is linked.
        prices: Prices of the subscription.
        company: Company id, as the application knows it.
        metadata_key: Key under which the customer's metadata contain the company id.
        about: ``name`` and ``email`` of a new customer, as far as they are known.
        days_until_due: Send invoices due after this many days; None charges automatically.

    Raises:
        ConfigurationError: A price does not exist in Stripe yet.
        StripeFailedError: Stripe failed or refused.
        LedgerError: The link could not be stored.
    """
    with naming_failures(f"subscribe {company}"):
        ids = _price_ids(client, list(prices))
        customer = accounts.customer_of(company)
        if customer is None:
            customer = _customer(client, {metadata_key: company})
            accounts.link(company, customer)
            if about:
                changes: Any = about
                client.v1.customers.update(customer, changes)
        return _subscription(client, customer, ids, days_until_due)


def _customer(client: stripe.StripeClient, metadata: dict[str, str]) -> str:
    """Return the id of a new customer, or of the one that an interrupted run created within the last day."""

    def still_there(made: Any) -> Any:
        found = None if made is None else client.v1.customers.retrieve(made.id)
        return None if found is None or getattr(found, "deleted", False) else found

    return str(create_once("customer", client.v1.customers.create, {"metadata": metadata}, look=still_there).id)


def _subscription(
    client: stripe.StripeClient, customer: str, prices: list[str], days_until_due: int | None
) -> SubscriptionResult:
    def running(_: Any = None) -> Any:
        for each in client.v1.subscriptions.list({"customer": customer, "limit": 100}).auto_paging_iter():
            if each.status not in ENDED and {item.price.id for item in each["items"].data} & set(prices):
                return each
        return None

    existing = running()
    if existing is not None:
        return SubscriptionResult(customer, existing.id, is_new=False)
    params: Any = {"customer": customer, "items": [{"price": price} for price in prices]}
    if days_until_due is not None:
        params |= {"collection_method": "send_invoice", "days_until_due": days_until_due}
    made = create_once("subscription", client.v1.subscriptions.create, params, look=running)
    return SubscriptionResult(customer, made.id, is_new=True)


def _price_ids(client: stripe.StripeClient, prices: list[Price]) -> list[str]:
    if not prices:
        raise ConfigurationError("the kit has no prices=, so there is nothing to subscribe to")
    keys = [lookup_key_of(price) for price in prices]
    found: dict[str, str] = {}
    for start in range(0, len(keys), 10):
        for price in client.v1.prices.list({"lookup_keys": keys[start : start + 10], "active": True}).data:
            found[str(price.lookup_key)] = price.id
    missing = [key for key in keys if key not in found]
    if missing:
        raise ConfigurationError(f"Stripe has no price {missing[0]!r} yet: run meterkit provision first")
    return [found[key] for key in keys]
