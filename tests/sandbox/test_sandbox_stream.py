"""The stream of meter events and its sessions: lines 22, 29 and 30 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import MINUTE, refused, streamed

pytestmark = pytest.mark.long

STREAM = "/v2/billing/meter_event_stream"


@pytest.fixture
def customer(shop):
    """Somebody whose queries a meter sums."""
    shop.meter()
    return shop.customer()


def post(raw, token, events):
    """A request to the stream as it is on the wire."""
    return raw.post(STREAM, json={"events": events}, headers={"Authorization": f"Bearer {token}"})


def test_line_22_a_duplicate_is_dropped(shop, sandbox, customer):
    """Success, and counted once: in one request, and across requests and versions."""
    shop.send(customer, 1, identifier="a")
    again = [streamed(customer, "1", identifier=name) for name in ("a", "b", "b")]
    shop.stream(*again)
    shop.stream(*again)

    assert [event.identifier for event in sandbox.meter_events] == ["a", "b"]
    assert sandbox.usage("queries", customer.id) == 2


def test_line_22_nothing_is_said_of_a_duplicate(shop, sandbox, customer):
    """Error reports have no code for it."""
    shop.stream(streamed(customer, identifier="a"), streamed(customer, identifier="a"))
    sandbox.advance(seconds=MINUTE)

    assert shop.v2.core.events.list().data == []


@pytest.mark.parametrize(("consumes", "total"), [(False, 1), (True, 0)])
def test_line_22_whether_an_invalid_event_uses_its_identifier_up_is_a_switch(make_shop, consumes, total):
    """By default it can be corrected and sent again, as Stripe advises."""
    shop = make_shop(rejected_consumes_identifier=consumes)
    shop.meter()
    customer = shop.customer()
    shop.stream(streamed(customer, "many", identifier="a"))
    shop.stream(streamed(customer, "1", identifier="a"))

    assert shop.sandbox.usage("queries", customer.id) == total


def test_line_29_a_session_has_a_token_for_15_minutes(shop, sandbox):
    """Of sandbox time."""
    session = shop.v2.billing.meter_event_session.create().to_dict()

    assert session.pop("id")
    assert session.pop("authentication_token")
    assert session == {
        "object": "v2.billing.meter_event_session",
        "created": "2026-03-01T00:00:00.000Z",
        "expires_at": "2026-03-01T00:15:00.000Z",
        "livemode": False,
    }


def test_line_29_an_expired_token_has_an_error_of_its_own(shop, sandbox, customer):
    """The library knows it by its type; a new session works."""
    token = shop.token()
    sandbox.advance(seconds=15 * MINUTE - 1)
    shop.stream(streamed(customer), token=token)
    sandbox.advance(seconds=1)

    with pytest.raises(stripe.TemporarySessionExpiredError) as caught:
        shop.stream(streamed(customer), token=token)
    shop.stream(streamed(customer))

    assert (caught.value.http_status, caught.value.code) == (401, "billing_meter_event_session_expired")
    assert caught.value.error.type == "temporary_session_expired"
    assert sandbox.usage("queries", customer.id) == 2


@pytest.mark.parametrize("token", ["sk_test_sandbox", "token_of_nobody"])
def test_line_29_the_stream_takes_nothing_but_a_token(shop, sandbox, customer, token):
    """Not even the API key."""
    with pytest.raises(stripe.AuthenticationError):
        shop.stream(streamed(customer), token=token)

    assert sandbox.meter_events == []


@pytest.mark.parametrize("path", ["/v1/customers", "/v2/core/events"])
def test_line_29_a_token_opens_nothing_but_the_stream(shop, raw, path):
    """On the API it is an unknown key."""
    assert raw.get(path, headers={"Authorization": f"Bearer {shop.token()}"}).status_code == 401


def test_line_30_one_to_a_hundred_events(shop, raw, sandbox, customer):
    """Fewer and more are refused, all of them."""
    events, token = [streamed(customer) for _ in range(101)], shop.token()

    assert [post(raw, token, events[:count]).status_code for count in (0, 1, 100, 101)] == [400, 200, 200, 400]
    assert sandbox.usage("queries", customer.id) == 101


def test_line_30_success_is_an_empty_object(shop, raw, customer):
    """Exactly `{}`."""
    answer = post(raw, shop.token(), [streamed(customer)])

    assert (answer.status_code, answer.content) == (200, b"{}")


def test_line_30_an_invalid_event_does_not_fail_the_request(shop, raw, sandbox, customer):
    """The good ones beside it count."""
    bad = [
        streamed(customer, event_name="answers"),
        streamed(customer, "many"),
        streamed("cus_nobody"),
        streamed(customer, timestamp="2020-01-01T00:00:00Z"),
    ]
    answer = post(raw, shop.token(), [streamed(customer, "1"), *bad, streamed(customer, "2")])

    assert answer.status_code == 200
    assert sandbox.usage("queries", customer.id) == 3


@pytest.mark.parametrize(
    "change", [{"payload": {"value": 1}}, {"timestamp": 1772323200}, {"event_name": None}, {"name": "x"}]
)
def test_line_27_what_is_no_event_fails_the_request(shop, raw, sandbox, customer, change):
    """A body of another shape is nobody's event, so no report could name it."""
    answer = post(raw, shop.token(), [streamed(customer), {**streamed(customer), **change}])

    assert (answer.status_code, sandbox.meter_events) == (400, [])


def test_line_06_a_stream_request_is_not_repeated(shop, sandbox, customer):
    """Its key answers, though the events have no identifiers."""
    token = shop.token()
    for _ in range(2):
        shop.v2.billing.meter_event_stream.create(
            {"events": [streamed(customer)]}, options={"api_key": token, "idempotency_key": "k"}
        )

    assert sandbox.usage("queries", customer.id) == 1


def test_line_11_a_stream_request_can_be_lost(shop, sandbox, customer):
    """Faults know its path."""
    sandbox.fail("reset_after", path=STREAM)
    event = streamed(customer, identifier="a")
    with pytest.raises(stripe.APIConnectionError):
        shop.stream(event)
    shop.stream(event)

    assert sandbox.usage("queries", customer.id) == 1


def test_line_33_a_streamed_event_can_be_cancelled(shop, sandbox, customer):
    """But not what was invalid from the start and was cancelled already."""
    shop.stream(streamed(customer, identifier="a"))
    cancel = {"type": "cancel", "event_name": "queries", "cancel": {"identifier": "a"}}
    shop.v2.billing.meter_event_adjustments.create(cancel)

    assert sandbox.usage("queries", customer.id) == 0
    assert refused(shop.v2.billing.meter_event_adjustments.create, cancel).code == "invalid_cancel_configuration"
