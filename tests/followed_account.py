"""A Stripe account whose webhooks a kit follows: fixtures for the tests of webhooks, and of what they change."""

from __future__ import annotations

import json

import pytest
import stripe as stripe_python
from rewriting_proxy import RewritingProxy
from signed import SECRET, body_of, signature_of
from stripe_types import wrong_requests

from meterkit import Meter, Webhook
from meterkit.sandbox import Sandbox


@pytest.fixture
def stripe(clock):
    """A Stripe account whose clock is the kit's."""
    with Sandbox(now=clock) as sandbox:
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def api(stripe):
    """Its API."""
    return stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1


@pytest.fixture
def price(api):
    """The classical price, on a meter called ``calls``."""
    meter = api.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    return api.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Credit score", "unit_label": "query"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 100, "unit_amount": 500},
                {"up_to": 1000, "unit_amount": 300},
                {"up_to": "inf", "unit_amount": 200},
            ],
        }
    ).id


@pytest.fixture
def make_following_kit(make_kit, stripe):
    """A function that makes kits which take webhooks and ask the sandbox."""

    def make(**options):
        defaults = {
            "webhook": Webhook(None, secret=SECRET),
            "stripe_key": stripe.api_key,
            "stripe_base": stripe.url,
        }
        return make_kit(Meter("calls"), **{**defaults, **options})

    return make


@pytest.fixture
def kit(make_following_kit):
    """One of them."""
    return make_following_kit()


@pytest.fixture
def tell(clock):
    """A function that hands a kit the webhook of an event, and lets it look at what that is about."""

    def tell(kit, *events):
        for event in events:
            payload = body_of(event)
            kit.receive(payload, signature_of(payload, clock()))
        return kit._supervisor.runtime().stripe_jobs.follow()

    return tell


@pytest.fixture
def events(api):
    """A function that answers the sandbox's events so far, oldest first, as Stripe would send them."""

    def events():
        found = [json.loads(str(event)) for event in api.events.list({"limit": 100}).auto_paging_iter()]
        return found[::-1]

    return events


@pytest.fixture
def shown(stripe):
    """A proxy through which kits see the account, and which shows them what the sandbox lacks; see `make_shown_kit`."""
    with RewritingProxy(stripe) as proxy:
        yield proxy


@pytest.fixture
def make_shown_kit(make_following_kit, shown):
    """A function that makes kits which see the account through the proxy `shown`."""

    def make(**options):
        return make_following_kit(**{"stripe_base": shown.url, **options})

    return make
