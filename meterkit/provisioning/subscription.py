"""
Subscribe a company: to a subscription that it has, or to a new one.

Each subscription bills all usage of its meters. So a company that has a meter on a subscription already is refused a
second price for it, and what is missing is added to a subscription that runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import stripe

from meterkit.accounts.accounts import Accounts
from meterkit.errors import ConfigurationError, UsageError
from meterkit.pricing.plan import Plan, plan_in
from meterkit.provisioning.offer import Offer
from meterkit.provisioning.writer import REPLACES
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.outcomes import naming_failures
from meterkit.stripe_api.transport import PAGE_SIZE

ENDED = ("canceled", "incomplete_expired")
"""Statuses of subscriptions that bill nothing any more."""

CHANGEABLE = ("active", "trialing", "past_due")
"""Statuses of subscriptions that prices are added to."""

KEYS = 10
"""Stripe: most lookup keys in one request."""


@dataclass(frozen=True, slots=True)
class SubscriptionResult:
    """
    The customer and subscription of a company.

    Attributes:
        customer: Stripe customer id, ``cus_...``.
        subscription: Stripe subscription id, ``sub_...``.
        is_new: Whether the subscription was created by this call.
        added: Lookup keys of the prices that this call has added to a subscription that was there.
    """

    customer: str
    subscription: str
    is_new: bool
    added: tuple[str, ...] = ()


def subscribe(
    client: stripe.StripeClient,
    accounts: Accounts,
    offer: Offer,
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
        offer: What the company subscribes to.
        company: Company id, as the application knows it.
        metadata_key: Key under which the customer's metadata contain the company id.
        about: ``name`` and ``email`` of a new customer, as far as they are known.
        days_until_due: Send invoices due after this many days; None charges automatically.

    Raises:
        UsageError: The company has other prices for the same meters, or another customer has the e-mail address.
        ConfigurationError: A price does not exist in Stripe yet.
        StripeFailedError: Stripe failed or refused.
        LedgerError: The link could not be stored.
    """
    with naming_failures(f"subscribe {company}", retries_refused=False):
        customer = accounts.customer_of(company)
        if customer is not None and offer.is_any_currency:
            offer = offer.for_currency(getattr(client.v1.customers.retrieve(customer), "currency", None))
        wanted = prices_of(client, offer.lookup_keys)
        check_together(wanted)
        if customer is None:
            customer = _found_by_email(client, company, about.get("email"), metadata_key)
            known = None if customer is not None else _found_by_metadata(client, company, metadata_key)
            if customer is None:
                customer = known.id if known is not None else _made(client, {metadata_key: company})
                accounts.link(company, customer)
                missing: Any = {name: given for name, given in about.items() if not getattr(known, name, None)}
                if missing:
                    client.v1.customers.update(customer, missing)
            else:
                accounts.link(company, customer)
        return _Subscriber(client, company, customer, offer, wanted).subscribe(days_until_due)


