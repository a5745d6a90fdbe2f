"""Trials: a first period that costs nothing, and what its end does."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, DAY, HOUR, START, day, lines, refused

pytestmark = pytest.mark.long


@pytest.fixture
def fee(shop):
    """A price of 10.00 a month."""
    return shop.price(unit_amount=1000, product=shop.product(name="Gold", unit_label=None).id)


@pytest.fixture
def metered(shop):
    """A price of 1.00 a unit."""
    return shop.price(shop.meter(), unit_amount=100)


def found(shop, customer):
    """Reason, status, total and period of each invoice, oldest first."""
    return [
        (each.billing_reason, each.status, each.total, each.period_start, each.period_end)
        for each in reversed(shop.invoices(customer))
    ]


def test_a_trial_costs_nothing_and_the_invoice_at_its_end_bills_no_usage_of_it(shop, sandbox, fee, metered):
    """The first invoice is of 0; the one at the end bills the fee of the period that begins."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee, metered, trial_end=APRIL)
    shop.send(customer, 30)
    sandbox.advance(to=APRIL)
    shop.send(customer, 7)
    sandbox.advance(to=day(5, 1) + HOUR)

    assert (subscription.status, subscription.trial_start, subscription.trial_end) == ("trialing", START, APRIL)
    assert subscription.billing_cycle_anchor == APRIL
    assert {(item.current_period_start, item.current_period_end) for item in subscription.items.data} == {
        (START, APRIL)
    }
    assert found(shop, customer) == [
        ("subscription_create", "paid", 0, START, START),
        ("subscription_cycle", "paid", 1000, START, APRIL),
        ("subscription_cycle", "paid", 1700, APRIL, day(5, 1)),
    ]
    first = shop.invoices(customer)[-1]
    assert lines(first) == [("Trial period for Gold", 1, 0)]
    after = shop.v1.subscriptions.retrieve(subscription.id)
    assert (after.status, after.trial_end) == ("active", APRIL)


def test_a_trial_of_metered_prices_alone_makes_no_invoice(shop, sandbox, metered):
    """Flexible billing makes no empty ones."""
    customer = shop.customer()
    shop.subscribe(customer, metered, trial_period_days=14)
    shop.send(customer, 30)
    sandbox.advance(to=START + 14 * DAY + HOUR)

    assert shop.invoices(customer) == []


def test_a_trial_in_days_begins_at_once(shop, fee):
    """And ends that many days later, to the second."""
    subscription = shop.subscribe(shop.customer(), fee, trial_period_days=7)

    assert (subscription.trial_start, subscription.trial_end) == (START, START + 7 * DAY)
    assert subscription.billing_cycle_anchor == START + 7 * DAY


def test_a_trial_that_ends_now_is_none(shop, fee):
    """`trial_end=now` bills at once."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee, trial_end="now")

    assert (subscription.status, subscription.trial_end) == ("active", None)
    assert [each.total for each in shop.invoices(customer)] == [1000]


def test_a_trials_end_is_said_once_and_not_in_two_ways(shop, fee):
    """And lies ahead."""
    customer = shop.customer()

    assert refused(shop.subscribe, customer, fee, trial_end=APRIL, trial_period_days=7).param == "trial_end"
    assert refused(shop.subscribe, customer, fee, trial_end=START).param == "trial_end"
    assert refused(shop.subscribe, customer, fee, trial_period_days=0).param == "trial_period_days"


@pytest.mark.parametrize(("days", "told"), [(14, START + 11 * DAY), (2, START)])
def test_the_end_of_a_trial_is_announced_three_days_before(shop, sandbox, fee, days, told):
    """Of a shorter trial, at once."""
    shop.subscribe(shop.customer(), fee, trial_period_days=days)
    sandbox.advance(to=APRIL)

    (event,) = shop.v1.events.list({"type": "customer.subscription.trial_will_end"}).data
    assert (event.created, event.data.object.status) == (told, "trialing")


def test_a_trial_is_ended_early(shop, sandbox, fee, metered):
    """`trial_end=now`: a period begins here and is billed at once; the usage so far stays free."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee, metered, trial_period_days=30)
    shop.send(customer, 5)
    sandbox.advance(seconds=10 * DAY)
    now = sandbox.now

    ended = shop.v1.subscriptions.update(subscription.id, {"trial_end": "now"})

    assert (ended.status, ended.trial_end, ended.billing_cycle_anchor) == ("active", now, now)
    assert {item.current_period_start for item in ended.items.data} == {now}
    assert found(shop, customer)[1:] == [("subscription_update", "paid", 1000, now, now)]
    assert "customer.subscription.trial_will_end" in shop.events("customer.subscription.trial_will_end")


