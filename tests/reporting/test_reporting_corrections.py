"""Usage that is taken back, and usage that is reported again: what Stripe adds up in the end."""

from __future__ import annotations

import threading

import pytest
from guard import GUARD

from meterkit import LedgerError, Meter, UsageError
from meterkit.outbox.corrections import Corrections
from meterkit.reporting import corrections

pytestmark = pytest.mark.usefixtures("impatient")

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that reports to the sandbox."""
    return make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url)


@pytest.fixture
def used(kit, customer, clock):
    """A company used 100 in an hour that has ended, and two of its users 40 and 60 of them; answers that hour."""
    kit.link("acme", customer)
    kit.record("calls", "acme", 40, user="ada")
    kit.record("calls", "acme", 60, user="bob")
    hour = int(clock.now) - int(clock.now) % HOUR
    clock.advance(HOUR)
    return hour


def reverse(kit, quantity, at, reason="a load test", company="acme"):
    kit.flush()
    correct = kit.process().stripe_jobs.reporter().correct
    return correct(company=company, meter="calls", event_name="calls", at=at, quantity=quantity, reason=reason)


def books(kit):
    return {place: quantity for place, quantity in kit.health()["books"]["calls"].items() if quantity}


def kept(kit):
    return [
        (each.quantity, each.reason, each.state)
        for each in Corrections(kit.process().database(), clock=kit.clock).corrections()
    ]


def test_what_is_not_reported_yet_will_not_be(kit, stripe, customer, used):
    """Stripe never hears of it; the reason is kept."""
    reverse(kit, 30, used)
    kit.report()

    assert [70] == [event.value for event in stripe.meter_events]
    assert {"counted": 70, "sent": 70, "balanced": True} == books(kit)
    assert [(30, "a load test", "done")] == kept(kit)


def test_a_part_of_what_was_reported_is_taken_back_by_a_negative_event(kit, stripe, customer, used, clock):
    """In the same hour, so that it lands on the same invoice."""
    kit.report()
    reverse(kit, 30, used)
    clock.advance(HOUR)
    kit.report()

    assert [100, -30] == [event.value for event in stripe.meter_events]
    assert {used} == {event.timestamp - event.timestamp % HOUR for event in stripe.meter_events}
    assert 70 == stripe.usage("calls", customer)
    assert {"counted": 70, "sent": 70, "balanced": True} == books(kit)


def test_a_whole_event_is_canceled_within_a_day(kit, stripe, customer, used, clock):
    """And nothing else is sent for it."""
    kit.report()
    found = reverse(kit, 100, used)
    clock.advance(HOUR)
    kit.report()

    assert ("done", 0) == (found.state, stripe.usage("calls", customer))
    assert [found.report] == [each["cancel"]["identifier"] for each in stripe.adjustments]
    assert [100] == [event.value for event in stripe.meter_events]
    assert {"balanced": True} == books(kit)


def test_a_whole_event_is_taken_back_after_a_day(kit, stripe, customer, used, clock):
    """Stripe cancels nothing that old."""
    kit.report()
    clock.advance(DAY)
    found = reverse(kit, 100, used)
    kit.report()

    assert ("done", None, []) == (found.state, found.report, stripe.adjustments)
    assert [100, -100] == [event.value for event in stripe.meter_events]
    assert {"balanced": True} == books(kit)


@pytest.mark.parametrize("fault", ["reset_after", "reset_before", "timeout_before"])
def test_an_answer_that_is_lost(kit, stripe, customer, used, clock, fault):
    """Health says so; the next report asks again, and what was taken back is so once."""
    kit.report()
    stripe.fail(fault, path="/v1/billing/meter_event_adjustments")
    found = reverse(kit, 100, used)
    attention = " ".join(kit.health()["attention"])
    stripe.heal()
    clock.advance(HOUR)
    kit.report()

    assert ("canceling", True) == (found.state, str(found.report) in attention)
    assert 0 == stripe.usage("calls", customer)
    assert (1, [(100, "a load test", "done")]) == (len(stripe.adjustments), kept(kit))


@pytest.mark.parametrize("fault", ["500", "500_after", "reset_after", "reset_before"])
def test_an_answer_that_is_lost_until_it_is_too_late(kit, stripe, customer, used, clock, fault):
    """Stripe's sum tells whether it was canceled; if not, a negative event takes it back."""
    kit.report()
    stripe.fail(fault, path="/v1/billing/meter_event_adjustments", times=9)
    reverse(kit, 100, used)
    stripe.heal()
    clock.advance(DAY)
    kit.report()
    kit.report()

    assert 0 == stripe.usage("calls", customer)
    assert ([100] if "after" in fault else [100, -100]) == [event.value for event in stripe.meter_events]
    assert [(100, "a load test", "done")] == kept(kit)
    assert {"balanced": True} == books(kit)