class _Subscriber:
    """Subscribes one customer to the prices *wanted*, which are Stripe's."""

    def __init__(
        self, client: stripe.StripeClient, company: str, customer: str, offer: Offer, wanted: list[stripe.Price]
    ) -> None:
        self._client = client
        self._v1 = client.v1
        self._company = company
        self._customer = customer
        self._offer = offer
        self._wanted = wanted
        self._ids = {price.id for price in wanted}

    def subscribe(self, days_until_due: int | None) -> SubscriptionResult:
        of_customer = subscriptions_of(self._client, self._customer)
        running = [each for each in of_customer if each.status not in ENDED]
        for subscription in running:
            self._check_no_other(subscription)
        there = {price for each in running for price in _prices(each)}
        missing = [price for price in self._wanted if price.id not in there]
        if not missing:
            found = next(each for each in running if self._ids & set(_prices(each)))
            return SubscriptionResult(self._customer, found.id, is_new=False)
        existing = self._to_extend(running)
        if existing is not None:
            self._add(existing.id, missing)
            added = tuple(str(price.lookup_key) for price in missing)
            return SubscriptionResult(self._customer, existing.id, is_new=False, added=added)
        return self._create(missing, days_until_due, is_first=not has_had(of_customer, self._offer.plan))

    def _check_no_other(self, subscription: stripe.Subscription) -> None:
        """
        Check that *subscription* bills nothing that is wanted under another price.

        Raises:
            UsageError: It does; the message names the price.
        """
        meters = {_meter_of(price): price for price in self._wanted if _meter_of(price)}
        replaced = {old: price for price in self._wanted for old in _replaced_by(price)}
        plan = None if self._offer.plan is None else self._offer.plan.name
        for item in _items(subscription):
            if item.price.id in self._ids:
                continue
            key = item.price.lookup_key
            named = f"{item.price.id}{f' ({key})' if key else ''} of {subscription.id}"
            of_plan = plan_in(key)
            if plan is not None and of_plan is not None:
                version = "an earlier version of " if of_plan == plan else ""
                raise _refused(
                    f"{self._company} is on {version}the plan {of_plan!r}, by {named}: meterkit move --plan {of_plan} "
                    f"--to {plan} --company {self._company} moves it"
                )
            new = replaced.get(item.price.id) or meters.get(_meter_of(item.price))
            if new is not None:
                raise _refused(
                    f"{self._company} pays for the same by {named}, and a second price would bill each unit twice: "
                    f"meterkit move --price {item.price.id} --to {new.lookup_key} --company {self._company} moves it"
                )

    def _to_extend(self, running: list[stripe.Subscription]) -> stripe.Subscription | None:
        """Return the subscription to add prices to: one that has some of them, or the same rhythm and currency."""
        changeable = [each for each in running if each.status in CHANGEABLE]
        currency, rhythms = self._wanted[0].currency, {_rhythm(price) for price in self._wanted}
        for each in changeable:
            if self._ids & set(_prices(each)):
                return each
        for each in changeable:
            if each.cancel_at is not None:  # what is added would end with it
                continue
            theirs = {_rhythm(item.price) for item in _items(each)}
            if each.currency == currency and theirs == rhythms:
                return each
        return None

    def _add(self, subscription: str, missing: list[stripe.Price]) -> None:
        items = [{"price": price.id} for price in missing]

        def update(params: Any, options: Any) -> Any:
            changes: Any = {"items": params["items"]}
            return self._v1.subscriptions.update(params["subscription"], changes, options)

        def look(_: Any) -> Any:
            found = self._v1.subscriptions.retrieve(subscription)
            return found if {price.id for price in missing} <= set(_prices(found)) else None

        create_once("items", update, {"subscription": subscription, "items": items}, look=look)

    def _create(self, prices: list[stripe.Price], days_until_due: int | None, *, is_first: bool) -> SubscriptionResult:
        params: Any = {"customer": self._customer, "items": [{"price": price.id} for price in prices]}
        if days_until_due is not None:
            params |= {"collection_method": "send_invoice", "days_until_due": days_until_due}
        if is_first and self._offer.plan is not None and self._offer.plan.trial_days is not None:
            params["trial_period_days"] = self._offer.plan.trial_days

        def look(_: Any) -> Any:
            theirs = subscriptions_of(self._client, self._customer)
            running = (each for each in theirs if each.status not in ENDED)
            return next((each for each in running if self._ids & set(_prices(each))), None)

        made = create_once("subscription", self._v1.subscriptions.create, params, look=look)
        return SubscriptionResult(self._customer, made.id, is_new=True)


def subscriptions_of(client: stripe.StripeClient, customer: str) -> list[stripe.Subscription]:
    """
    Return all subscriptions of *customer*, also those that have ended, oldest first.

    Raises:
        stripe.StripeError: Stripe failed or refused.
    """
    query: Any = {"customer": customer, "status": "all", "limit": PAGE_SIZE}
    return sorted(client.v1.subscriptions.list(query).auto_paging_iter(), key=lambda each: (each.created, each.id))


def has_had(subscriptions: Iterable[stripe.Subscription], plan: Plan | None) -> bool:
    """Return whether one of *subscriptions* is or was to *plan*, or to another plan with a trial: there is one each."""
    if plan is None:
        return False
    for each in subscriptions:
        names = {plan_in(item.price.lookup_key) for item in _items(each)}
        if plan.name in names or (each.trial_end is not None and names != {None}):
            return True
    return False


