"""Subscriptions and their items: lines 40 and 44 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import (
    APRIL,
    DAY,
    HOUR,
    START,
    day,
    refused,
)


def test_line_40_a_metered_item_has_no_quantity(shop):
    """Stripe's words."""
    price = shop.price(shop.meter(), unit_amount=1)

    error = refused(
        shop.v1.subscriptions.create,
        {"customer": shop.customer().id, "items": [{"price": price.id, "quantity": 1}]},
    )

    assert error.user_message == (
        "Quantity should not be specified where usage_type is `metered`. Remove quantity from `items[0]`"
    )


def test_line_40_twenty_items_are_enough(shop):
    """One more is refused."""
    customer, product = shop.customer(), shop.product().id
    prices = [shop.price(product=product, unit_amount=1) for _ in range(21)]

    error = refused(shop.subscribe, customer, *prices)

    assert error.param == "items"
    assert len(shop.subscribe(customer, *prices[:20]).items.data) == 20


def test_line_40_items_must_go_together(shop):
    """No price twice, one currency; only recurring, active prices of active meters; one at least."""
    customer, meter = shop.customer(), shop.meter()
    good, euro = shop.price(meter, unit_amount=1), shop.price(unit_amount=1, currency="eur")
    once = shop.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": good.product})
    gone = shop.v1.prices.update(shop.price(unit_amount=1).id, {"active": False})

    for others in ([good, good], [good, euro], [once], [gone]):
        assert refused(shop.subscribe, customer, *others).param.startswith("items[")
    assert refused(shop.subscribe, customer, good, currency="eur").param == "currency"
    shop.v1.billing.meters.deactivate(meter.id)
    assert "inactive" in refused(shop.subscribe, customer, good).user_message
    assert refused(shop.subscribe, customer).param == "items"
    assert shop.v1.subscriptions.list().data == []


def test_line_44_periods_are_the_items_business(shop):
    """The subscription itself has none; flexible billing is the default."""
    subscription = shop.subscribe(shop.customer(), shop.price(shop.meter(), unit_amount=1))

    assert subscription.billing_mode.type == "flexible"
    assert "current_period_end" not in subscription.to_dict()
    (item,) = subscription.items.data
    assert (item.current_period_start, item.current_period_end) == (START, APRIL)
    assert (item.subscription, item.quantity, item.plan.usage_type) == (subscription.id, None, "metered")
    assert shop.v1.subscription_items.retrieve(item.id).id == item.id
    assert [each.id for each in shop.v1.subscription_items.list({"subscription": subscription.id}).data] == [item.id]


def test_line_44_metered_items_make_no_first_invoice_and_no_empty_ones(shop, sandbox):
    """Flexible billing: nothing used at no fixed price is no invoice."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    sandbox.advance(to=day(6, 1))

    assert shop.invoices(customer) == []
    assert shop.v1.subscriptions.retrieve(subscription.id).latest_invoice is None
    assert shop.events("invoice.created") == []


def test_line_44_classic_billing_makes_empty_invoices(shop, sandbox):
    """At the beginning and at the end of each period."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1), billing_mode={"type": "classic"})
    sandbox.advance(to=APRIL + HOUR)

    found = [(invoice.billing_reason, invoice.total, invoice.status) for invoice in shop.invoices(customer)]
    assert found == [("subscription_cycle", 0, "paid"), ("subscription_create", 0, "paid")]


def test_line_44_licensed_items_are_paid_in_advance(shop, sandbox):
    """At once for the first period, with the last month's usage for each later one."""
    customer = shop.customer()
    flat, metered = shop.price(unit_amount=1000), shop.price(shop.meter(), unit_amount=1)
    shop.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": flat.id, "quantity": 2}, {"price": metered.id}]}
    )
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + HOUR)

    cycle, first = shop.invoices(customer)
    assert (first.billing_reason, first.status, first.total, first.created) == (
        "subscription_create",
        "paid",
        2000,
        START,
    )
    assert [(line.amount, line.period.start, line.period.end) for line in first.lines.data] == [(2000, START, APRIL)]
    assert [(line.amount, line.period.start, line.period.end) for line in cycle.lines.data] == [
        (5, START, APRIL),
        (2000, APRIL, day(5, 1)),
    ]


