"""The ends of billing periods: usage lands on the invoice of the period in which it was used."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from followed_account import api, kit, make_following_kit, price, stripe, tell  # noqa: F401 - fixtures
from signed import snapshot

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


def test_a_process_that_has_just_started_splits_the_hour_too(
    kit, make_following_kit, api, stripe, clock, customer, period_end
):
    """A new worker, or a command, counts before it has read where the period ends."""
    clock.now = period_end - 60
    kit.record("calls", "acme", 100)
    kit.flush()
    clock.now = period_end + 60
    started = make_following_kit()
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
