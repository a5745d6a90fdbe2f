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
"""Stripe's words for subscriptions that bill nothing any more."""


@dataclass(frozen=True, slots=True)
class SubscriptionResult:
    """
    What a company has in Stripe now.

    Attributes:
        customer: ``cus_...``.
        subscription: ``sub_...``.
        is_new: The subscription was made now.
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
    Make the customer and the subscription, as far as they are not there. Can be repeated.

    Args:
        client: Of stripe-python.
        accounts: Of the ledger, which remembers the customer.
        prices: What is subscribed to.
        company: As the application knows it.
        metadata_key: Under which the customer's metadata name it.
        about: The customer's ``name`` and ``email``, if they are known.
        days_until_due: Send invoices that are due after so many days; None charges automatically.

    Raises:
        ConfigurationError: A price is not in Stripe yet.
        StripeFailedError: Stripe did not answer, or refuses.
        LedgerError: The ledger could not keep the customer.
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
    """A new one; or that which a run that was broken off has made within the last day."""

    def still_there(made: Any) -> Any:
        found = None if made is None else client.v1.customers.retrieve(made.id)
        return None if found is None or getattr(found, "deleted", False) else found

    return str(create_once("customer", client.v1.customers.create, {"metadata": metadata}, look=still_there).id)


def _subscription(
    client: stripe.StripeClient, customer: str, prices: list[str], days_until_due: int | None
) -> SubscriptionResult:
    def running(_: Any = None) -> Any:
        for held in client.v1.subscriptions.list({"customer": customer, "limit": 100}).auto_paging_iter():
            if held.status not in ENDED and {item.price.id for item in held["items"].data} & set(prices):
                return held
        return None

    held = running()
    if held is not None:
        return SubscriptionResult(customer, held.id, is_new=False)
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
