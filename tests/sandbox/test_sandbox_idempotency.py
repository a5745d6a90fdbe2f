"""Idempotency keys: lines 6 to 10 of the fidelity checklist."""

from __future__ import annotations

import threading

import pytest
import stripe
from guard import GUARD
from sandbox_shop import (
    DAY,
)

EVENTS = "/v1/billing/meter_events"


def test_line_06_the_same_key_replays_the_first_answer(shop, sandbox):
    """Same key, same parameters: the stored answer, marked as such, and nothing happens again."""
    meter, customer = shop.meter(), shop.customer()

    first = shop.send(customer, 5, identifier="a", key="k")
    again = shop.send(customer, 5, identifier="a", key="k")

    assert again.to_dict() == first.to_dict()
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.headers["Original-Request"] == first.last_response.headers["Request-Id"]
    assert again.last_response.headers["Request-Id"] != first.last_response.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert sandbox.usage(meter.event_name, customer.id) == 5


def test_line_06_an_error_of_the_work_is_replayed_too(shop, raw):
    """A 400 that came from executing is remembered, though its cause is gone."""
    customer = shop.customer()
    form = {"event_name": "queries", "payload[stripe_customer_id]": customer.id, "payload[value]": "1"}
    before = raw.post(EVENTS, data=form, headers={"Idempotency-Key": "k"})
    shop.meter()
    after = raw.post(EVENTS, data=form, headers={"Idempotency-Key": "k"})

    assert (before.status_code, after.status_code) == (400, 400)
    assert after.json() == before.json()
    assert after.headers["Idempotent-Replayed"] == "true"


def test_line_07_the_same_key_with_other_parameters_is_an_error(shop):
    """The exact text, under `idempotency_error`."""
    shop.meter()
    customer = shop.customer()
    shop.send(customer, 1, key="k")

    with pytest.raises(stripe.IdempotencyError) as caught:
        shop.send(customer, 2, key="k")

    assert caught.value.http_status == 400
    assert caught.value.user_message == (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        "Try using a key other than 'k' if you meant to execute a different request."
    )


def test_line_07_the_same_key_on_another_path_is_an_error(raw):
    """A key belongs to one endpoint."""
    raw.post("/v1/customers", headers={"Idempotency-Key": "k"})
    answer = raw.post("/v1/products", data={"name": "x"}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "idempotency_error")
    assert "('/v1/customers' vs '/v1/products')" in answer.json()["error"]["message"]


def test_line_06_the_order_of_parameters_does_not_matter(raw):
    """They are the same parameters."""
    ids = {
        raw.post("/v1/customers", data=data, headers={"Idempotency-Key": "k"}).json()["id"]
        for data in ({"name": "a", "email": "b"}, {"email": "b", "name": "a"})
    }

    assert len(ids) == 1


def test_line_08_the_same_key_in_flight_is_a_conflict(shop, sandbox):
    """While the first request is being worked on, a second one with its key is 409."""
    shop.meter()
    customer = shop.customer()
    fault = sandbox.fail("slow")
    first = threading.Thread(target=shop.send, args=(customer, 1), kwargs={"key": "k"})
    first.start()
    assert fault.wait(GUARD)

    with pytest.raises(stripe.APIError) as caught:
        shop.send(customer, 1, key="k")
    fault.release()
    first.join()

    assert caught.value.http_status == 409
    assert caught.value.error.code == "idempotency_key_in_use"
    assert caught.value.error.type == "idempotency_error"
    assert shop.send(customer, 1, key="k").last_response.headers["Idempotent-Replayed"] == "true"
    assert sandbox.usage("queries", customer.id) == 1


def test_line_09_a_stored_500_is_replayed_until_the_key_changes(shop, sandbox):
    """A 500 sticks to its key; another key with the same identifier gets through."""
    shop.meter()
    customer = shop.customer()
    sandbox.fail("500")

    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            shop.send(customer, 1, identifier="a", key="k1")
        assert caught.value.http_status == 500
    assert caught.value.headers["Idempotent-Replayed"] == "true"
    shop.send(customer, 1, identifier="a", key="k2")

    assert sandbox.usage("queries", customer.id) == 1


@pytest.mark.parametrize(("kind", "status"), [("429", 429), ("409", 409), ("lock_timeout", 429), ("502", 502)])
def test_line_09_what_never_began_is_not_stored(shop, sandbox, kind, status):
    """A limiter's refusal, a conflict or a proxy's error leaves the key free."""
    shop.meter()
    customer = shop.customer()
    sandbox.fail(kind)

    with pytest.raises(stripe.StripeError) as caught:
        shop.send(customer, 1, key="k")

    assert caught.value.http_status == status
    assert "Idempotent-Replayed" not in shop.send(customer, 1, key="k").last_response.headers


def test_line_09_a_bad_parameter_is_not_stored(raw):
    """After a 400 about parameters the key may be used for the repaired request."""
    bad = raw.post("/v1/products", data={"colour": "red"}, headers={"Idempotency-Key": "k"})
    good = raw.post("/v1/products", data={"name": "Red"}, headers={"Idempotency-Key": "k"})

    assert (bad.status_code, good.status_code) == (400, 200)


def test_line_09_a_missing_key_is_not_stored(raw):
    """A 401 does not use the idempotency key up."""
    headers = {"Idempotency-Key": "k"}
    refused = raw.post("/v1/customers", headers={**headers, "Authorization": "Bearer wrong"})
    accepted = raw.post("/v1/customers", headers=headers)

    assert (refused.status_code, accepted.status_code) == (401, 200)


def test_line_10_keys_are_forgotten_after_a_day(raw, sandbox):
    """For 24 hours of sandbox time a key replays, then it is new."""
    first, *later = [
        (raw.post("/v1/customers", headers={"Idempotency-Key": "k"}).json()["id"], sandbox.advance(seconds=step))
        for step in (DAY - 1, 1, 0)
    ]

    assert later[0][0] == first[0]
    assert later[1][0] != first[0]


def test_line_10_a_key_has_at_most_255_characters(raw):
    """One more is refused."""
    answers = [raw.post("/v1/customers", headers={"Idempotency-Key": "k" * size}) for size in (255, 256)]

    assert [answer.status_code for answer in answers] == [200, 400]


def test_line_10_keys_matter_only_to_posts(raw):
    """A GET with a key is answered anew."""
    raw.get("/v1/customers", headers={"Idempotency-Key": "k"})
    raw.post("/v1/customers")
    answer = raw.get("/v1/customers", headers={"Idempotency-Key": "k"})

    assert len(answer.json()["data"]) == 1
    assert "Idempotent-Replayed" not in answer.headers


def test_line_09_a_500_that_came_after_the_work_is_replayed_too(shop, sandbox):
    """v1 remembers what it said, not what it did."""
    shop.meter()
    customer = shop.customer()
    sandbox.fail("500_after")

    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            shop.send(customer, 5, key="k")

    assert caught.value.headers["Idempotent-Replayed"] == "true"
    assert sandbox.usage("queries", customer.id) == 5
