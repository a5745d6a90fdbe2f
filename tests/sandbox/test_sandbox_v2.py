"""Meter events of v2, one by one: lines 2, 18, 21, 24, 26, 27, 28 and 33 of the fidelity checklist."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest
import stripe
from guard import GUARD
from sandbox_shop import DAY, MINUTE, START, refused

pytestmark = pytest.mark.long

EVENTS = "/v2/billing/meter_events"


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


@pytest.fixture
def body(customer):
    """What a good event says."""
    return {"event_name": "queries", "payload": {"stripe_customer_id": customer.id, "value": "7"}}


def test_line_02_v2_takes_json(raw, sandbox, body):
    """The request log shows what the body says."""
    answer = raw.post(EVENTS, json=body)

    assert answer.status_code == 200
    assert (sandbox.requests[-1].params, sandbox.requests[-1].status) == (body, 200)


def test_line_02_v2_takes_no_form(raw, sandbox, customer):
    """A form is refused, with what is expected."""
    form = {"event_name": "queries", "payload[stripe_customer_id]": customer.id, "payload[value]": "7"}
    answer = raw.post(EVENTS, data=form)

    assert (answer.status_code, sandbox.meter_events) == (400, [])
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", ["", "[]", '"queries"', "{", "\xff"])
def test_line_02_what_is_no_json_object_is_refused(raw, meter, content):
    """Whatever else it is."""
    answer = raw.post(EVENTS, content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


def test_line_18_an_accepted_event_is_echoed(shop, sandbox, customer):
    """Like in v1, but with times as RFC 3339."""
    sandbox.advance(seconds=1)
    answer = shop.send_v2(customer, "7", timestamp="2026-02-28T13:00:00.25+01:00").to_dict()

    assert answer.pop("identifier")
    assert answer == {
        "object": "v2.billing.meter_event",
        "created": "2026-03-01T00:00:01.000Z",
        "event_name": "queries",
        "livemode": False,
        "payload": {"stripe_customer_id": customer.id, "value": "7"},
        "timestamp": "2026-02-28T12:00:00.250Z",
    }


def test_line_18_it_counts_as_one_of_v1_does(shop, sandbox, meter, customer):
    """The same meter, the same sum."""
    shop.send(customer, 1)
    shop.send_v2(customer, "0.5", identifier="a", timestamp="2026-02-28T12:00:00Z")

    event = sandbox.meter_events[-1]
    assert (event.identifier, event.value, event.timestamp) == ("a", Decimal("0.5"), START - DAY // 2)
    assert shop.summary(meter, customer).data[0].aggregated_value == 1.5


@pytest.mark.parametrize("first", ["v1", "v2"])
def test_line_21_a_duplicate_has_a_code(shop, sandbox, customer, first):
    """Whichever of the two took the first; and nothing is counted again."""
    (shop.send if first == "v1" else shop.send_v2)(customer, "5", identifier="a")
    sandbox.advance(seconds=DAY - 1)

    error = refused(shop.send_v2, customer, "5", identifier="a")

    assert error.code == "duplicate_meter_event"
    assert set(error.json_body["error"]) == {"code", "message"}
    assert sandbox.usage("queries", customer.id) == 5
    sandbox.advance(seconds=1)
    shop.send_v2(customer, "5", identifier="a")
    assert sandbox.usage("queries", customer.id) == 10


def test_line_24_no_meter_and_an_archived_one_have_codes(shop, meter, customer):
    """v2 tells them apart."""
    assert refused(shop.send_v2, customer, event_name="answers").code == "no_meter"
    shop.v1.billing.meters.deactivate(meter.id)
    assert refused(shop.send_v2, customer).code == "archived_meter"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"value": "1"}, "payload_no_customer_defined"),
        ({"stripe_customer_id": "CUSTOMER"}, "payload_no_value_defined"),
        ({"stripe_customer_id": "CUSTOMER", "value": "many"}, "payload_invalid_value"),
        ({"stripe_customer_id": "CUSTOMER", "value": "1234567890123456"}, "payload_invalid_value"),
    ],
)
def test_line_26_a_bad_payload_has_a_code(make_shop, payload, code):
    """Also where v1 would find it out later."""
    shop = make_shop(bad_payload="async")
    shop.meter()
    filled = {key: shop.customer().id if text == "CUSTOMER" else text for key, text in payload.items()}

    error = refused(shop.v2.billing.meter_events.create, {"event_name": "queries", "payload": filled})

    assert (error.code, shop.sandbox.meter_events) == (code, [])


def test_line_25_an_unknown_customer_is_found_out_later(shop, sandbox, meter):
    """v2 has no code for it that it could answer at once."""
    shop.send_v2("cus_nobody")

    assert [event.error_code for event in sandbox.meter_events] == ["meter_event_customer_not_found"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payload": {"stripe_customer_id": "cus_1", "value": 7}}, "Invalid string"),
        ({"payload": {"stripe_customer_id": "cus_1", "value": None}}, "Invalid string"),
        ({"payload": ["cus_1", "7"]}, "Invalid object"),
        ({"timestamp": START}, "Invalid string"),
        ({"timestamp": str(START)}, "Invalid timestamp"),
        ({"timestamp": "2026-03-01T00:00:00"}, "Invalid timestamp"),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "Invalid timestamp"),
        ({"event_name": 7}, "Invalid string"),
        ({"expand": ["customer"]}, "Received unknown parameter"),
    ],
)
def test_line_27_v2_takes_only_strings(raw, sandbox, body, change, message):
    """Neither numbers for values nor unix seconds; and no parameter that it does not know."""
    answer = raw.post(EVENTS, json={**body, **change})

    assert (answer.status_code, sandbox.meter_events) == (400, [])
    assert answer.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("at_the_edge", "beyond", "code"),
    [
        ("2026-01-25T00:00:00Z", "2026-01-24T23:59:59Z", "timestamp_too_far_in_past"),
        ("2026-03-01T00:05:00Z", "2026-03-01T00:05:01Z", "timestamp_in_future"),
    ],
)
def test_line_23_times_have_bounds(shop, customer, at_the_edge, beyond, code):
    """35 days and five minutes, as in v1."""
    shop.send_v2(customer, timestamp=at_the_edge)

    assert refused(shop.send_v2, customer, timestamp=beyond).code == code


@pytest.mark.parametrize("first", ["/v1/billing/meter_events", EVENTS])
def test_line_28_two_in_flight_are_a_conflict(shop, sandbox, customer, first):
    """409 while any other event of the same customer and meter is being worked on."""
    fault = sandbox.fail("slow", path=first)
    send = shop.send_v2 if first == EVENTS else shop.send
    thread = threading.Thread(target=send, args=(customer,))
    thread.start()
    try:
        assert fault.wait(GUARD)
        with pytest.raises(stripe.APIError) as caught:
            shop.send_v2(customer)
        other = shop.send_v2(shop.customer())
    finally:
        fault.release()
        thread.join()

    assert (caught.value.http_status, caught.value.error.code) == (409, "too_many_concurrent_requests")
    assert other.last_response.code == 200
    shop.send_v2(customer)
    assert sandbox.usage("queries", customer.id) == 2


def test_line_28_conflicts_can_be_switched_off(make_shop):
    """As in v1."""
    shop = make_shop(concurrency="off")
    shop.meter()
    customer = shop.customer()
    fault = shop.sandbox.fail("slow", path=EVENTS)
    thread = threading.Thread(target=shop.send_v2, args=(customer,))
    thread.start()
    try:
        assert fault.wait(GUARD)
        shop.send_v2(customer)
    finally:
        fault.release()
        thread.join()

    assert shop.sandbox.usage("queries", customer.id) == 2


def test_line_33_a_cancellation_of_v2(shop, sandbox, customer):
    """It has an id and a time, and takes the usage back."""
    shop.send(customer, 3, identifier="a")
    answer = adjust(shop, {"identifier": "a"}).to_dict()

    assert answer.pop("id").startswith("mtr_event_adj_")
    assert answer == {
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": "a"},
        "created": "2026-03-01T00:00:00.000Z",
        "event_name": "queries",
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }
    assert sandbox.usage("queries", customer.id) == 0


@pytest.mark.parametrize(
    ("cancel", "message"),
    [
        ({}, "To cancel an event, cancel.identifier must say which."),
        ({"identifier": "b"}, "No cancelable meter event found with identifier b."),
    ],
)
def test_line_33_a_cancellation_of_nothing_has_a_code(shop, customer, cancel, message):
    """Without an identifier, and with one of no event."""
    shop.send(customer, 3, identifier="a")

    error = refused(adjust, shop, cancel)

    assert error.code == "invalid_cancel_configuration"
    assert error.user_message.startswith(message)


def test_line_01_v2_knows_the_key(shop):
    """As in v1."""
    with pytest.raises(stripe.AuthenticationError):
        shop.v2.billing.meter_event_session.create(options={"api_key": "sk_test_other"})


def test_line_06_a_success_of_v2_is_not_repeated(shop, sandbox, customer):
    """The key answers for it."""
    first = shop.send_v2(customer, "5", key="k")
    again = shop.send_v2(customer, "5", key="k")

    assert again.to_dict() == first.to_dict()
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert sandbox.usage("queries", customer.id) == 5


def test_line_07_a_success_of_v2_keeps_its_parameters(shop, customer):
    """The same key for another event is an error, with the type that the library knows."""
    shop.send_v2(customer, "5", key="k")

    with pytest.raises(stripe.IdempotencyError):
        shop.send_v2(customer, "6", key="k")


def test_line_09_a_failure_of_v2_is_tried_again(shop, sandbox):
    """A 400 and a 500 are forgotten by the key; the repeated request works."""
    customer = shop.customer()
    refused(shop.send_v2, customer, "5", key="k")
    shop.meter()
    sandbox.fail("500", path=EVENTS)
    with pytest.raises(stripe.APIError):
        shop.send_v2(customer, "5", key="k")
    shop.send_v2(customer, "5", key="k")

    assert sandbox.usage("queries", customer.id) == 5


@pytest.mark.parametrize("kind", ["500_after", "502_after", "reset_after"])
def test_line_11_what_was_done_before_it_failed_is_not_done_again(shop, sandbox, customer, kind):
    """With its key, a repeated request gets the answer that was lost."""
    sandbox.fail(kind, path=EVENTS)
    with pytest.raises((stripe.APIError, stripe.APIConnectionError)):
        shop.send_v2(customer, "5", key="k")
    shop.send_v2(customer, "5", key="k")

    assert sandbox.usage("queries", customer.id) == 5


def test_line_11_a_limiter_refuses_v2(shop, sandbox, customer):
    """With the header that names it."""
    sandbox.fail("429", path=EVENTS, reason="global-rate")
    with pytest.raises(stripe.RateLimitError) as caught:
        shop.send_v2(customer)

    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert caught.value.error.type == "rate_limit"


def test_line_12_live_events_of_v2_have_a_limit_of_their_own(make_shop):
    """More than the 100 requests of everything else."""
    shop = make_shop(rate_limit="stripe", livemode=True)
    shop.meter()
    customer = shop.customer()
    for _ in range(101):
        shop.send_v2(customer)

    assert shop.sandbox.usage("queries", customer.id) == 101


@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # stripe-python's own use of httpx
def test_an_async_client_does_all_of_it(shop, sandbox, customer):
    """Events, cancellations, session, stream and thin events with stripe-python's async methods."""

    async def use():
        http = stripe.HTTPXClient(timeout=GUARD)
        client = stripe.StripeClient(
            sandbox.api_key, base_addresses={"api": sandbox.url, "meter_events": sandbox.url}, http_client=http
        ).v2
        event = {"event_name": "queries", "payload": {"stripe_customer_id": customer.id, "value": "2"}}
        await client.billing.meter_events.create_async({**event, "identifier": "a"})
        session = await client.billing.meter_event_session.create_async()
        await client.billing.meter_event_stream.create_async(
            {"events": [event, {**event, "event_name": "other"}]}, options={"api_key": session.authentication_token}
        )
        await client.billing.meter_event_adjustments.create_async(
            {"type": "cancel", "event_name": "queries", "cancel": {"identifier": "a"}}
        )
        sandbox.advance(seconds=MINUTE)
        (listed,) = (await client.core.events.list_async()).data
        found = await client.core.events.retrieve_async(listed.id)
        await http.close_async()
        return found.type

    assert asyncio.run(use()) == "v1.billing.meter.no_meter_found"
    assert sandbox.usage("queries", customer.id) == 2


def adjust(shop, cancel):
    return shop.v2.billing.meter_event_adjustments.create({"type": "cancel", "event_name": "queries", "cancel": cancel})
