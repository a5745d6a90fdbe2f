"""Test clocks: customers that live by a time of their own."""

from __future__ import annotations

import pytest
import stripe
from hosted_browser import Browser
from sandbox_shop import APRIL, DAY, HOUR, START, refused
from webhook_receiver import Receiver

pytestmark = pytest.mark.long

JUNE = 1_780_272_000  # 2026-06-01


def clock_at(shop, moment=START, **params):
    return shop.v1.test_helpers.test_clocks.create({"frozen_time": moment, **params})


def advance(shop, clock, moment):
    return shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": moment})


def subscribed(shop, clock, **params):
    customer = shop.customer(test_clock=clock.id)
    prices = shop.v1.prices.list().data
    price = prices[0] if prices else shop.price(shop.meter(), unit_amount=100)
    return customer, shop.subscribe(customer, price, **params)


def test_a_subscription_lives_by_its_clock(shop):
    """A month passes for it alone, with usage, draft and final invoice."""
    clock = clock_at(shop, JUNE)
    customer, subscription = subscribed(shop, clock)
    shop.send(customer, 5, timestamp=JUNE + DAY - DAY)
    advancing = advance(shop, clock, JUNE + 30 * DAY + 600)
    drafts = [invoice.status for invoice in shop.invoices(customer)]
    advance(shop, clock, JUNE + 30 * DAY + HOUR)
    (invoice,) = shop.invoices(customer)

    assert ("advancing", JUNE + 30 * DAY + 600) == (
        advancing.status,
        advancing.status_details.advancing.target_frozen_time,
    )
    assert (["draft"], "paid", 500) == (drafts, invoice.status, invoice.total)
    assert JUNE + 30 * DAY == invoice.created == invoice.period_end
    assert (JUNE, clock.id, clock.id, clock.id) == (
        subscription.start_date,
        customer.test_clock,
        subscription.test_clock,
        invoice.test_clock,
    )
    assert START == shop.sandbox.now


def test_a_clock_is_ready_when_it_is_asked_again(shop):
    """And shows its new time."""
    clock = clock_at(shop, name="Ours")
    advance(shop, clock, APRIL)
    ready = shop.v1.test_helpers.test_clocks.retrieve(clock.id)

    assert ("ready", "ready", APRIL, "Ours") == (clock.status, ready.status, ready.frozen_time, ready.name)
    assert [
        "test_helpers.test_clock.created",
        "test_helpers.test_clock.advancing",
        "test_helpers.test_clock.ready",
    ] == [kind for kind in shop.events() if kind.startswith("test_helpers")]


def test_other_customers_do_not_notice(shop):
    """Theirs is the sandbox's own time, and it moves no clock."""
    clock = clock_at(shop)
    customer, _ = subscribed(shop, clock)
    other = shop.customer()
    shop.subscribe(other, shop.v1.prices.list().data[0])
    shop.send(customer, 5)
    shop.send(other, 7)
    advance(shop, clock, APRIL + HOUR)
    first = len(shop.invoices(customer)), len(shop.invoices(other))
    shop.sandbox.advance(to=APRIL + HOUR)

    assert (1, 0) == first
    assert (1, 1) == (len(shop.invoices(customer)), len(shop.invoices(other)))


def test_usage_is_stamped_with_the_time_of_the_clock(shop):
    """By default, and what lies ahead of it is refused."""
    clock = clock_at(shop, JUNE)
    customer, _ = subscribed(shop, clock)
    event = shop.send(customer, 5)

    assert JUNE == event.timestamp
    assert "future" in str(refused(shop.send, customer, 5, timestamp=JUNE + DAY))
    meter = shop.v1.billing.meters.list().data[0]
    assert 5 == shop.summary(meter, customer, JUNE - DAY, JUNE + DAY).data[0].aggregated_value
    assert 500 == shop.v1.invoices.create_preview({"customer": customer.id}).total


def test_usage_may_have_to_be_of_the_real_time(make_shop):
    """Nobody outside Stripe knows; a switch."""
    shop = make_shop(test_clock_timestamps="real")
    clock = clock_at(shop, JUNE)
    customer, _ = subscribed(shop, clock)

    assert START == shop.send(customer, 5).timestamp
    assert "future" in str(refused(shop.send, customer, 5, timestamp=JUNE))


