"""What others had reported in a period before meterkit first saw it counts in tiers, quotas, caps and late items."""

from __future__ import annotations

from decimal import Decimal

import pytest
from followed_account import api, events, kit, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures
from guard import GUARD
from plain_exchange import PlainExchange

from meterkit import Governance, Meter, Quota

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def customer(api, price, clock):
    """A customer who pays for acme; another program has reported 1,500 of this month."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    clock.advance(10 * DAY)
    report(api, clock, customer, 1500)
    clock.advance(HOUR)
    return customer


def report(api, clock, customer, quantity):
    """Another program reports."""
    payload = {"stripe_customer_id": customer, "value": str(quantity)}
    api.billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": int(clock.now)})


def upcoming(api, customer):
    """What Stripe would bill."""
    return Decimal(api.invoices.create_preview({"customer": customer}).total).scaleb(-2)


def summaries(stripe):
    """How many sums were read."""
    return sum("event_summaries" in request.path for request in stripe.requests)


def test_a_preview_goes_on_in_the_tier_that_was_reached(kit, api, clock, stripe, customer):
    """Stripe's sum is read once, and what meterkit reports is not in it twice."""
    kit.sync()
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()
    kit.sync()
    (preview,) = kit.preview("acme")

    assert Decimal("4220.00") == preview.total == upcoming(api, customer)
    assert 1 == summaries(stripe)


def test_what_meterkit_itself_had_reported_is_not_in_it(make_following_kit, api, clock, customer):
    """It reported before it knew of the subscription."""
    kit = make_following_kit()
    kit.record("calls", customer, 10)
    clock.advance(2 * HOUR)
    kit.report()
    kit.sync()
    (preview,) = kit.preview(customer)

    assert Decimal("4220.00") == preview.total == upcoming(api, customer)


def test_quotas_caps_and_the_customer_page(make_following_kit, api, clock, customer):
    """They are reached by what was used before."""
    quota = Quota(Meter("calls"), 1000)
    kit = make_following_kit(
        identify=lambda _: "acme", governance=Governance(quotas=[quota], spending_cap="4000.00"), customer_page="/usage"
    )
    kit.sync()
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
    exchange = PlainExchange("GET", "/anything")
    exchange.publish(kit)
    refused = kit.governor.check(exchange)
    kit.recorder.refuse(exchange)

    assert (402, "1500 x") == (refused.status, f"{kit.process().usage()['period'].used['acme', 'calls']} x")


def test_late_usage_costs_what_the_tier_costs_that_was_reached(make_following_kit, api, clock, customer):
    """Not the first one."""
    kit = make_following_kit(late="next_invoice")
    kit.sync()
    late = int(clock.now)
    clock.advance(22 * DAY)
    api.invoices.list({"customer": customer})  # lets the sandbox bring itself up to date
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()

    assert [2_000] == [item.amount for item in api.invoice_items.list({"customer": customer}).data]


def test_the_next_period_begins_at_nothing(kit, api, clock, customer):
    """It was counted from its first second."""
    kit.sync()
    clock.advance(25 * DAY)
    kit.sync()
    kit.record("calls", "acme", 2)
    (preview,) = kit.preview("acme")

    assert Decimal("10.00") == preview.total


def test_a_subscription_that_meterkit_sees_begin(kit, api, clock, stripe, price, tell, events):
    """Nothing is to be read, now or later."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    tell(kit, *events())
    kit.record("calls", "acme", 3)
    clock.advance(10 * DAY)
    kit.report()
    kit.sync()
    (preview,) = kit.preview("acme")

    assert (Decimal("15.00"), 0) == (preview.total, summaries(stripe))


def test_a_customer_for_whom_meterkit_has_counted_for_long(make_following_kit, api, clock, stripe, price):
    """It needs no opening balance, although the subscription is news."""
    kit = make_following_kit()
    customer = api.customers.create({}).id
    kit.record("calls", customer, 3)
    kit.flush()
    clock.advance(2 * DAY)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    clock.advance(2 * DAY)
    kit.sync()

    assert 0 == summaries(stripe)
