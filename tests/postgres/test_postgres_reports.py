"""What Stripe receives from hosts that share a ledger in PostgreSQL; most of it stands in `test_reporter`."""

from __future__ import annotations

import threading

import pytest
from guard import GUARD
from test_reporter import (
    test_a_meter_that_has_left_the_code_is_still_reported,
    test_a_quantity_beyond_stripes_digits_is_sent_in_parts,
    test_a_rejected_event_is_kept_and_holds_up_no_other,
    test_an_event_without_a_meter_waits_until_it_is_made,
    test_an_hour_that_has_ended_is_one_meter_event,
    test_an_open_hour_is_reported_on_request_and_its_later_usage_is_a_further_event,
    test_companies_that_look_alike_when_joined_are_billed_apart,
    test_late_usage_keeps_its_hour,
    test_two_reporters_take_turns,
    test_usage_waits_for_its_customer,
    test_what_stripe_may_have_is_compared_after_its_dedup_window,
)

__all__ = [  # what pytest is to find here
    "test_a_meter_that_has_left_the_code_is_still_reported",
    "test_a_quantity_beyond_stripes_digits_is_sent_in_parts",
    "test_a_rejected_event_is_kept_and_holds_up_no_other",
    "test_an_event_without_a_meter_waits_until_it_is_made",
    "test_an_hour_that_has_ended_is_one_meter_event",
    "test_an_open_hour_is_reported_on_request_and_its_later_usage_is_a_further_event",
    "test_companies_that_look_alike_when_joined_are_billed_apart",
    "test_late_usage_keeps_its_hour",
    "test_two_reporters_take_turns",
    "test_usage_waits_for_its_customer",
    "test_what_stripe_may_have_is_compared_after_its_dedup_window",
]

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient"), pytest.mark.thorough]

HOUR = 3600


@pytest.mark.parametrize("fault", ["429", "500_after", "reset_after", "timeout_before"])
def test_whatever_goes_wrong_at_stripe_it_is_billed_once(kit, make_reporting_kit, stripe, customer, clock, fault):
    """The host that goes on with it is another one, and knows from the ledger what has been tried."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    stripe.fail(fault, times=6)

    for each in (kit, make_reporting_kit(), kit):
        each.report()

    assert 5 == stripe.usage("calls", customer)
    books = kit.health()["books"]["calls"]
    assert books["sent"] == books["counted"] == 5


def test_a_reporter_that_slept_through_its_lease_does_not_bill_twice(
    kit, make_reporting_kit, stripe, customer, clock, lease_expires
):
    """Its successor learns from Stripe that the event is there; the sleeper wakes up, and may write nothing."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    kit.flush()
    held = stripe.fail("timeout_after", seconds=GUARD)
    summaries = []
    sleeper = threading.Thread(target=lambda: summaries.append(kit.report()))
    sleeper.start()
    assert held.wait(GUARD)

    lease_expires()
    successor = make_reporting_kit().report()
    held.release()
    sleeper.join()

    assert (1, "") == (successor.sent, successor.error)
    assert "another process has taken the lease" in summaries[0].error
    assert 5 == stripe.usage("calls", customer)
    assert 5 == kit.health()["books"]["calls"]["sent"]


def test_while_one_reports_all_others_are_told_so(kit, make_reporting_kit, stripe, customer, clock):
    """However many ask, and at the same moment."""
    kit.record("calls", customer, 5)
    clock.advance(HOUR)
    kit.flush()
    held = stripe.fail("slow")
    errors = []
    others = [make_reporting_kit() for _ in range(3)]
    reporting = threading.Thread(target=lambda: errors.append(kit.report().error))
    reporting.start()
    assert held.wait(GUARD)

    asking = [threading.Thread(target=lambda each=each: errors.append(each.report().error)) for each in others]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    held.release()
    reporting.join()

    assert ["another process is reporting now"] * 3 + [""] == errors
    assert [5] == [event.value for event in stripe.meter_events]