def prices_of(client: stripe.StripeClient, keys: Iterable[str]) -> list[stripe.Price]:
    """
    Return Stripe's active prices with these lookup keys, in their order.

    Raises:
        ConfigurationError: There are no keys, or no price has one of them.
        stripe.StripeError: Stripe failed or refused.
    """
    keys = list(keys)
    if not keys:
        raise ConfigurationError("the kit has no prices= and no plans=, so there is nothing to subscribe to")
    found: dict[str, stripe.Price] = {}
    for start in range(0, len(keys), KEYS):
        for price in client.v1.prices.list({"lookup_keys": keys[start : start + KEYS], "active": True}).data:
            found[str(price.lookup_key)] = price
    missing = [key for key in keys if key not in found]
    if missing:
        raise ConfigurationError(
            f"Stripe has no active price with the lookup key {missing[0]!r:.200}: run meterkit provision first"
        )
    return [found[key] for key in keys]


def check_together(prices: list[stripe.Price]) -> None:
    """
    Check that *prices* fit on one subscription.

    Raises:
        UsageError: Two are for one meter, or in two currencies.
    """
    meters = [_meter_of(price) for price in prices if _meter_of(price)]
    if len(set(meters)) < len(meters):
        raise UsageError(
            "two of these prices are for one meter, so each unit would be billed twice: choose one of them",
            reason="offer_wrong",
        )
    currencies = sorted({price.currency for price in prices})
    if len(currencies) > 1:
        raise UsageError(
            f"these prices are in {' and '.join(currencies)}, and a subscription has one currency", reason="offer_wrong"
        )


def _found_by_email(client: stripe.StripeClient, company: str, email: str | None, metadata_key: str) -> str | None:
    """
    Return the customer that an interrupted run has made for *company*, or None if nobody has this e-mail address.

    Raises:
        UsageError: Another customer has it.
    """
    if email is None:
        return None
    found = client.v1.customers.list({"email": email, "limit": PAGE_SIZE}).data
    for each in found:
        if _noted(each.metadata, metadata_key) == company:
            return each.id
    if found:
        name = f" ({found[0].name})" if found[0].name else ""
        raise _refused(
            f"{email} belongs to the Stripe customer {found[0].id}{name}, and a second one would be billed beside it: "
            f"link the company with meterkit link {company} {found[0].id}, and subscribe again; or give another --email"
        )
    return None


def _found_by_metadata(client: stripe.StripeClient, company: str, metadata_key: str) -> stripe.Customer | None:
    """
    Return the customer whose metadata name *company*, which the ledger has not read; None if there is none.

    Stripe's search knows of a new customer after a minute; the Idempotency-Key of `_made` bridges that.

    Raises:
        UsageError: Several customers have it.
    """
    key, value = (text.replace("\\", "\\\\").replace('"', '\\"') for text in (metadata_key, company))
    try:
        found = client.v1.customers.search({"query": f'metadata["{key}"]:"{value}"', "limit": PAGE_SIZE}).data
    except stripe.InvalidRequestError:  # Stripe: not available to merchants in India
        return None
    named = [each for each in found if _noted(each.metadata, metadata_key) == company]
    if len(named) > 1:
        both = " and ".join(each.id for each in named)
        raise _refused(
            f"the metadata of {both} name the company {company!r:.100}: link one of them with meterkit link {company} "
            f"{named[0].id}, and subscribe again"
        )
    return named[0] if named else None


def _made(client: stripe.StripeClient, metadata: dict[str, str]) -> str:
    """Return the id of a new customer, or of the one that an interrupted run created within the last day."""

    def still_there(made: Any) -> Any:
        found = None if made is None else client.v1.customers.retrieve(made.id)
        return None if found is None or getattr(found, "deleted", False) else found

    return str(create_once("customer", client.v1.customers.create, {"metadata": metadata}, look=still_there).id)


def _items(subscription: stripe.Subscription) -> list[stripe.SubscriptionItem]:
    return list(subscription["items"].auto_paging_iter())  # a subscription shows the first ten


def _prices(subscription: stripe.Subscription) -> list[str]:
    return [item.price.id for item in _items(subscription)]


def _meter_of(price: Any) -> str | None:
    return getattr(price.recurring, "meter", None)


def _rhythm(price: Any) -> tuple[str, int]:
    return price.recurring.interval, price.recurring.interval_count


def _replaced_by(price: Any) -> list[str]:
    return _noted(price.metadata, REPLACES).split()


def _noted(metadata: Any, key: str) -> str:
    """Return what *metadata* have under *key*; empty if that is nothing."""
    return str(metadata[key]) if metadata and key in metadata else ""


def _refused(message: str) -> UsageError:
    return UsageError(message, reason="subscription_exists")
