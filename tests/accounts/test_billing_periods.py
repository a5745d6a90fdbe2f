"""The ends of billing periods: usage lands on the invoice of the period in which it was used."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timezone

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    kit,
    make_following_kit,
    make_shown_kit,
    price,
    shown,
    stripe,
    tell,
)
from signed import snapshot

from meterkit.accounts.billing_periods import Periods
from meterkit.stripe_api import retry

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def customer(api, price):
    """A customer whose billing periods begin ten minutes past noon: in the midst of an hour."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    return customer


@pytest.fixture
def period_end(kit, customer):
    """When the period ends; the kit knows it."""
    kit.sync()
    ((_, _, end),) = [held for account in kit.customers() for held in account.subscriptions]
    return end


def invoices(api, stripe, clock, customer):
    """What each invoice bills, oldest first, when all that are due are final."""
    clock.advance(3 * HOUR)
    found = [each for each in api.invoices.list({"customer": customer}).data if each.status == "paid"]
    return [sum(line.quantity for line in each.lines.data) for each in found[::-1]]


def look_again(kit):
    """Let the kit find out which periods end soon, as it does every minute."""
    kit._supervisor.runtime()._edges()._next_read = 0
    kit.flush()


def test_an_hour_is_split_where_a_period_ends_in_it(kit, api, stripe, clock, customer, period_end):
    """What was used before is on the old invoice, and what was used after on the new one."""
    clock.now = period_end - 60
    look_again(kit)
    kit.record("calls", "acme", 10)
    kit.record("calls", customer, 1)
    clock.now = period_end
    kit.record("calls", "acme", 200)
    clock.now = period_end + 60
    kit.record("calls", "acme", 3000)
    kit.record("calls", customer, 40000)
    clock.now = period_end - period_end % HOUR + HOUR
    kit.report()
    first = invoices(api, stripe, clock, customer)
    clock.advance(31 * DAY)
    second = invoices(api, stripe, clock, customer)

    assert ([11], [11, 43200]) == (first, second)
    assert {period_end - period_end % HOUR, period_end} == {row.window for row in kit.usage()}


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_process_that_has_just_started_splits_the_hour_too(
    kit, make_following_kit, api, stripe, clock, customer, period_end, is_killed
):
    """A new worker, or a command, counts before it has read where the period ends, and another one may flush that."""
    clock.now = period_end - 60
    kit.record("calls", "acme", 100)
    kit.flush()
    clock.now = period_end + 60
    started = make_following_kit()
    if is_killed:
        child = os.fork()
        if child == 0:
            started.record("calls", "acme", 5)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    else:
        started.record("calls", "acme", 5)
        started.flush()
    clock.now = period_end - period_end % HOUR + HOUR
    kit.report()
    first = invoices(api, stripe, clock, customer)
    clock.advance(31 * DAY)
    second = invoices(api, stripe, clock, customer)

    assert ([100], [100, 5]) == (first, second)


def test_what_was_used_before_a_subscription_is_never_billed(kit, api, stripe, clock, price):
    """Whoever reaches a limit, subscribes and goes on pays for what follows; the kit need not have looked before."""
    kit.sync()
    kit.record("calls", "acme", 50_000)
    kit.flush()
    clock.advance(300)
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    kit.flush()  # as every few seconds
    clock.advance(1)
    kit.record("calls", "acme", 7)
    kit.flush()
    clock.advance(10)
    kit.record("calls", "acme", 3)
    kit.flush()
    clock.advance(HOUR)
    kit.report()
    clock.advance(32 * DAY)

    assert [10] == invoices(api, stripe, clock, customer)


def test_what_is_recorded_for_an_earlier_time_stays_there(kit, make_following_kit, api, stripe, clock, price):
    """Also if the process began to count after the subscription."""
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    clock.advance(300)
    before = datetime.fromtimestamp(clock.now - 60, timezone.utc)
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    clock.advance(60)
    started = make_following_kit()
    started.record("calls", "acme", 9, at=before)
    started.record("calls", "acme", 1, user="ada")
    started.flush()
    clock.advance(HOUR)
    kit.report()
    clock.advance(32 * DAY)

    assert [1] == invoices(api, stripe, clock, customer)


def test_hours_of_others_are_not_split(kit, clock, customer, period_end):
    """Nobody else's billing period ends there."""
    clock.now = period_end - 60
    look_again(kit)
    kit.record("calls", "globex", 1)
    clock.now = period_end + 60
    kit.record("calls", "globex", 1)
    kit.flush()

    assert [period_end - period_end % HOUR] == [row.window for row in kit.usage()]


