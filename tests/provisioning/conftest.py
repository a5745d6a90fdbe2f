from __future__ import annotations

import pytest
import stripe as stripe_python
from stripe_types import wrong_requests

from meterkit.provisioning.provisioner import Provisioner
from meterkit.sandbox import Sandbox
from meterkit.stripe_api.transport import connect


@pytest.fixture
def stripe():
    """An empty Stripe account."""
    with Sandbox(now=1_772_366_400) as sandbox:
        yield sandbox
        assert [] == wrong_requests(sandbox)


@pytest.fixture
def api(stripe):
    """Its API, as somebody else uses it."""
    return stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1


@pytest.fixture
def client(stripe):
    """A client as meterkit makes it."""
    client, http = connect(stripe.api_key, stripe.url, reads_only=lambda: False)
    yield client
    http.close()


@pytest.fixture
def plan(client):
    """A function that plans for some prices, and their meters."""
    return lambda *prices: provisioning(client).plan(
        {price.meter.name: price.meter for price in prices}.values(), prices
    )


@pytest.fixture
def apply(client):
    """A function that applies a plan, however old it is."""
    return provisioning(client).apply


@pytest.fixture
def provision(client):
    """A function that plans and applies; answers the plan."""

    def provision(*prices, meters=()):
        provisioner = provisioning(client)
        plan = provisioner.plan(meters or meters_of(prices), prices)
        provisioner.apply(plan)
        return plan

    return provision


def meters_of(prices):
    return {price.meter.name: price.meter for price in prices}.values()


def provisioning(client):
    return Provisioner(client, livemode=False)


@pytest.fixture
def writes(stripe):
    """A function that answers the requests so far that changed something: method, path."""
    return lambda: [request.path for request in stripe.requests if request.method == "POST"]
