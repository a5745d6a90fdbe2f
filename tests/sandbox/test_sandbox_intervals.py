"""Several intervals on one subscription, and periods of several months."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, HOUR, START, day, refused

pytestmark = pytest.mark.long

YEAR = day(3, 1, 2027)


@pytest.fixture
def mixed(shop):
    """A customer with a yearly fee of 1,200.00 and 1.00 a call, billed monthly."""
    customer = shop.customer()
    yearly = shop.price(unit_amount=120_000, recurring={"interval": "year"})
    return customer, shop.subscribe(customer, yearly, shop.price(shop.meter(), unit_amount=100))


def found(shop, customer):
    """Total and period of each invoice, oldest first."""
    return [(each.total, each.period_start, each.period_end) for each in reversed(shop.invoices(customer))]


def test_a_yearly_fee_and_monthly_usage_are_billed_apart(shop, sandbox, mixed):
    """The fee at once and after a year, usage each month."""
    customer, subscription = mixed
    shop.send(customer, 5)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)
    shop.send(customer, 7)
    sandbox.advance(to=day(5, 1) + HOUR)

    assert [each.current_period_end for each in subscription.items.data] == [YEAR, APRIL]
    assert (preview.total, preview.period_end) == (500, APRIL)
    assert found(shop, customer) == [
        (120_000, START, START),
        (500, START, APRIL),
        (700, APRIL, day(5, 1)),
    ]
    after = shop.v1.subscriptions.retrieve(subscription.id)
    assert [each.current_period_end for each in after.items.data] == [YEAR, day(6, 1)]


def test_what_is_due_together_is_on_one_invoice(shop, sandbox, mixed):
    """After a year, the last month's usage and the next year's fee."""
    customer, _ = mixed
    sandbox.advance(to=YEAR - HOUR)
    shop.send(customer, 3)
    sandbox.advance(to=YEAR + HOUR)

    assert found(shop, customer)[-1] == (120_300, day(2, 1, 2027), YEAR)


def test_a_subscription_of_several_intervals_says_at_which_end_it_ends(shop, sandbox, mixed):
    """With the month or with the year."""
    customer, subscription = mixed
    update = shop.v1.subscriptions.update

    assert refused(update, subscription.id, {"cancel_at_period_end": True}).param == "cancel_at_period_end"
    assert update(subscription.id, {"cancel_at": "max_period_end"}).cancel_at == YEAR
    assert update(subscription.id, {"cancel_at": "", "proration_behavior": "none"}).cancel_at is None
    shop.send(customer, 5)
    update(subscription.id, {"cancel_at": "min_period_end", "proration_behavior": "none"})
    sandbox.advance(to=APRIL + HOUR)

    assert shop.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert [total for total, _, _ in found(shop, customer)] == [120_000, 500]


def test_classic_billing_has_one_interval(shop):
    """Only flexible billing mixes them."""
    prices = [shop.price(unit_amount=1, recurring={"interval": each}) for each in ("year", "month")]

    error = refused(shop.subscribe, shop.customer(), *prices, billing_mode={"type": "classic"})

    assert error.param == "items[1][price]"


def test_a_quarter_is_three_months(shop, sandbox):
    """`interval_count`; the line says so."""
    customer = shop.customer()
    quarterly = {"interval": "month", "interval_count": 3}
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100, recurring=quarterly))
    shop.send(customer, 5)
    sandbox.advance(to=day(5, 31))
    before = found(shop, customer)
    shop.send(customer, 7)
    sandbox.advance(to=day(6, 1) + HOUR)

    assert (before, found(shop, customer)) == ([], [(1200, START, day(6, 1))])
    assert "(at $1.00 / every 3 months)" in shop.invoices(customer)[0].lines.data[0].description


def test_an_item_of_another_interval_is_added(shop, sandbox):
    """Its first period ends on its own billing date, counted from the subscription's anchor."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, shop.price(shop.meter(), unit_amount=100))
    sandbox.advance(to=day(3, 16))

    added = shop.v1.subscription_items.create(
        {
            "subscription": subscription.id,
            "price": shop.price(unit_amount=36_500, recurring={"interval": "year"}).id,
            "proration_behavior": "always_invoice",
        }
    )

    assert (added.current_period_start, added.current_period_end) == (day(3, 16), YEAR)
    assert [total for total, _, _ in found(shop, customer)] == [35_000]
