"""Summaries of meter events: line 38 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import (
    DAY,
    HOUR,
    MINUTE,
    START,
)

pytestmark = pytest.mark.long


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


def test_line_38_without_a_window_there_is_one_summary(shop, meter, customer):
    """For the whole range, also an empty one; it does not name the customer."""
    shop.send(customer, "2.5", timestamp=START - 100)

    (summary,) = shop.summary(meter, customer, START - MINUTE * 2, START).data
    (empty,) = shop.summary(meter, customer, START, START + MINUTE).data

    assert (summary.aggregated_value, empty.aggregated_value) == (2.5, 0)
    assert (summary.start_time, summary.end_time, summary.meter) == (START - MINUTE * 2, START, meter.id)
    assert summary.id.startswith("mtrusg_")
    assert "customer" not in summary.to_dict()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"start_time": START - HOUR + 1}, "start_time"),
        ({"end_time": START + 59}, "end_time"),
        ({"start_time": START - HOUR - MINUTE, "value_grouping_window": "hour"}, "start_time"),
        ({"end_time": START + HOUR, "value_grouping_window": "day", "start_time": START - DAY}, "end_time"),
        ({"end_time": START - HOUR}, "end_time"),
    ],
)
def test_line_38_ranges_are_aligned(shop, meter, customer, params, name):
    """To minutes, or to the hours or days that are asked for; and not empty."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.billing.meters.event_summaries.list(
            meter.id, {"customer": customer.id, "start_time": START - HOUR, "end_time": START, **params}
        )

    assert (caught.value.http_status, caught.value.param) == (400, name)


def test_line_38_hours_and_days_are_listed_where_there_is_usage(shop, meter, customer):
    """Latest first; boundaries are UTC, the end is exclusive."""
    for hours in (-30, -25, -24, -1):
        shop.send(customer, 1, timestamp=START + hours * HOUR)
    shop.send(customer, 100, timestamp=START)

    hourly = shop.summary(meter, customer, START - 2 * DAY, START, value_grouping_window="hour").data
    daily = shop.summary(meter, customer, START - 2 * DAY, START, value_grouping_window="day").data

    assert [(each.start_time - START) // HOUR for each in hourly] == [-1, -24, -25, -30]
    assert [(each.start_time, each.end_time, each.aggregated_value) for each in daily] == [
        (START - DAY, START, 2),
        (START - 2 * DAY, START - DAY, 2),
    ]


def test_line_38_whether_the_end_belongs_to_it_and_empty_hours_are_switches(make_shop):
    """Stripe says both of the end, and nothing of empty hours."""
    shop = make_shop(summary_end="inclusive", empty_buckets=True)
    meter, customer = shop.meter(), shop.customer()
    shop.send(customer, 1, timestamp=START)

    (whole,) = shop.summary(meter, customer, START - DAY, START).data
    hourly = shop.summary(meter, customer, START - 3 * HOUR, START, value_grouping_window="hour").data

    assert whole.aggregated_value == 1
    assert [each.aggregated_value for each in hourly] == [1, 0, 0]


def test_line_38_summaries_come_in_pages_of_ten(shop, meter, customer):
    """The default limit is 10; cursors lead through all of them, forwards and backwards."""
    for hour in range(1, 25):
        shop.send(customer, hour, timestamp=START - hour * HOUR)
    params = {"start": START - DAY, "end": START, "value_grouping_window": "hour"}

    first = shop.summary(meter, customer, **params)
    second = shop.summary(meter, customer, **params, starting_after=first.data[-1].id, limit=20)
    back = shop.summary(meter, customer, **params, ending_before=second.data[0].id)

    assert (len(first.data), first.has_more) == (10, True)
    assert (len(second.data), second.has_more) == (14, False)
    assert [each.id for each in back.data] == [each.id for each in first.data]
    values = [each.aggregated_value for each in first.auto_paging_iter()]
    assert values == list(range(1, 25))


def test_line_38_a_summary_is_of_somebody(shop, meter):
    """An unknown customer is a bad request."""
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'nope'") as caught:
        shop.v1.billing.meters.event_summaries.list(
            meter.id, {"customer": "nope", "start_time": START - HOUR, "end_time": START}
        )

    assert caught.value.http_status == 400
