"""A platform bills the customers of an account that is connected to it: everything is read and reported there."""

from __future__ import annotations

import pytest
import stripe as stripe_python
from followed_account import make_following_kit, stripe, tell  # noqa: F401 - fixtures
from signed import snapshot, thin

from meterkit import ConfigurationError, Meter, Price

pytestmark = pytest.mark.usefixtures("impatient")

HOUR = 3600


@pytest.fixture
def account(stripe):
    """The id of a connected account."""
    client = stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url})
    return client.v1.accounts.create({}).id


@pytest.fixture
def api(stripe, account):
    """The API of that account."""
    return stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}, stripe_account=account).v1


@pytest.fixture
def platform(stripe):
    """The API of the platform."""
    return stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}).v1


def used(api, customer, clock):
    """What Stripe has added up for a customer."""
    (meter,) = api.billing.meters.list({}).data
    hour = int(clock()) // HOUR * HOUR
    params = {"customer": customer, "start_time": hour - 24 * HOUR, "end_time": hour}
    return sum(each.aggregated_value for each in api.billing.meters.event_summaries.list(meter.id, params).data)


@pytest.mark.parametrize("via", ["v1", "stream"])
def test_all_of_it_happens_there(make_following_kit, stripe, account, api, platform, clock, via):
    """Meters, prices, the customer, its usage and its reconciliation; the platform has nothing of it."""
    calls = Meter("calls")
    price = Price.per_unit(calls, "0.50")
    kit = make_following_kit(stripe_account=account, report_via=via, prices=[price])
    kit.provision()
    kit.subscribe("acme")
    kit.sync()
    kit.record("calls", "acme", 7)
    clock.advance(HOUR)
    summary = kit.report()
    clock.advance(HOUR)
    (customer,) = api.customers.list({}).data

    assert ("", 1) == (summary.error, summary.sent)
    assert 7 == used(api, customer.id, clock)
    assert [(customer.id, "good")] == [(each.customer, each.standing) for each in kit.customers()]
    assert [True] == [each.agree for each in kit.reconcile()]
    assert ([], []) == (platform.customers.list({}).data, platform.billing.meters.list({}).data)


@pytest.mark.parametrize("via", ["v1", "stream"])
def test_the_header_that_names_the_account(make_following_kit, stripe, account, api, clock, via):
    """Each version of Stripe's API has one of its own; the stream takes a session's token, which is of the account."""
    kit = make_following_kit(stripe_account=account, report_via=via, prices=[Price.per_unit(Meter("calls"), "0.50")])
    kit.provision()
    kit.subscribe("acme")
    before = len(stripe.requests)  # the fixture's own, and what provisions
    kit.record("calls", "acme", 7)
    clock.advance(HOUR)
    assert 1 == kit.report().sent
    kit.sync()
    sent = {
        (each.path.split("/")[1], each.path == "/v2/billing/meter_event_stream"): (
            each.headers.get("stripe-account"),
            each.headers.get("stripe-context"),
        )
        for each in stripe.requests[before:]
    }

    of_stream = {("v2", False): (None, account), ("v2", True): (None, None)} if via == "stream" else {}
    assert {("v1", False): (account, None), **of_stream} == sent


def test_events_of_that_account_alone(make_following_kit, account, api, platform, tell):
    """Those of the platform, and of other connected accounts, are kept and ignored."""
    kit = make_following_kit(stripe_account=account)
    customer = {"object": "customer", "id": api.customers.create({"metadata": {"company": "acme"}}).id}
    own = {"object": "customer", "id": platform.customers.create({"metadata": {"company": "globex"}}).id}
    related = {"id": customer["id"], "type": "customer"}
    tell(
        kit,
        snapshot("customer.created", own, id="evt_own"),
        snapshot("customer.created", own, id="evt_other", account="acct_other"),
        snapshot("customer.created", customer, id="evt_snapshot", account=account),
        thin("v1.customer.updated", related, id="evt_thin", context=account),
    )

    assert {"acme": customer["id"]} == {each.company: each.customer for each in kit.customers()}
    assert {"evt_own": "ignored", "evt_other": "ignored", "evt_snapshot": "applied", "evt_thin": "applied"} == {
        event.id: event.state for event in kit.webhook_events()
    }
    assert {
        "evt_own": "it belongs to another account, that of the key",
        "evt_other": "it belongs to another account, acct_other",
    } == {event.id: event.reason for event in kit.webhook_events() if event.state == "ignored"}


def test_a_ledger_of_another_account(make_following_kit, account):
    """It is refused, as one of the other mode is."""
    make_following_kit(stripe_account=account).sync()
    with pytest.raises(
        ConfigurationError, match=f"belongs to Stripe's test mode of {account}, and the kit to its test mo"
    ):
        make_following_kit().sync()


def test_an_account_that_is_not_connected(make_following_kit, stripe):
    """Stripe's refusal is passed on."""
    kit = make_following_kit(stripe_account="acct_other")

    assert "does not have access to account 'acct_other'" in kit.sync().error


@pytest.mark.parametrize("wrong", ["", "cus_1", 5, "acct_", "acct_1\n"])
def test_what_is_no_account(make_kit, wrong):
    with pytest.raises(ConfigurationError, match="stripe_account= must be the id of a connected account"):
        make_kit(stripe_account=wrong)
