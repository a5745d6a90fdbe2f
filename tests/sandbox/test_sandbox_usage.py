"""Meter events and what they add up to: lines 18 to 20, 23 to 26, 31 to 34 and 38 of the fidelity checklist."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe
from sandbox_shop import DAY, HOUR, MINUTE, START


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


def refused(shop, customer, value=1, **params):
    """The error that sending an event gets."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.send(customer, value, **params)
    assert caught.value.http_status == 400
    return caught.value


def test_line_18_an_accepted_event_is_echoed(shop, customer):
    """Payload as strings, identifier made up, time now, and no id."""
    event = shop.send(customer, 7)

    answer = event.to_dict()
    assert answer.pop("identifier")
    assert answer == {
        "object": "billing.meter_event",
        "created": START,
        "event_name": "queries",
        "livemode": False,
        "payload": {"stripe_customer_id": customer.id, "value": "7"},
        "timestamp": START,
    }


def test_line_18_what_was_accepted_can_be_looked_at(shop, sandbox, customer):
    """In order, with exact values."""
    shop.send(customer, "0.1", identifier="a", timestamp=START - 5)
    sandbox.advance(seconds=10)
    shop.send(customer, "0.2", identifier="b")

    first, second = sandbox.meter_events
    assert (first.identifier, first.value, first.timestamp) == ("a", Decimal("0.1"), START - 5)
    assert (first.customer, first.event_name, first.received_at) == (customer.id, "queries", START)
    assert (second.identifier, second.timestamp, second.received_at) == ("b", START + 10, START + 10)
    assert sandbox.usage("queries", customer.id) == Decimal("0.3")


def test_line_19_duplicate_identifier_is_refused(shop, sandbox, customer):
    """400 with Stripe's words, without a code, not to be retried; nothing is counted again."""
    shop.send(customer, 5, identifier="a")
    sandbox.advance(seconds=DAY - 1)

    error = refused(shop, customer, 5, identifier="a")

    assert error.user_message == "An event already exists with identifier a."
    assert error.error.type == "invalid_request_error"
    assert error.code is None
    assert "code" not in error.json_body["error"]
    assert error.headers["Stripe-Should-Retry"] == "false"
    assert sandbox.usage("queries", customer.id) == 5


def test_line_20_duplicate_after_the_window_counts_again(shop, sandbox, customer):
    """24 hours after its receipt an identifier is forgotten."""
    shop.send(customer, 5, identifier="a")
    sandbox.advance(seconds=DAY)
    shop.send(customer, 5, identifier="a", timestamp=START)

    assert sandbox.usage("queries", customer.id) == 10


def test_line_20_the_window_is_a_switch(make_shop):
    """Stripe promises at least 24 hours; an account may remember longer."""
    shop = make_shop(duplicate_window=2 * DAY)
    shop.meter()
    customer = shop.customer()
    shop.send(customer, identifier="a")
    shop.sandbox.advance(seconds=2 * DAY - 1)

    refused(shop, customer, identifier="a")


@pytest.mark.parametrize(
    ("scope", "outcome"),
    [("account", [400, 400]), ("event_name", [200, 400]), ("customer", [400, 200])],
)
def test_line_19_the_scope_of_identifiers_is_a_switch(make_shop, scope, outcome):
    """The same identifier on another meter, and for another customer."""
    shop = make_shop(identifier_scope=scope)
    shop.meter()
    shop.meter("rows")
    customer, other = shop.customer(), shop.customer()
    shop.send(customer, identifier="a")

    def status(who, event_name):
        try:
            return shop.send(who, event_name=event_name, identifier="a").last_response.code
        except stripe.InvalidRequestError as error:
            return error.http_status

    assert [status(customer, "rows"), status(other, "queries")] == outcome


@pytest.mark.parametrize(("consumes", "total"), [(False, 1), (True, 0)])
def test_line_19_whether_a_refused_event_uses_its_identifier_up_is_a_switch(make_shop, consumes, total):
    """By default it can be repaired and sent again under its identifier."""
    shop = make_shop(rejected_consumes_identifier=consumes)
    shop.meter()
    customer = shop.customer()
    refused(shop, customer, "many", identifier="a")
    if consumes:
        refused(shop, customer, 1, identifier="a")
    else:
        shop.send(customer, 1, identifier="a")

    assert shop.sandbox.usage("queries", customer.id) == total


def test_line_23_the_oldest_timestamp_is_35_days_ago(shop, customer):
    """That second is accepted; one earlier is refused, and the message says what would not be."""
    oldest = START - 35 * DAY
    shop.send(customer, timestamp=oldest)

    error = refused(shop, customer, timestamp=oldest - 1)

    assert error.user_message == (
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {oldest}."
    )


def test_line_23_the_latest_timestamp_is_in_five_minutes(shop, customer):
    """That second is accepted; one later is refused."""
    latest = START + 5 * MINUTE
    shop.send(customer, timestamp=latest)

    error = refused(shop, customer, timestamp=latest + 1)

    assert f"less than or equal to {latest}" in error.user_message


