"""Faults on demand: line 11 of the fidelity checklist, and what of line 28 concerns v1."""

from __future__ import annotations

import threading
from typing import get_args

import httpx
import pytest
import stripe
from guard import GUARD

from meterkit.sandbox.faults import Reason

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def customer(shop):
    """A customer whose queries are counted."""
    shop.meter()
    return shop.customer()


def counted(sandbox):
    return [event.identifier for event in sandbox.meter_events]


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        ("500", 500, []),
        ("500_after", 500, ["a"]),
        ("502", 502, []),
        ("502_after", 502, ["a"]),
        ("empty", 200, ["a"]),
        ("html", 200, ["a"]),
    ],
)
def test_line_11_a_broken_answer_says_nothing_about_the_work(shop, sandbox, customer, kind, status, done):
    """To the client these are all API errors; whether the event counts is another matter."""
    sandbox.fail(kind)

    with pytest.raises(stripe.APIError) as caught:
        shop.send(customer, identifier="a")

    assert caught.value.http_status == status
    assert counted(sandbox) == done
    assert sandbox.requests[-1].status == status


@pytest.mark.parametrize(("kind", "done"), [("reset_before", []), ("reset_after", ["a"])])
def test_line_11_a_connection_breaks(shop, sandbox, customer, kind, done):
    """Without any answer, before or after the work."""
    sandbox.fail(kind)

    with pytest.raises(stripe.APIConnectionError):
        shop.send(customer, identifier="a")

    assert counted(sandbox) == done
    assert sandbox.requests[-1].status is None


def test_line_11_a_reset_is_a_reset(raw, sandbox):
    """Not a polite end of the stream: the connection is torn down."""
    sandbox.fail("reset_before", path="/v1/customers")

    with pytest.raises(httpx.ReadError):
        raw.get("/v1/customers")


@pytest.mark.parametrize(("kind", "done"), [("timeout_before", []), ("timeout_after", ["a"])])
def test_line_11_an_answer_never_comes(shop, sandbox, customer, kind, done):
    """The client gives up on its own clock, or the connection breaks when the fault lets go."""
    fault = sandbox.fail(kind)
    failures = []

    def send():
        try:
            shop.send(customer, identifier="a")
        except stripe.APIConnectionError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    assert fault.wait(GUARD)
    assert counted(sandbox) == done
    fault.release()
    sender.join()

    assert len(failures) == 1


def test_line_11_a_slow_request_is_answered_in_the_end(shop, sandbox, customer):
    """It is held for the given seconds while it is worked on."""
    sandbox.fail("slow", seconds=0)

    assert shop.send(customer, identifier="a").identifier == "a"


@pytest.mark.parametrize("reason", get_args(Reason))
def test_line_11_a_429_names_its_limiter(shop, sandbox, customer, reason):
    """stripe-python does not retry it: nothing says that it should."""
    sandbox.fail("429", reason=reason)

    with pytest.raises(stripe.RateLimitError) as caught:
        shop.send(customer)

    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == reason
    assert "Stripe-Should-Retry" not in caught.value.headers
    assert counted(sandbox) == []


def test_line_11_a_lock_timeout_is_no_limiter(shop, sandbox, customer):
    """A 429 without a limiter's name, which asks to be retried."""
    sandbox.fail("lock_timeout")

    with pytest.raises(stripe.RateLimitError) as caught:
        shop.send(customer)

    assert caught.value.error.code == "lock_timeout"
    assert caught.value.headers["Stripe-Should-Retry"] == "true"
    assert "Stripe-Rate-Limited-Reason" not in caught.value.headers


def test_line_11_a_409_is_a_key_in_use(shop, sandbox, customer):
    """As if somebody else held the key."""
    sandbox.fail("409")

    with pytest.raises(stripe.APIError) as caught:
        shop.send(customer, key="k")

    assert (caught.value.http_status, caught.value.error.code) == (409, "idempotency_key_in_use")


def test_line_11_stripes_own_retry_delivers_once(shop, sandbox, customer):
    """After a reset that came too late, the retry of stripe-python is replayed from its key."""
    sandbox.fail("reset_after")
    client = stripe.StripeClient(
        sandbox.api_key, base_addresses={"api": sandbox.url}, max_network_retries=1, http_client=shop.http
    )
    shop.http._sleep_time_seconds = lambda *args, **kwargs: 0

    client.v1.billing.meter_events.create(
        {"event_name": "queries", "payload": {"stripe_customer_id": customer.id, "value": "1"}, "identifier": "a"}
    )

    assert [request.status for request in sandbox.requests[-2:]] == [None, 200]
    assert counted(sandbox) == ["a"]


def test_a_fault_hits_its_path_only_so_often_and_not_too_early(shop, sandbox, customer):
    """`after` pass, then `times` are hit, then all is well; other paths are not concerned."""
    fault = sandbox.fail("500", times=2, after=1)

    def outcome(identifier):
        shop.v1.customers.list()
        try:
            shop.send(customer, identifier=identifier)
        except stripe.APIError as error:
            return error.http_status
        return 200

    assert [outcome(identifier) for identifier in "abcd"] == [200, 500, 500, 200]
    assert fault.hits == 2


def test_faults_can_be_planned_for_all_paths_and_called_off(shop, sandbox):
    """`path=None` hits any request; `heal` forgets what is planned."""
    sandbox.fail("500", path=None, times=3)

    with pytest.raises(stripe.APIError):
        shop.v1.products.list()
    sandbox.heal()

    assert shop.v1.products.list().data == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [("earthquake", {}), ("429", {"reason": "bad mood"}), ("500", {"times": 0}), ("slow", {"seconds": -1})],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox, kind, options):
    """With the list of what there is."""
    with pytest.raises(ValueError, match=r"choose from|must be"):
        sandbox.fail(kind, **options)


def test_line_28_one_call_at_a_time_for_a_customer_and_meter(shop, sandbox, customer):
    """While one is in flight another one is 429, and one for another customer is not."""
    other = shop.customer()
    fault = sandbox.fail("slow")
    first = threading.Thread(target=shop.send, args=(customer, 1), kwargs={"identifier": "a"})
    first.start()
    assert fault.wait(GUARD)

    with pytest.raises(stripe.RateLimitError) as caught:
        shop.send(customer, 1, identifier="b")
    shop.send(other, 1, identifier="c")
    fault.release()
    first.join()

    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-concurrency"
    assert counted(sandbox) == ["c", "a"]


@pytest.mark.parametrize(("mode", "code"), [("lock_timeout", "lock_timeout"), ("off", None)])
def test_line_28_the_conflict_is_a_switch(make_shop, mode, code):
    """It may be a lock's time-out, or not exist at all."""
    shop = make_shop(concurrency=mode)
    shop.meter()
    customer = shop.customer()
    fault = shop.sandbox.fail("slow")
    first = threading.Thread(target=shop.send, args=(customer, 1))
    first.start()
    assert fault.wait(GUARD)

    found = None
    try:
        shop.send(customer, 1)
    except stripe.RateLimitError as error:
        found = error.error.code
    fault.release()
    first.join()

    assert found == code
