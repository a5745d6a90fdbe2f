"""Plan the webhook endpoint at which Stripe tells of customers, subscriptions and invoices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stripe

from meterkit.provisioning.steps import Step
from meterkit.stripe_api.idempotency import create_once
from meterkit.stripe_api.transport import PAGE_SIZE

EVENTS = (
    "billing.meter.created",
    "billing.meter.deactivated",
    "billing.meter.reactivated",
    "billing.meter.updated",
    "checkout.session.completed",
    "customer.created",
    "customer.deleted",
    "customer.discount.created",
    "customer.discount.deleted",
    "customer.discount.updated",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.deleted",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.overdue",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.updated",
    "invoice.voided",
)
"""Types of events that change what the ledger keeps of an account."""

ALL = "*"
"""Stripe: an endpoint for all types of events."""


REVERSALS = (
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "refund.created",
    "refund.updated",
)
"""Types of events that take back what was paid for a wallet."""


def webhook_step(
    client: stripe.StripeClient, url: str, remember: Callable[[str], None], *, reversals: bool = False
) -> Step:
    """
    Return the step for the endpoint with the address *url*.

    Args:
        client: Client of stripe-python.
        url: Address of the endpoint.
        remember: Function that takes the secret of an endpoint that was created; Stripe never shows it again.
        reversals: Whether it is to get those of refunds and disputes, too.

    Raises:
        stripe.StripeError: Stripe failed or refused.
    """
    endpoints = client.v1.webhook_endpoints
    events = (*EVENTS, *REVERSALS) if reversals else EVENTS

    def find(_: Any = None) -> Any | None:
        listed = endpoints.list({"limit": PAGE_SIZE}).auto_paging_iter()
        return next((each for each in listed if each.url == url and not getattr(each, "application", None)), None)

    def create() -> None:
        params: Any = {"url": url, "enabled_events": list(events), "description": "meterkit"}
        made = create_once("webhook-endpoint", endpoints.create, params, look=find)
        secret = getattr(made, "secret", None)
        if secret:
            remember(str(secret))

    there = find()
    if there is None:
        return Step("create", "webhook endpoint", url, act=create)
    missing = [] if ALL in there.enabled_events else sorted(set(events) - set(there.enabled_events))
    changes: Any = {}
    why = []
    if missing:
        changes["enabled_events"] = sorted({*there.enabled_events, *events})
        why.append(f"it does not get {', '.join(missing)}")
    if there.status != "enabled":
        changes["disabled"] = False
        why.append("it is disabled")
    if changes:
        act: Callable[[], Any] = lambda: endpoints.update(there.id, changes)  # noqa: E731 - as in the other steps
        return Step("change", "webhook endpoint", url, "; ".join(why), act=act)
    return Step("unchanged", "webhook endpoint", url, f"the secret of {there.id} is shown in Stripe's dashboard")
