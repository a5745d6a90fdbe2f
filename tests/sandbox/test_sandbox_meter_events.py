"""Meter events, accepted or refused: lines 18 to 20 and 23 to 26 of the fidelity checklist."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe
from sandbox_shop import (
    DAY,
    MINUTE,
    START,
    refused_event,
)


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


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

    error = refused_event(shop, customer, 5, identifier="a")

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

    refused_event(shop, customer, identifier="a")


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
    refused_event(shop, customer, "many", identifier="a")
    if consumes:
        refused_event(shop, customer, 1, identifier="a")
    else:
        shop.send(customer, 1, identifier="a")

    assert shop.sandbox.usage("queries", customer.id) == total


def test_line_23_the_oldest_timestamp_is_35_days_ago(shop, customer):
    """That second is accepted; one earlier is refused, and the message says what would not be."""
    oldest = START - 35 * DAY
    shop.send(customer, timestamp=oldest)

    error = refused_event(shop, customer, timestamp=oldest - 1)

    assert error.user_message == (
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {oldest}."
    )


def test_line_23_the_latest_timestamp_is_in_five_minutes(shop, customer):
    """That second is accepted; one later is refused."""
    latest = START + 5 * MINUTE
    shop.send(customer, timestamp=latest)

    error = refused_event(shop, customer, timestamp=latest + 1)

    assert f"less than or equal to {latest}" in error.user_message


def test_line_24_an_unknown_event_name_is_refused(shop, customer):
    """No meter, no usage."""
    error = refused_event(shop, customer, event_name="answers")

    assert error.user_message == 'No active meter found for event name "answers".'


@pytest.mark.parametrize("deleted", [False, True])
def test_line_25_an_unknown_customer_is_refused(shop, meter, deleted):
    """Also one that was deleted."""
    identity = "cus_nobody"
    if deleted:
        identity = shop.customer().id
        shop.v1.customers.delete(identity)

    error = refused_event(shop, identity)

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
    error = refused_event(shop, customer, value)

    assert error.user_message == f"The value in the event payload can have at most 15 digits. Received {value}."


@pytest.mark.parametrize("value", ["", "many", "1,5", "0x10", "NaN", "Infinity", "1e3", "1 ", "٣", "."])
def test_line_26_what_is_not_a_number_is_refused(shop, customer, value):
    """Neither words nor other notations."""
    assert "must be a number" in refused_event(shop, customer, value).user_message


def test_line_26_exponents_are_a_switch(make_shop):
    """Nobody has written down whether Stripe takes `1e3`."""
    shop = make_shop(exponents=True)
    shop.meter()
    customer = shop.customer()
    shop.send(customer, "1e3")

    assert shop.sandbox.usage("queries", customer.id) == 1000
    assert "must be a number" in refused_event(shop, customer, "e").user_message


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