def test_the_end_of_a_period_is_reported_at_once(make_following_kit, api, stripe, clock, customer, tell):
    """When its invoice is a draft, what was used before the end goes out, although the hour is open; the rest waits."""
    kit = make_following_kit(flush_interval=0.01)
    kit.sync()
    clock.now = kit.customers()[0].subscriptions[0][2] - 60
    look_again(kit)
    kit.record("calls", "acme", 10)
    api.billing.meter_events.create(
        {"event_name": "calls", "payload": {"stripe_customer_id": customer, "value": "1"}, "timestamp": int(clock.now)}
    )
    clock.now += 120
    kit.record("calls", "acme", 200)
    kit.flush()
    (draft,) = api.invoices.list({"customer": customer}).data
    about = {"object": "subscription", "id": draft.parent.subscription_details.subscription}
    created = snapshot("invoice.created", {"object": "invoice", "id": draft.id})
    tell(kit, created, snapshot("customer.subscription.updated", about, id="evt_2"))
    kit.report()

    assert "draft" == draft.status
    assert 11 == stripe.usage("calls", customer)


def test_without_a_subscription_an_open_hour_waits(kit, clock, stripe, api, price):
    """As ever."""
    customer = api.customers.create({}).id
    kit.record("calls", customer, 5)
    kit.report()

    assert 0 == stripe.usage("calls", customer)


def test_a_sum_of_a_split_hour_is_compared_as_a_whole(kit, api, stripe, clock, customer, period_end, monkeypatch):
    """Stripe's summaries know only whole hours: what is uncertain in one part is told with the other's help."""
    monkeypatch.setattr(retry, "MAX_WAIT", 0.01)
    clock.now = period_end - 60
    look_again(kit)
    kit.record("calls", "acme", 10)
    clock.now = period_end + 60
    kit.record("calls", "acme", 200)
    clock.now = period_end + HOUR
    stripe.fail("reset_after", times=retry.TRIES, after=1)
    kit.report()
    clock.advance(DAY + HOUR)
    kit.report()

    assert [10, 200] == sorted(event.value for event in stripe.meter_events)
    books = kit.health()["books"]["calls"]
    assert (210, 210, True) == (books["counted"], books["sent"], books["balanced"])


def test_what_was_used_before_an_immediate_cancellation(kit, api, stripe, clock, customer, tell, events):
    """It is on the last invoice, also when usage goes on in the same hour."""
    kit.sync()
    kit.record("calls", "acme", 100)
    kit.flush()
    clock.advance(20 * 60)
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    api.subscriptions.cancel(subscription.id, {"invoice_now": True})
    tell(kit, *events()[-2:])
    kit.flush()  # as a followed webhook causes at once
    clock.advance(15 * 60)
    kit.record("calls", "acme", 1)
    clock.now += HOUR - clock.now % HOUR
    kit.report()

    assert [100] == invoices(api, stripe, clock, customer)
    assert [100, 1] == [event.value for event in stripe.meter_events]


def test_what_was_used_before_a_scheduled_cancellation(kit, make_shown_kit, shown, api, stripe, clock, customer):
    """The hour is split where it is going to end."""
    ends_at = int(clock.now) + 20 * 60
    shown.rewrite("subscription", {"cancel_at": ends_at})
    kit = make_shown_kit()
    kit.sync()
    kit.record("calls", "acme", 100)
    kit.flush()
    clock.now = ends_at
    kit.record("calls", "acme", 1)
    clock.now += HOUR - clock.now % HOUR
    kit.report()

    assert [100, 1] == [event.value for event in stripe.meter_events]


def test_what_was_used_before_a_price_changed(make_shown_kit, shown, api, price, stripe, clock, customer, tell):
    """The hour is split where the webhook says that the price was changed."""
    kit = make_shown_kit()
    kit.sync()
    kit.record("calls", "acme", 100)
    kit.flush()
    clock.advance(20 * 60)
    (subscription,) = api.subscriptions.list({"customer": customer}).data
    meter = api.prices.retrieve(price).recurring.meter
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter}
    dear = {"currency": "usd", "product_data": {"name": "x"}, "recurring": recurring, "unit_amount": 9900}
    shown.rewrite("subscription_item", {"price": json.loads(str(api.prices.create(dear)))})
    about = {"object": "subscription", "id": subscription.id}
    tell(kit, snapshot("customer.subscription.updated", about, created=int(clock.now)))
    kit.flush()
    clock.advance(60)
    kit.record("calls", "acme", 1)
    clock.now += HOUR - clock.now % HOUR
    kit.report()

    assert [100, 1] == [event.value for event in stripe.meter_events]


def test_the_31st_without_news(kit, make_following_kit, api, stripe, clock, price):
    """A period that is not known yet ends on the anchor's day, as Stripe's does: 28 February, then 31 March."""
    clock.now = datetime(2026, 1, 31, 10, tzinfo=timezone.utc).timestamp()
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price}]})
    kit.sync()
    periods = Periods()
    with kit.process().database().snapshot() as connection:
        periods.refresh(connection, int(clock.now))

    def period(month, day, hour):
        found = periods.of("acme", int(datetime(2026, month, day, hour, tzinfo=timezone.utc).timestamp()))
        return [f"{datetime.fromtimestamp(edge, timezone.utc):%m-%d %H}" for edge in found]

    assert ["02-28 10", "03-31 10"] == period(2, 28, 10) == period(3, 31, 9)
    assert ["03-31 10", "04-30 10"] == period(3, 31, 10) == period(4, 30, 9)
    assert ["12-31 10", "01-31 10"] == period(12, 31, 10)
