"""
Lead a customer to Stripe's own pages: Checkout, to subscribe, and the portal, to pay and to cancel.

Both are sessions that Stripe makes for one customer, with a URL that lives for a while and needs no password.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import stripe

from meterkit.errors import StripeFailedError, UsageError
from meterkit.provisioning.offer import Offer
from meterkit.provisioning.subscription import ENDED, check_together, has_had, prices_of, subscriptions_of
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.outcomes import naming_failures

LONGEST_REFERENCE = 200
"""Stripe: most characters of a ``client_reference_id``."""

EXISTS = "subscription_exists"
"""Reason of the `UsageError` for a company that has a subscription."""


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """
    A Checkout session.

    Attributes:
        url: Page of Stripe's on which the customer subscribes; empty if that is done.
        id: Session id, ``cs_...``.
    """

    url: str
    id: str


def checkout_session(
    client: stripe.StripeClient,
    offer: Offer,
    *,
    company: str,
    customer: str | None,
    metadata_key: str,
    email: str | None,
    success_url: str,
    cancel_url: str | None,
) -> CheckoutSession:
    """
    Return a Checkout session in which *company* subscribes to exactly what is on offer; the same for a repeated call.

    Args:
        client: Client of stripe-python.
        offer: What the company subscribes to.
        company: Company id, as the application knows it.
        customer: Stripe customer of the company; None lets Checkout make one.
        metadata_key: Key under which the metadata name the company.
        email: E-mail address that a new customer finds filled in, or None.
        success_url: Page to which Stripe sends the customer afterwards.
        cancel_url: Page to which the customer can go back, or None.

    Raises:
        UsageError: The prices do not fit together, or the customer has a subscription, which a second one would bill
            beside.
        ConfigurationError: A price does not exist in Stripe yet.
        StripeFailedError: Stripe failed or refused.
    """
    with naming_failures(f"checkout of {company}", retries_refused=False):
        had: list[stripe.Subscription] = []
        if customer is not None:
            had = subscriptions_of(client, customer)
            _check_none_runs(company, had)
            offer = offer.for_currency(getattr(client.v1.customers.retrieve(customer), "currency", None))
        wanted = prices_of(client, offer.lookup_keys)
        check_together(wanted)
        names = {metadata_key: company}
        params: dict[str, Any] = {
            "mode": "subscription",
            "line_items": [_line_item(price) for price in wanted],
            "metadata": names,
            "subscription_data": {"metadata": names},
            "success_url": success_url,
        }
        if len(company) <= LONGEST_REFERENCE:
            params["client_reference_id"] = company
        if cancel_url is not None:
            params["cancel_url"] = cancel_url
        if customer is not None:
            params["customer"] = customer
        elif email is not None:
            params["customer_email"] = email
        if offer.plan is not None and offer.plan.trial_days is not None and not has_had(had, offer.plan):
            params["subscription_data"]["trial_period_days"] = offer.plan.trial_days

        def still_good(made: Any) -> Any:
            """Return the session that was made before, if it is open, or if its subscription runs."""
            found = None if made is None else client.v1.checkout.sessions.retrieve(made.id)
            if found is None or found.status == "expired":
                return None
            if found.status == "complete" and found.subscription:
                running = client.v1.subscriptions.retrieve(str(found.subscription))
                return None if running.status in ENDED else found
            return found

        # The same request has the same key, so two clicks, or two tabs, lead to one session: it is paid once.
        session = create_once("checkout", client.v1.checkout.sessions.create, params, look=still_good)
        return CheckoutSession(session.url or "", session.id)


def pack_session(
    client: stripe.StripeClient,
    key: str,
    *,
    quantity: int,
    company: str,
    customer: str | None,
    metadata_key: str,
    email: str | None,
    success_url: str,
    cancel_url: str | None,
) -> str:
    """
    Return the URL of a Checkout session in which *company* buys a pack; the same for a repeated call, until it is paid.

    Args:
        client: Client of stripe-python.
        key: Lookup key of the pack's price.
        quantity: How many of it.
        company: Company id, as the application knows it.
        customer: Stripe customer of the company; None lets Checkout make one.
        metadata_key: Key under which the metadata name the company.
        email: E-mail address that a new customer finds filled in, or None.
        success_url: Page to which Stripe sends the customer afterwards.
        cancel_url: Page to which the customer can go back, or None.

    Raises:
        ConfigurationError: The price does not exist in Stripe yet.
        StripeFailedError: Stripe failed or refused.
    """
    with naming_failures(f"checkout of {company}", retries_refused=False):
        (price,) = prices_of(client, [key])
        names = {metadata_key: company}
        params: dict[str, Any] = {
            "mode": "payment",
            "line_items": [{"price": price.id, "quantity": quantity}],
            "metadata": names,
            # The paid invoice becomes the grant, and says of which company.
            "invoice_creation": {"enabled": True, "invoice_data": {"metadata": names}},
            "payment_intent_data": {"metadata": names, "setup_future_usage": "off_session"},
            "success_url": success_url,
        }
        if len(company) <= LONGEST_REFERENCE:
            params["client_reference_id"] = company
        if cancel_url is not None:
            params["cancel_url"] = cancel_url
        if customer is not None:
            params["customer"] = customer
        elif email is not None:
            params["customer_email"] = email

        def still_open(made: Any) -> Any:
            found = None if made is None else client.v1.checkout.sessions.retrieve(made.id)
            return found if found is not None and found.status == "open" else None

        session = create_once("checkout", client.v1.checkout.sessions.create, params, look=still_open)
        return str(session.url)


def names_company(session: stripe.checkout.Session, company: str, metadata_key: str) -> bool:
    """Return whether the metadata of a Checkout session name *company*."""
    metadata: Any = session.metadata or {}
    return metadata_key in metadata and bool(metadata[metadata_key] == company)


def has_subscription(company: str) -> UsageError:
    """Return the error that *company* has a subscription already."""
    return UsageError(
        f"{company!r:.100} has a subscription, and a second one would be billed beside it: change it with "
        "meterkit move, or let the customer do so in Stripe's portal (kit.portal_url())",
        reason=EXISTS,
    )


def portal_session(client: stripe.StripeClient, customer: str, *, return_url: str | None) -> str:
    """
    Return the URL of a session of Stripe's customer portal.

    Args:
        client: Client of stripe-python.
        customer: Stripe customer whose portal it is.
        return_url: Page to which its link back leads; None for the one in the portal's settings.

    Raises:
        StripeFailedError: Stripe failed or refused, such as for a portal that has never been configured.
    """
    params: Any = {"customer": customer} if return_url is None else {"customer": customer, "return_url": return_url}
    with naming_failures(f"portal of {customer}", retries_refused=False):
        session = client.v1.billing_portal.sessions.create(params)
        if not session.url:
            raise StripeFailedError(f"portal of {customer}: Stripe returned a session without a URL")
        return session.url


def _check_none_runs(company: str, subscriptions: list[stripe.Subscription]) -> None:
    if any(each.status not in ENDED for each in subscriptions):
        raise has_subscription(company)


def _line_item(price: stripe.Price) -> dict[str, Any]:
    is_metered = price.recurring is not None and price.recurring.usage_type == "metered"
    return {"price": price.id} if is_metered else {"price": price.id, "quantity": 1}
