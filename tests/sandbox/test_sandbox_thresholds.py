"""Billing thresholds: invoices within a period, and what the next one subtracts."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, DAY, HOUR, START, day, lines, refused, tiered

pytestmark = pytest.mark.long


@pytest.fixture
def calls(shop):
    """1.00 a call."""
    return shop.price(shop.meter(), unit_amount=100)


def found(shop, customer):
    """Reason, status and total of each invoice, oldest first."""
    return [(each.billing_reason, each.status, each.total) for each in reversed(shop.invoices(customer))]


def test_usage_worth_a_threshold_is_invoiced(shop, sandbox, calls):
    """Of 80 calls, 50 are billed early and 30 at the period's end: the rest of the sum is a negative line."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, calls, billing_thresholds={"amount_gte": 5000})
    shop.send(customer, 49)
    sandbox.advance(seconds=DAY)
    early = found(shop, customer)
    shop.send(customer, 1)
    sandbox.advance(seconds=HOUR)
    shop.send(customer, 30)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)

    assert subscription.billing_thresholds.to_dict() == {"amount_gte": 5000, "reset_billing_cycle_anchor": False}
    assert early == []
    assert found(shop, customer) == [
        ("subscription_threshold", "paid", 5000),
        ("subscription_cycle", "paid", 3000),
    ]
    cycle, threshold = shop.invoices(customer)
    assert threshold.threshold_reason.to_dict() == {"amount_gte": 5000, "item_reasons": []}
    assert (threshold.period_start, threshold.period_end) == (START, START + DAY)
    assert [(description, amount) for description, _, amount in lines(cycle)][1:] == [
        ("Amount previously billed", -5000)
    ]
    assert (preview.total, lines(preview)) == (3000, lines(cycle))


def test_tiers_go_on_over_threshold_invoices(shop, sandbox):
    """Each slice is what all usage so far costs, less what was billed."""
    customer = shop.customer()
    shop.subscribe(customer, tiered(shop, shop.meter()), billing_thresholds={"amount_gte": 50_000})
    for used in (100, 200):  # 500.00, then 600.00 of the second tier
        shop.send(customer, used)
        sandbox.advance(seconds=DAY)
    shop.send(customer, 10)
    sandbox.advance(to=APRIL + HOUR)

    assert [total for _, _, total in found(shop, customer)] == [50_000, 60_000, 3000]


def test_usage_of_the_grace_period_is_not_on_a_threshold_invoice(shop, sandbox, calls):
    """It is on the next one."""
    customer = shop.customer()
    shop.subscribe(customer, calls, billing_thresholds={"amount_gte": 5000})
    shop.send(customer, 50)
    shop.invoices(customer)
    shop.send(customer, 7)
    sandbox.advance(to=APRIL + HOUR)

    assert [total for _, _, total in found(shop, customer)] == [5000, 700]


def test_a_number_of_units_is_a_threshold_too(shop, sandbox, calls):
    """Of an item; each time that many more were used."""
    customer = shop.customer()
    subscription = shop.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": calls.id, "billing_thresholds": {"usage_gte": 10}}]}
    )
    for used in (10, 9, 1):
        shop.send(customer, used)
        sandbox.advance(seconds=2 * HOUR)

    (item,) = subscription.items.data
    assert item.billing_thresholds.to_dict() == {"usage_gte": 10}
    assert [total for _, _, total in found(shop, customer)] == [1000, 1000]
    (reason,) = shop.invoices(customer)[0].threshold_reason.item_reasons
    assert reason.usage_gte == 10
    assert set(reason.line_item_ids) == {line.id for line in shop.invoices(customer)[0].lines.data}


def test_a_threshold_of_units_is_set_later(shop, sandbox, calls):
    """And taken away."""
    customer = shop.customer()
    (item,) = shop.subscribe(customer, calls).items.data
    update = shop.v1.subscription_items.update
    changed = update(item.id, {"billing_thresholds": {"usage_gte": 10}})
    shop.send(customer, 10)
    sandbox.advance(seconds=2 * HOUR)
    removed = update(item.id, {"billing_thresholds": ""})
    shop.send(customer, 10)
    sandbox.advance(seconds=2 * HOUR)

    assert (changed.billing_thresholds.usage_gte, removed.billing_thresholds) == (10, None)
    assert found(shop, customer) == [("subscription_threshold", "paid", 1000)]


def test_free_units_reach_a_threshold_of_units_once(shop, sandbox):
    """An invoice of 0, and no other before as many were used again."""
    customer = shop.customer()
    free = tiered(shop, shop.meter(), [{"up_to": 100, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 100}])
    shop.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": free.id, "billing_thresholds": {"usage_gte": 10}}]}
    )
    shop.send(customer, 10)
    sandbox.advance(seconds=2 * HOUR)

    assert found(shop, customer) == [("subscription_threshold", "paid", 0)]


def test_a_threshold_may_begin_a_new_period(shop, sandbox, calls):
    """`reset_billing_cycle_anchor`: nothing was billed before in the new one."""
    customer = shop.customer()
    subscription = shop.subscribe(
        customer, calls, billing_thresholds={"amount_gte": 5000, "reset_billing_cycle_anchor": True}
    )
    sandbox.advance(seconds=DAY)
    shop.send(customer, 60, timestamp=START + DAY - 1)
    shop.send(customer, 55, timestamp=START + DAY)
    shop.invoices(customer)
    after = shop.v1.subscriptions.retrieve(subscription.id)
    sandbox.advance(seconds=HOUR)
    shop.send(customer, 10)
    sandbox.advance(to=day(5, 3))

    assert after.billing_cycle_anchor == START + DAY
    assert after.items.data[0].current_period_end == day(4, 2)
    assert [total for _, _, total in found(shop, customer)] == [6000, 5500, 1000]


def test_a_price_is_changed_after_a_threshold_invoice(shop, sandbox, calls):
    """What was billed is not billed again."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, calls, billing_thresholds={"amount_gte": 5000})
    shop.send(customer, 50)
    sandbox.advance(seconds=DAY)
    shop.send(customer, 10)
    sandbox.advance(seconds=1)
    other = shop.price(shop.v1.billing.meters.retrieve(calls.recurring.meter), unit_amount=1)
    shop.v1.subscription_items.update(subscription.items.data[0].id, {"price": other.id})
    sandbox.advance(to=APRIL + HOUR)

    assert [total for _, _, total in found(shop, customer)] == [5000, 1000]


def test_thresholds_are_changed_and_removed(shop, sandbox, calls):
    """At least 0.50."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, calls, billing_thresholds={"amount_gte": 5000})
    update = shop.v1.subscriptions.update

    refused(update, subscription.id, {"billing_thresholds": {"amount_gte": 49}})
    none = update(subscription.id, {"billing_thresholds": ""})
    shop.send(customer, 60)
    sandbox.advance(seconds=DAY)

    assert (none.billing_thresholds, found(shop, customer)) == (None, [])


def test_a_trial_has_no_threshold_invoice(shop, sandbox, calls):
    """Its usage is free."""
    customer = shop.customer()
    shop.subscribe(customer, calls, billing_thresholds={"amount_gte": 5000}, trial_end=APRIL)
    shop.send(customer, 60)
    sandbox.advance(to=day(5, 1))

    assert found(shop, customer) == []