def test_subscriptions_can_be_changed_a_little(shop):
    """Metadata, description and whether they end; not their customer."""
    subscription = shop.subscribe(shop.customer(), shop.price(shop.meter(), unit_amount=1), metadata={"a": "b"})
    update = shop.v1.subscriptions.update

    changed = update(subscription.id, {"metadata": {"c": "d"}, "description": "x", "cancel_at_period_end": True})
    kept = update(subscription.id, {"cancel_at_period_end": False})

    assert (changed.metadata.to_dict(), changed.description) == ({"a": "b", "c": "d"}, "x")
    assert (changed.cancel_at_period_end, changed.cancel_at, changed.canceled_at) == (True, APRIL, START)
    assert (kept.cancel_at_period_end, kept.cancel_at, kept.canceled_at) == (False, None, None)
    assert refused(update, subscription.id, {"customer": "cus_other"}).code == "parameter_unknown"


def test_a_subscription_that_ends_with_its_period_bills_its_usage(shop, sandbox):
    """A last invoice, and no next licence."""
    customer = shop.customer()
    subscription = shop.subscribe(
        customer, shop.price(shop.meter(), unit_amount=1), shop.price(unit_amount=1000), cancel_at_period_end=True
    )
    shop.send(customer, 5)
    sandbox.advance(to=day(6, 1))

    ended = shop.v1.subscriptions.retrieve(subscription.id)
    assert (subscription.cancel_at_period_end, subscription.cancel_at) == (True, APRIL)
    assert (ended.status, ended.ended_at) == ("canceled", APRIL)
    assert [invoice.total for invoice in shop.invoices(customer)] == [5, 1000]
    assert shop.events("customer.subscription.deleted") == ["customer.subscription.deleted"]


@pytest.mark.parametrize(("params", "totals"), [({}, []), ({"invoice_now": True}, [5])])
def test_a_subscription_that_ends_at_once_bills_its_usage_only_when_asked(shop, sandbox, params, totals):
    """Else the usage is lost, as with Stripe."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 5)
    sandbox.advance(seconds=DAY)

    canceled = shop.v1.subscriptions.cancel(subscription.id, params)
    sandbox.advance(to=day(6, 1))

    assert (canceled.status, canceled.canceled_at, canceled.ended_at) == ("canceled", START + DAY, START + DAY)
    assert [invoice.total for invoice in shop.invoices(customer)] == totals
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.subscriptions.cancel(subscription.id)
    refused(shop.v1.subscriptions.update, subscription.id, {"description": "x"})


def test_subscriptions_are_listed_by_what_they_are(shop):
    """Canceled ones only when asked for."""
    customer, price, other = shop.customer(), shop.price(unit_amount=1), shop.price(unit_amount=2)
    one, two = shop.subscribe(customer, price), shop.subscribe(shop.customer(), other)
    shop.v1.subscriptions.cancel(one.id)

    def ids(**params):
        return [each.id for each in shop.v1.subscriptions.list(params).data]

    assert ids() == [two.id]
    assert ids(status="all") == [two.id, one.id]
    assert ids(status="canceled") == ids(status="ended") == [one.id]
    assert ids(status="active", price=other.id) == [two.id]
    assert ids(customer=customer.id) == []


def test_a_backdated_subscription_bills_what_was_used_before_it(shop, sandbox):
    """Usage needs no subscription when it is reported."""
    customer = shop.customer()
    price = shop.price(shop.meter(), unit_amount=1)
    shop.send(customer, 5, timestamp=START - 9 * DAY)
    shop.send(customer, 20, timestamp=START - 11 * DAY)
    shop.subscribe(customer, price, backdate_start_date=START - 10 * DAY)
    sandbox.advance(to=APRIL)

    (invoice,) = shop.invoices(customer)
    assert (invoice.total, invoice.period_start, invoice.period_end) == (5, START - 10 * DAY, day(3, 19))
    refused(shop.subscribe, customer, price, backdate_start_date=sandbox.now + 1)


def test_a_billing_cycle_anchor_makes_a_short_first_period(shop):
    """Up to the anchor, at most a whole period away."""
    customer, price = shop.customer(), shop.price(shop.meter(), unit_amount=1)

    (item,) = shop.subscribe(customer, price, billing_cycle_anchor=day(3, 15)).items.data

    assert (item.current_period_start, item.current_period_end) == (START, day(3, 15))
    refused(shop.subscribe, customer, price, billing_cycle_anchor=day(4, 2))


def test_a_backdated_licence_is_not_prorated(shop, sandbox):
    """The sandbox says so instead of making an amount up."""
    sandbox.advance(to=day(5, 15))

    error = refused(shop.subscribe, shop.customer(), shop.price(unit_amount=1000), backdate_start_date=START)
    assert "prorate" in error.user_message
