"""Edges: a company becomes a Stripe customer with a subscription to the kit's prices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import stripe

from meterkit.accounts import Accounts
from meterkit.errors import ConfigurationError
from meterkit.pricing import Price
from meterkit.stripe_writes import lookup_key_of
from meterkit.verdict import naming_failures

ENDED = ("canceled", "incomplete_expired")
"""Stripe's words for subscriptions that bill nothing any more."""


@dataclass(frozen=True, slots=True)
class Subscribed:
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
) -> Subscribed:
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
            what: Any = {**about, "metadata": {metadata_key: company}}
            key = hashlib.sha256(company.encode()).hexdigest()[:40]
            customer = client.v1.customers.create(what, options={"idempotency_key": f"meterkit-customer-{key}"}).id
            accounts.link(company, customer)
        return _subscription(client, customer, ids, days_until_due)


def _subscription(
    client: stripe.StripeClient, customer: str, prices: list[str], days_until_due: int | None
) -> Subscribed:
    for held in client.v1.subscriptions.list({"customer": customer, "limit": 100}).auto_paging_iter():
        if held.status not in ENDED and {item.price.id for item in held["items"].data} & set(prices):
            return Subscribed(customer, held.id, is_new=False)
    params: Any = {"customer": customer, "items": [{"price": price} for price in prices]}
    if days_until_due is not None:
        params |= {"collection_method": "send_invoice", "days_until_due": days_until_due}
    return Subscribed(customer, client.v1.subscriptions.create(params).id, is_new=True)


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