def test_line_24_an_unknown_event_name_is_refused(shop, customer):
    """No meter, no usage."""
    error = refused(shop, customer, event_name="answers")

    assert error.user_message == 'No active meter found for event name "answers".'


@pytest.mark.parametrize("deleted", [False, True])
def test_line_25_an_unknown_customer_is_refused(shop, meter, deleted):
    """Also one that was deleted."""
    identity = "cus_nobody"
    if deleted:
        identity = shop.customer().id
        shop.v1.customers.delete(identity)

    error = refused(shop, identity)

    assert error.user_message == f"No such customer: '{identity}'"
    assert error.code == "resource_missing"


def test_line_25_it_can_be_found_out_later_instead(make_shop):
    """The switch "async": 200, and the event is dropped behind the scenes."""
    shop = make_shop(unknown_customer="async")
    shop.meter()
    shop.send("cus_nobody", 3)

    (event,) = shop.sandbox.meter_events
    assert event.error_code == "meter_event_customer_not_found"
    assert shop.sandbox.usage("queries", "cus_nobody") == 0


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        ("1", "1"),
        ("0", "0"),
        ("-3", "-3"),
        ("0.5", "0.5"),
        ("123456789012345", "123456789012345"),
        ("0.00000000000000000001", "0.00000000000000000001"),
        ("-1234567.12345678", "-1234567.12345678"),
    ],
)
def test_line_26_decimals_and_negatives_are_values(shop, sandbox, customer, value, counted):
    """Exactly, up to 15 significant digits."""
    shop.send(customer, value)

    assert sandbox.usage("queries", customer.id) == Decimal(counted)


@pytest.mark.parametrize("value", ["1234567890123456", "0.1234567890123456", "-12345678.12345678"])
def test_line_26_sixteen_digits_are_too_many(shop, customer, value):
    """With Stripe's words."""
    error = refused(shop, customer, value)

    assert error.user_message == f"The value in the event payload can have at most 15 digits. Received {value}."


@pytest.mark.parametrize("value", ["", "many", "1,5", "0x10", "NaN", "Infinity", "1e3", "1 ", "٣", "."])
def test_line_26_what_is_not_a_number_is_refused(shop, customer, value):
    """Neither words nor other notations."""
    assert "must be a number" in refused(shop, customer, value).user_message


def test_line_26_exponents_are_a_switch(make_shop):
    """Nobody has written down whether Stripe takes `1e3`."""
    shop = make_shop(exponents=True)
    shop.meter()
    customer = shop.customer()
    shop.send(customer, "1e3")

    assert shop.sandbox.usage("queries", customer.id) == 1000
    assert "must be a number" in refused(shop, customer, "e").user_message


@pytest.mark.parametrize("payload", [{}, {"value": "many"}, {"value": "7"}])
def test_line_26_count_ignores_the_value(shop, sandbox, payload):
    """Each event counts as one."""
    shop.meter("calls", formula="count")
    customer = shop.customer()
    shop.v1.billing.meter_events.create(
        {"event_name": "calls", "payload": {"stripe_customer_id": customer.id, **payload}}
    )

    assert sandbox.usage("calls", customer.id) == 1


@pytest.mark.parametrize(
    ("payload", "message", "code"),
    [
        (
            {"value": "1"},
            "Customer mapping key stripe_customer_id not found in payload.",
            "meter_event_no_customer_defined",
        ),
        ({"stripe_customer_id": "CUSTOMER"}, "Value key value not found in payload.", "meter_event_invalid_value"),
        (
            {"stripe_customer_id": "CUSTOMER", "value": "x"},
            "The value in the event payload must be a number. Received x.",
            "meter_event_invalid_value",
        ),
        (
            {"stripe_customer_id": "CUSTOMER", "value": "1234567890123456"},
            "The value in the event payload can have at most 15 digits. Received 1234567890123456.",
            "meter_event_value_too_many_digits",
        ),
    ],
)
def test_line_26_a_bad_payload_is_refused_or_dropped(make_shop, payload, message, code):
    """At once by default; with the switch "async" only after the 200."""
    for mode in ("sync", "async"):
        shop = make_shop(bad_payload=mode)
        shop.meter()
        customer = shop.customer()
        filled = {key: customer.id if text == "CUSTOMER" else text for key, text in payload.items()}

        def send(shop=shop, filled=filled):
            return shop.v1.billing.meter_events.create({"event_name": "queries", "payload": filled})

        if mode == "sync":
            with pytest.raises(stripe.InvalidRequestError) as caught:
                send()
            assert caught.value.user_message == message
            assert shop.sandbox.meter_events == []
        else:
            send()
            assert [event.error_code for event in shop.sandbox.meter_events] == [code]
            assert shop.sandbox.usage("queries", customer.id) == 0


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


def cancel(shop, identifier, event_name="queries"):
    return shop.v1.billing.meter_event_adjustments.create(
        {"type": "cancel", "event_name": event_name, "cancel": {"identifier": identifier}}
    )


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