def test_a_cancellation_that_stripe_refuses(kit, stripe, customer, used, clock, monkeypatch):
    """A negative event takes it back instead."""
    kit.report()
    monkeypatch.setattr(corrections, "UNKNOWN_SECONDS", 99 * HOUR)  # whoever asks too late is refused
    clock.advance(30 * HOUR)
    found = reverse(kit, 100, used)
    kit.report()

    assert ("done", None) == (found.state, found.report)
    assert [100, -100] == [event.value for event in stripe.meter_events]


def test_usage_after_a_correction(kit, stripe, customer, used, clock):
    """It goes on from what is left."""
    kit.report()
    reverse(kit, 30, used)
    clock.advance(-HOUR)
    kit.record("calls", "acme", 5)
    clock.advance(HOUR)
    kit.report()

    assert 75 == stripe.usage("calls", customer)
    assert {"counted": 75, "sent": 75, "balanced": True} == books(kit)


def test_a_correction_that_is_sent_twice_is_taken_once(kit, stripe, customer, used, clock):
    """A negative event is a report like any other: its identifier keeps it from counting twice."""
    kit.report()
    reverse(kit, 30, used)
    stripe.fail("reset_after", times=2)
    kit.report()

    assert 70 == stripe.usage("calls", customer)


@pytest.mark.parametrize(("quantity", "company"), [(101, "acme"), (1, "globex")])
def test_more_than_was_used(kit, stripe, customer, used, quantity, company):
    """Nothing is changed."""
    with pytest.raises(UsageError, match=f"of {quantity} units can be reversed"):
        reverse(kit, quantity, used, company=company)

    kit.report()
    assert [100] == [event.value for event in stripe.meter_events]
    assert [] == kept(kit)


def test_while_another_process_reports(kit, stripe, customer, used, make_kit):
    """Two would be in each other's way."""
    kit.report()
    held = stripe.fail("slow", path="/v1/billing/meter_event_adjustments")
    first = threading.Thread(target=lambda: reverse(kit, 100, used))
    first.start()
    assert held.wait(GUARD)
    other = make_kit(Meter("calls"), stripe_key=stripe.api_key, stripe_base=stripe.url)
    with pytest.raises(LedgerError, match="another process"):
        reverse(other, 10, used)
    held.release()
    first.join()

    assert [(100, "a load test", "done")] == kept(kit)


def test_rejected_usage_is_reported_again(kit, stripe, clock, customer):
    """To the customer who pays by then, under another identifier; the books balance all the while."""
    kit.link("acme", "cus_wrong")
    kit.record("calls", "acme", 7, user="ada")
    kit.record("calls", "acme", 8)
    clock.advance(HOUR)
    kit.report()
    rejected = books(kit)
    kit.link("acme", customer)
    retried = kit.process().stripe_jobs.reporter().retry()
    between = books(kit)
    kit.report()

    assert {"counted": 15, "rejected": 15, "balanced": True} == rejected
    assert (1, {"counted": 15, "unreported": 15, "balanced": True}) == (retried, between)
    assert {"counted": 15, "sent": 15, "balanced": True} == books(kit)
    assert 15 == stripe.usage("calls", customer)
    assert kit.health()["ok"]


def test_only_what_is_rejected_is_retried(kit, stripe, customer, used):
    """What Stripe has stays as it is."""
    kit.report()

    assert 0 == kit.process().stripe_jobs.reporter().retry()
    kit.report()
    assert [100] == [event.value for event in stripe.meter_events]