def test_a_trial_that_is_ended_early_may_keep_the_billing_date(shop, sandbox, fee):
    """`billing_cycle_anchor: unchanged`: the time up to it is a part of a month."""
    customer = shop.customer()
    settings = {"end_behavior": {"billing_cycle_anchor": "unchanged", "missing_payment_method": "create_invoice"}}
    subscription = shop.subscribe(customer, fee, trial_end=APRIL, trial_settings=settings)
    sandbox.advance(to=START + 31 * DAY // 2)

    ended = shop.v1.subscriptions.update(subscription.id, {"trial_end": "now"})

    assert (ended.billing_cycle_anchor, ended.items.data[0].current_period_end) == (APRIL, APRIL)
    assert [each.total for each in shop.invoices(customer)] == [500, 0]


def test_a_trial_is_prolonged(shop, sandbox, fee):
    """Its end moves, and the billing date with it."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee, trial_period_days=7)

    longer = shop.v1.subscriptions.update(subscription.id, {"trial_end": APRIL})
    sandbox.advance(to=APRIL)

    assert (longer.trial_end, longer.billing_cycle_anchor) == (APRIL, APRIL)
    event = shop.v1.events.list({"type": "customer.subscription.updated"}).data[-1]
    assert event.data.previous_attributes["trial_end"] == START + 7 * DAY
    assert [each.total for each in shop.invoices(customer)] == [1000, 0, 0]


def test_an_active_subscription_gets_a_free_period(shop, sandbox, metered):
    """What was used until then is billed, what follows is free until the trial's end."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, metered)
    shop.send(customer, 3)
    sandbox.advance(seconds=10 * DAY)

    free = shop.v1.subscriptions.update(subscription.id, {"trial_end": APRIL})
    shop.send(customer, 50)
    sandbox.advance(to=APRIL + HOUR)

    assert (free.status, free.trial_start) == ("trialing", START + 10 * DAY)
    assert [each.total for each in shop.invoices(customer)] == [300]


@pytest.mark.parametrize(
    ("behavior", "status", "event"),
    [
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("pause", "paused", "customer.subscription.paused"),
        ("create_invoice", "past_due", "invoice.payment_failed"),
    ],
)
def test_a_trial_ends_without_a_payment_method(shop, sandbox, fee, behavior, status, event):
    """As `trial_settings` say."""
    customer = shop.customer()
    sandbox.payments(customer.id, "missing")
    settings = {"end_behavior": {"missing_payment_method": behavior}}
    subscription = shop.subscribe(customer, fee, trial_period_days=7, trial_settings=settings)
    sandbox.advance(to=START + 7 * DAY + HOUR)

    assert subscription.trial_settings.end_behavior.missing_payment_method == behavior
    assert shop.v1.subscriptions.retrieve(subscription.id).status == status
    assert shop.events(event) == [event]


def test_a_paused_subscription_is_resumed(shop, sandbox, fee):
    """It bills nothing until then; a new period begins."""
    customer = shop.customer()
    sandbox.payments(customer.id, "missing")
    settings = {"end_behavior": {"missing_payment_method": "pause"}}
    subscription = shop.subscribe(customer, fee, trial_period_days=7, trial_settings=settings)
    sandbox.advance(to=day(6, 1))
    quiet = [each.total for each in shop.invoices(customer)]
    sandbox.payments(customer.id, "succeed")

    resumed = shop.v1.subscriptions.resume(subscription.id)

    assert (quiet, resumed.status, resumed.billing_cycle_anchor) == ([0], "active", day(6, 1))
    assert [each.total for each in shop.invoices(customer)] == [1000, 0]
    assert refused(shop.v1.subscriptions.resume, subscription.id)


def test_a_subscription_that_is_canceled_in_its_trial_costs_nothing(shop, sandbox, fee, metered):
    """Nor does its usage."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, fee, metered, trial_end=APRIL, cancel_at_period_end=True)
    shop.send(customer, 30)
    sandbox.advance(to=APRIL + HOUR)

    assert shop.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert [each.total for each in shop.invoices(customer)] == [0]


def test_a_preview_in_a_trial_shows_the_first_invoice_to_pay(shop, fee, metered):
    """Without the usage of the trial."""
    customer = shop.customer()
    shop.subscribe(customer, fee, metered, trial_end=APRIL)
    shop.send(customer, 30)

    assert shop.v1.invoices.create_preview({"customer": customer.id}).total == 1000
