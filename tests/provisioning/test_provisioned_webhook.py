"""The webhook endpoint is made once, with the events that the ledger follows."""

from __future__ import annotations

import pytest

from meterkit import Meter, MeterKit, UsageError, Webhook
from meterkit.provisioning.webhook_endpoint import EVENTS

URL = "https://api.example.com/stripe/webhook"


@pytest.fixture
def provision(stripe, tmp_path):
    """A function that provisions the endpoint; answers the plan."""
    kits = []

    def provision(url=URL, **options):
        kit = MeterKit(
            meters=[Meter("calls")],
            data_dir=tmp_path / "meterkit",
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
            webhook=Webhook("/stripe/webhook", secret="whsec_x"),
        )
        kits.append(kit)
        return kit.provision(webhook=url, **options)

    yield provision
    for kit in kits:
        kit.close()


def steps(plan):
    return [step.kind for step in plan.steps if step.what == "webhook endpoint"]


def test_it_is_made_once(provision, api, writes):
    """The secret is known only then."""
    first = provision()
    before = writes()
    second = provision()
    (endpoint,) = api.webhook_endpoints.list().data

    assert (["create"], ["unchanged"]) == (steps(first), steps(second))
    assert (True, None) == (first.webhook_secret.startswith("whsec_"), second.webhook_secret)
    assert (URL, sorted(EVENTS)) == (endpoint.url, sorted(endpoint.enabled_events))
    assert before == writes()
    assert first.webhook_secret not in repr(first)


def test_a_dry_run_makes_none(provision, api):
    """It only says so."""
    assert ["create"] == steps(provision(dry_run=True))
    assert [] == api.webhook_endpoints.list().data


def test_one_that_lacks_events_gets_them(provision, api):
    """What somebody else wants of it stays."""
    there = api.webhook_endpoints.create({"url": URL, "enabled_events": ["invoice.paid", "charge.refunded"]}).id
    api.webhook_endpoints.update(there, {"disabled": True})
    kinds = steps(provision()), steps(provision())
    endpoint = api.webhook_endpoints.retrieve(there)

    assert (["change"], ["unchanged"]) == kinds
    assert ({"charge.refunded", *EVENTS}, "enabled") == (set(endpoint.enabled_events), endpoint.status)


def test_one_for_all_events(provision, api):
    """It lacks nothing."""
    api.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})

    assert ["unchanged"] == steps(provision())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("api.example.com/stripe/webhook", "must be the URL"),
        ("https://api.example.com/stripe", "let it end in that path"),
    ],
)
def test_a_wrong_address(provision, stripe, url, message):
    """Stripe is asked nothing."""
    with pytest.raises(UsageError, match=message):
        provision(url)

    assert [] == stripe.requests


def test_without_it_endpoints_are_left_alone(provision, stripe):
    """The key may have no right to read them."""
    provision(None)

    assert [] == [request for request in stripe.requests if "webhook" in request.path]
