"""Subscription schedules: phases that change items, discounts and trials when they begin."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import APRIL, DAY, HOUR, START, day, refused
from shapes import differences

pytestmark = pytest.mark.long

MAY, JUNE = day(5, 1), day(6, 1)


@pytest.fixture
def prices(shop):
    """Two licensed prices, of 10.00 and 20.00, and two metered ones, of 1.00 and 2.00."""
    meter = shop.meter()
    fees = [shop.price(unit_amount=amount) for amount in (1000, 2000)]
    return [*fees, *(shop.price(meter, unit_amount=amount) for amount in (100, 200))]


def phase(*prices, **params):
    return {"items": [{"price": price.id} for price in prices], **params}


def schedule(shop, *phases, customer=None, **params):
    customer = customer or shop.customer()
    return shop.v1.subscription_schedules.create({"customer": customer.id, "phases": list(phases), **params})


def again(shop, made):
    return shop.v1.subscription_schedules.retrieve(made.id)


def subscription_of(shop, made):
    return shop.v1.subscriptions.retrieve(made.subscription)


def prices_of(subscription):
    return [item.price.id for item in subscription.items.data]


def bills(shop, made):
    """When invoices were made, and of how much, oldest first."""
    found = shop.v1.invoices.list({"customer": made.customer, "limit": 100}).data
    return [(invoice.created, invoice.total) for invoice in reversed(found)]


def test_a_price_that_goes_up_with_a_period(shop, prices):
    """The invoice of that day charges the new price, and nothing of the old one."""
    cheap, dear, *_ = prices
    made = schedule(shop, phase(cheap, end_date=APRIL), phase(dear))
    first = subscription_of(shop, made)
    shop.sandbox.advance(to=APRIL + HOUR)
    second = subscription_of(shop, made)

    assert ("active", made.id) == (made.status, first.schedule)
    assert ([cheap.id], [dear.id]) == (prices_of(first), prices_of(second))
    assert [(START, 1000), (APRIL, 2000)] == bills(shop, made)
    assert (APRIL, MAY) == (again(shop, made).current_phase.start_date, again(shop, made).current_phase.end_date)


def test_usage_of_each_phase_is_billed_at_its_price(shop, prices):
    """Also where the price changes with the period."""
    *_, cheap, dear = prices
    customer = shop.customer()
    made = schedule(shop, phase(cheap, end_date=APRIL), phase(dear, end_date=MAY), customer=customer)
    shop.send(customer, 5)
    shop.sandbox.advance(to=APRIL + DAY)
    shop.send(customer, 7)
    shop.sandbox.advance(to=MAY + HOUR)

    assert [(APRIL, 500), (MAY, 1400)] == bills(shop, made)


def test_usage_of_each_phase_within_a_period(shop, prices):
    """One invoice has both."""
    *_, cheap, dear = prices
    customer = shop.customer()
    made = schedule(shop, phase(cheap, end_date=START + 10 * DAY), phase(dear, end_date=APRIL), customer=customer)
    shop.send(customer, 5)
    shop.sandbox.advance(to=START + 20 * DAY)
    shop.send(customer, 7)
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [(APRIL, 1900)] == bills(shop, made)


@pytest.mark.parametrize(("proration", "total"), [("none", 2000), ("create_prorations", 2000 + 2000 // 2 - 1000 // 2)])
def test_a_phase_that_begins_within_a_period(shop, prices, proration, total):
    """Licences are prorated, if the phase says so."""
    cheap, dear, *_ = prices
    half = START + 31 * DAY // 2
    made = schedule(shop, phase(cheap, end_date=half), phase(dear, end_date=MAY, proration_behavior=proration))
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [(START, 1000), (APRIL, total)] == bills(shop, made)


def test_items_come_and_go(shop, prices):
    """What stays keeps its id."""
    cheap, dear, metered, _ = prices
    made = schedule(
        shop, phase(cheap, metered, end_date=APRIL), phase(metered, end_date=MAY), phase(dear, metered, end_date=JUNE)
    )
    items = [{item.price.id: item.id for item in subscription_of(shop, made).items.data}]
    for moment in (APRIL, MAY):
        shop.sandbox.advance(to=moment + HOUR)
        items.append({item.price.id: item.id for item in subscription_of(shop, made).items.data})

    assert [{cheap.id, metered.id}, {metered.id}, {dear.id, metered.id}] == [set(each) for each in items]
    assert 1 == len({each[metered.id] for each in items})


def test_quantities(shop, prices):
    """Of licences."""
    cheap, *_ = prices
    made = schedule(
        shop,
        {"items": [{"price": cheap.id, "quantity": 2}], "end_date": APRIL},
        {"items": [{"price": cheap.id, "quantity": 3}], "end_date": MAY},
    )
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [(START, 2000), (APRIL, 3000)] == bills(shop, made)


def test_a_coupon_of_a_phase(shop, prices):
    """From its beginning on."""
    cheap, *_ = prices
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    made = schedule(shop, phase(cheap, end_date=APRIL), phase(cheap, end_date=MAY, discounts=[{"coupon": coupon.id}]))
    shop.sandbox.advance(to=APRIL + HOUR)

    assert [(START, 1000), (APRIL, 500)] == bills(shop, made)
    assert coupon.id == made.phases[1].discounts[0].coupon


def test_a_trial_of_a_phase(shop, prices):
    """It lasts as long as the phase."""
    cheap, *_ = prices
    made = schedule(shop, phase(cheap, end_date=START + 14 * DAY, trial=True), phase(cheap))
    trialing = subscription_of(shop, made)
    shop.sandbox.advance(to=START + 14 * DAY + HOUR)

    assert ("trialing", START + 14 * DAY) == (trialing.status, trialing.trial_end)
    assert "active" == subscription_of(shop, made).status
    assert [(START, 0), (START + 14 * DAY, 1000)] == bills(shop, made)


def test_a_schedule_that_begins_later(shop, prices):
    """Until then there is no subscription."""
    cheap, *_ = prices
    made = schedule(shop, phase(cheap, metadata={"a": "1"}), start_date=APRIL)
    scheduled = [each.id for each in shop.v1.subscription_schedules.list({"scheduled": True}).data]
    shop.sandbox.advance(to=APRIL + HOUR)
    begun = again(shop, made)

    assert ("not_started", None, [made.id]) == (made.status, made.subscription, scheduled)
    assert ("active", APRIL) == (begun.status, subscription_of(shop, begun).start_date)
    assert "1" == subscription_of(shop, begun).metadata["a"]
    assert [(APRIL, 1000)] == bills(shop, made)


def test_the_end_releases_the_subscription(shop, prices):
    """It goes on with what the last phase said."""
    cheap, *_ = prices
    made = schedule(shop, phase(cheap, end_date=APRIL))
    shop.sandbox.advance(to=MAY + HOUR)
    released = again(shop, made)

    assert ("released", None, made.subscription) == (
        released.status,
        released.subscription,
        released.released_subscription,
    )
    assert None is shop.v1.subscriptions.retrieve(made.subscription).schedule
    assert [(START, 1000), (APRIL, 1000), (MAY, 1000)] == bills(shop, made)


def test_the_end_cancels_the_subscription(shop, prices):
    """Its usage is billed."""
    *_, metered, _ = prices
    customer = shop.customer()
    made = schedule(shop, phase(metered, end_date=APRIL), customer=customer, end_behavior="cancel")
    shop.send(customer, 5)
    planned = subscription_of(shop, made).cancel_at
    shop.sandbox.advance(to=MAY + HOUR)
    completed = again(shop, made)

    assert (APRIL, "completed", APRIL) == (planned, completed.status, completed.completed_at)
    assert "canceled" == subscription_of(shop, made).status
    assert [(APRIL, 500)] == bills(shop, made)


def test_a_schedule_from_a_subscription(shop, prices):
    """Its first phase is the running period, and others follow."""
    cheap, dear, *_ = prices
    customer = shop.customer()
    subscription = shop.subscribe(customer, cheap)
    made = shop.v1.subscription_schedules.create({"from_subscription": subscription.id})
    running = made.phases[0]
    shop.v1.subscription_schedules.update(
        made.id,
        {
            "phases": [
                phase(cheap, start_date=running.start_date, end_date=running.end_date),
                phase(dear, end_date=MAY),
            ]
        },
    )
    shop.sandbox.advance(to=APRIL + HOUR)

    assert (START, APRIL, subscription.id) == (running.start_date, running.end_date, made.subscription)
    assert [dear.id] == prices_of(subscription_of(shop, made))
    assert [(START, 1000), (APRIL, 2000)] == bills(shop, made)
    assert "already attached" in str(
        refused(shop.v1.subscription_schedules.create, {"from_subscription": subscription.id})
    )


def test_the_running_phase_can_be_changed(shop, prices):
    """The subscription changes at once."""
    cheap, dear, *_ = prices
    made = schedule(shop, phase(cheap, end_date=APRIL))
    shop.v1.subscription_schedules.update(
        made.id, {"phases": [phase(dear, end_date=APRIL)], "proration_behavior": "none", "end_behavior": "cancel"}
    )
    changed = subscription_of(shop, made)

    assert ([dear.id], APRIL) == (prices_of(changed), changed.cancel_at)
    assert "cannot be changed" in str(
        refused(shop.v1.subscription_schedules.update, made.id, {"phases": [phase(dear, start_date=MAY)]})
    )


def test_a_coupon_of_the_running_phase_is_redeemed_once(shop, prices):
    """Also if a later phase is added."""
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    running = phase(prices[0], end_date=APRIL, discounts=[{"coupon": coupon.id}])
    made = schedule(shop, running)
    shop.v1.subscription_schedules.update(made.id, {"phases": [running, phase(prices[1], end_date=MAY)]})

    assert 1 == shop.v1.coupons.retrieve(coupon.id).times_redeemed


def test_metadata_can_be_changed(shop, prices):
    """Without any other change."""
    made = schedule(shop, phase(prices[0]), metadata={"a": "1"})
    changed = shop.v1.subscription_schedules.update(made.id, {"metadata": {"b": "2"}})

    assert {"a": "1", "b": "2"} == changed.metadata.to_dict()
    assert [(START, 1000)] == bills(shop, made)


def test_a_schedule_is_released(shop, prices):
    """The subscription stays as it is, and is not canceled any more."""
    cheap, dear, *_ = prices
    made = schedule(shop, phase(cheap, end_date=APRIL), phase(dear, end_date=MAY), end_behavior="cancel")
    released = shop.v1.subscription_schedules.release(made.id)
    shop.sandbox.advance(to=MAY + HOUR)

    assert ("released", made.subscription) == (released.status, released.released_subscription)
    assert [(START, 1000), (APRIL, 1000), (MAY, 1000)] == bills(shop, made)
    assert "`released` status" in str(refused(shop.v1.subscription_schedules.cancel, made.id))


def test_a_schedule_is_canceled_with_its_subscription(shop, prices):
    """At once."""
    made = schedule(shop, phase(prices[0]), phase(prices[1]))
    canceled = shop.v1.subscription_schedules.cancel(made.id, {"invoice_now": False, "prorate": False})

    assert ("canceled", START, None) == (canceled.status, canceled.canceled_at, canceled.current_phase)
    assert "canceled" == subscription_of(shop, made).status


def test_a_subscription_that_is_canceled_ends_its_schedule(shop, prices):
    """Which has no more phases then."""
    made = schedule(shop, phase(prices[0], end_date=APRIL), phase(prices[1]))
    shop.v1.subscriptions.cancel(made.subscription)
    shop.sandbox.advance(to=MAY)

    assert "canceled" == again(shop, made).status


def test_the_events(shop, prices):
    """Of a schedule from its beginning to its end."""
    made = schedule(shop, phase(prices[0], end_date=APRIL), phase(prices[1], end_date=MAY))
    shop.sandbox.advance(to=MAY + HOUR)
    kinds = [f"subscription_schedule.{each}" for each in ("created", "updated", "released")]

    (created,) = shop.v1.events.list({"type": "customer.subscription.created"}).data
    assert kinds == shop.events(*kinds)
    assert made.id == created.data.object.schedule


def test_a_schedule_lives_by_the_test_clock_of_its_customer(shop, prices):
    """Its phases begin when the clock says so."""
    cheap, dear, *_ = prices
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": MAY})
    customer = shop.customer(test_clock=clock.id)
    made = schedule(shop, phase(cheap, end_date=JUNE), phase(dear), customer=customer)
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": JUNE + HOUR})

    assert (clock.id, [dear.id]) == (made.test_clock, prices_of(subscription_of(shop, made)))
    assert [(MAY, 1000), (JUNE, 2000)] == bills(shop, made)


def test_its_shape(shop, prices):
    """Is what stripe-python declares."""
    made = schedule(shop, phase(prices[0], end_date=APRIL), phase(prices[2]))

    assert set() == differences([made, *shop.v1.subscription_schedules.list().data])
    assert made.id.startswith("sub_sched_1")
    assert made.id == shop.v1.subscriptions.retrieve(made.subscription, {"expand": ["schedule"]}).schedule.id


def test_what_is_refused(shop, prices):
    """With the parameter that is wrong."""
    cheap, *_, metered, _ = prices
    create, customer = shop.v1.subscription_schedules.create, shop.customer().id
    bought = {"items": [{"price": metered.id, "quantity": 1}]}

    def param(**params):
        return refused(create, {"customer": customer, "phases": [phase(cheap)], **params}).param

    assert "phases" == refused(create, {"customer": customer}).param
    assert "customer" == refused(create, {"phases": [phase(cheap)]}).param
    assert "phases[0][items][0][quantity]" == param(phases=[bought])
    assert "phases[1][end_date]" == param(phases=[phase(cheap, end_date=APRIL), phase(cheap, end_date=APRIL)])
    assert "phases[0][items][0][price]" == param(phases=[{"items": [{"price": "price_none"}]}])
    assert "phases[0][transfer_data]" == param(phases=[phase(cheap, transfer_data={"destination": "acct_1"})])
    assert "start_date" == param(start_date=START - DAY)
    assert (
        "phases"
        == refused(
            create, {"from_subscription": shop.subscribe(shop.customer(), cheap).id, "phases": [phase(cheap)]}
        ).param
    )
    assert 1 == len(shop.v1.subscriptions.list().data)
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription schedule"):
        shop.v1.subscription_schedules.retrieve("sub_sched_none")
