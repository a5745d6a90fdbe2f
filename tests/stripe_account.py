"""A Stripe account in the sandbox, as somebody else than meterkit uses it."""

from __future__ import annotations

import stripe


def api(sandbox):
    """The account's API, by stripe-python."""
    return stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


def make_meter(sandbox, event_name):
    """A meter that adds up what it is sent."""
    return api(sandbox).billing.meters.create(
        {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": "sum"}}
    )
