"""What meter events add up to, and how they are taken back: lines 31 to 34 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import (
    DAY,
    HOUR,
    START,
    cancel,
)


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


def test_line_31_a_raw_meter_counts_every_event(shop, sandbox, customer):
    """Also those of the same second."""
    for _ in range(3):
        shop.send(customer, 2, timestamp=START)

    assert sandbox.usage("queries", customer.id) == 6


@pytest.mark.parametrize(("window", "length"), [("hour", HOUR), ("day", DAY)])
def test_line_31_a_windowed_meter_keeps_what_came_last(shop, sandbox, window, length):
    """One event per customer and UTC window: the last received, even with the older timestamp."""
    shop.meter("queries", event_time_window=window)
    customer, other = shop.customer(), shop.customer()
    base = START - 2 * DAY
    shop.send(customer, 1, timestamp=base + length - 1)
    shop.send(customer, 20, timestamp=base)
    shop.send(customer, 300, timestamp=base + length)
    shop.send(other, 5000, timestamp=base + 1)

    assert sandbox.usage("queries", customer.id) == 320
    assert sandbox.usage("queries", other.id) == 5000


def test_line_32_sums_are_exact(shop, sandbox, customer):
    """Ten tenths are one."""
    for _ in range(10):
        shop.send(customer, "0.1")

    assert sandbox.usage("queries", customer.id) == 1


def test_line_32_last_goes_by_timestamp_then_by_receipt(shop, sandbox):
    """The latest event's value; of two of the same second the one that came later."""
    shop.meter("seats", formula="last")
    customer = shop.customer()

    def last(value, timestamp):
        shop.send(customer, value, event_name="seats", timestamp=timestamp)
        return sandbox.usage("seats", customer.id)

    assert [last(5, START - 10), last(3, START - 20), last(7, START - 10)] == [5, 5, 7]


def test_line_32_nothing_used_is_zero(shop, sandbox, customer):
    """By any formula, and for names that nobody knows."""
    shop.meter("seats", formula="last")

    assert [sandbox.usage(name, customer.id) for name in ("queries", "seats", "answers")] == [0, 0, 0]


def test_line_33_an_event_can_be_taken_back_for_a_day(shop, sandbox, meter, customer):
    """Until 24 hours after its receipt; it disappears from the summaries."""
    shop.send(customer, 5, identifier="a")
    shop.send(customer, 1, identifier="b")
    sandbox.advance(seconds=DAY)

    adjustment = cancel(shop, "a")

    assert (adjustment.status, adjustment.cancel.identifier, adjustment.type) == ("pending", "a", "cancel")
    assert [each["status"] for each in sandbox.adjustments] == ["complete"]
    assert sandbox.usage("queries", customer.id) == 1
    assert [each.aggregated_value for each in shop.summary(meter, customer).data] == [1]


def test_line_33_after_a_day_it_is_too_late(shop, sandbox, customer):
    """400, and the event still counts."""
    shop.send(customer, 5, identifier="a")
    sandbox.advance(seconds=DAY + 1)

    with pytest.raises(stripe.InvalidRequestError, match="within the past 24 hours"):
        cancel(shop, "a")

    assert sandbox.usage("queries", customer.id) == 5


def test_line_33_only_an_existing_event_can_be_taken_back_once(shop, customer):
    """Neither an unknown identifier, nor one of another meter, nor twice."""
    shop.meter("rows")
    shop.send(customer, identifier="a")

    with pytest.raises(stripe.InvalidRequestError, match="identifier nope"):
        cancel(shop, "nope")
    with pytest.raises(stripe.InvalidRequestError, match="identifier a"):
        cancel(shop, "a", "rows")
    cancel(shop, "a")
    with pytest.raises(stripe.InvalidRequestError, match="identifier a"):
        cancel(shop, "a")


def test_line_33_of_two_events_of_an_identifier_the_later_one_is_taken_back(shop, sandbox, customer):
    """After the duplicate window there can be two."""
    shop.send(customer, 5, identifier="a")
    sandbox.advance(seconds=DAY)
    shop.send(customer, 20, identifier="a")
    cancel(shop, "a")

    assert sandbox.usage("queries", customer.id) == 5


def test_line_33_a_cancellation_takes_its_time(make_shop):
    """With a processing lag it is pending before it is complete."""
    shop = make_shop(event_lag=60)
    meter, customer = shop.meter(), shop.customer()
    shop.send(customer, 5, identifier="a")
    shop.sandbox.advance(seconds=60)
    cancel(shop, "a")

    def seen():
        values = [each.aggregated_value for each in shop.summary(meter, customer).data]
        return [each["status"] for each in shop.sandbox.adjustments], values

    assert seen() == (["pending"], [5])
    shop.sandbox.advance(seconds=60)
    assert seen() == (["complete"], [0])


def test_line_34_events_are_seen_after_the_lag(make_shop):
    """Accepted at once, summed up later."""
    shop = make_shop(event_lag=60)
    meter, customer = shop.meter(), shop.customer()
    shop.send(customer, 5)

    shop.sandbox.advance(seconds=59)
    before = shop.summary(meter, customer).data
    shop.sandbox.advance(seconds=1)
    after = shop.summary(meter, customer).data

    assert ([each.aggregated_value for each in before], [each.aggregated_value for each in after]) == ([0], [5])
    assert shop.sandbox.usage("queries", customer.id) == 5