def test_payments_are_tried_again_by_the_clock(shop):
    """As they are by the sandbox's time for others."""
    clock = clock_at(shop)
    customer, subscription = subscribed(shop, clock)
    shop.send(customer, 5)
    shop.sandbox.payments(customer.id, "fail")
    advance(shop, clock, APRIL + HOUR)
    behind = shop.v1.subscriptions.retrieve(subscription.id).status
    advance(shop, clock, APRIL + HOUR + 20 * DAY)

    assert ("past_due", "canceled") == (behind, shop.v1.subscriptions.retrieve(subscription.id).status)


def test_how_far_a_clock_may_be_advanced(shop):
    """Two intervals of the shortest subscription, and never back."""
    clock = clock_at(shop)
    subscribed(shop, clock)

    assert "two intervals" in str(refused(advance, shop, clock, START + 62 * DAY))
    assert "frozen_time" == refused(advance, shop, clock, START).param
    advance(shop, clock, START + 61 * DAY)
    assert START + 61 * DAY == shop.v1.test_helpers.test_clocks.retrieve(clock.id).frozen_time


def test_lists_leave_out_who_lives_by_a_clock(shop):
    """Unless they are asked for."""
    clock = clock_at(shop)
    customer, subscription = subscribed(shop, clock)
    other = shop.customer()

    def ids(listed):
        return [each.id for each in listed.data]

    assert [other.id] == ids(shop.v1.customers.list())
    assert [customer.id] == ids(shop.v1.customers.list({"test_clock": clock.id}))
    assert [] == ids(shop.v1.subscriptions.list())
    assert [subscription.id] == ids(shop.v1.subscriptions.list({"test_clock": clock.id}))
    assert [subscription.id] == ids(shop.v1.subscriptions.list({"customer": customer.id}))


def test_a_clock_is_deleted_with_its_customers(shop):
    """Their subscriptions end."""
    clock = clock_at(shop)
    customer, subscription = subscribed(shop, clock)
    clocks = shop.v1.test_helpers.test_clocks
    listed = [each.id for each in clocks.list().data]
    deleted = clocks.delete(clock.id)

    assert ([clock.id], True, []) == (listed, deleted.deleted, clocks.list().data)
    assert True is shop.v1.customers.retrieve(customer.id).deleted
    assert "canceled" == shop.v1.subscriptions.retrieve(subscription.id).status
    with pytest.raises(stripe.InvalidRequestError, match="No such test clock"):
        advance(shop, clock, APRIL)


def test_events_of_a_clock_are_delivered_at_once(shop):
    """However far ahead its time is; they bear the time of the clock."""
    with Receiver() as receiver:
        endpoint = shop.sandbox.webhooks.send_to(receiver.url, events=["invoice.paid"])
        clock = clock_at(shop, JUNE)
        customer, _ = subscribed(shop, clock)
        shop.send(customer, 5)
        advance(shop, clock, JUNE + 30 * DAY + HOUR)
        shop.v1.test_helpers.test_clocks.retrieve(clock.id)
        shop.sandbox.webhooks.deliver()
        (event,) = receiver.events(endpoint.secret)

    assert JUNE + 30 * DAY + HOUR == event.created


def test_pages_show_the_time_of_the_clock(shop):
    """A subscription that begins there lives by it."""
    clock = clock_at(shop, JUNE)
    customer = shop.customer(test_clock=clock.id, email="billing@acme.example")
    line = {"price": shop.price(unit_amount=900).id, "quantity": 1}
    session = shop.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [line],
            "success_url": "https://shop.example/",
        }
    )
    with Browser() as browser:
        browser.open(session.url).press("Pay and subscribe", card_number="4242424242424242")
    (subscription,) = shop.v1.subscriptions.list({"customer": customer.id}).data

    assert (JUNE, clock.id) == (subscription.start_date, subscription.test_clock)


def test_what_is_refused(make_shop, shop):
    """A clock that does not exist, and any in live mode."""
    live = make_shop(livemode=True)

    assert "test_clock" == refused(shop.customer, test_clock="clock_none").param
    assert "test mode" in str(refused(clock_at, live))
