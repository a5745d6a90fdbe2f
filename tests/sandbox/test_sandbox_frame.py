"""The HTTP frame: lines 1 to 10 and 12 of the fidelity checklist."""

from __future__ import annotations

import threading

import httpx
import pytest
import stripe
from sandbox_shop import DAY

EVENTS = "/v1/billing/meter_events"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Digest sk_test_sandbox"}])
def test_line_01_a_request_without_a_key_is_refused(sandbox, headers):
    """No key at all is 401 with the text that tells how to send one."""
    answer = httpx.get(f"{sandbox.url}/v1/customers", headers=headers)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith("You did not provide an API key.")


def test_line_01_an_unknown_key_is_refused_and_masked(sandbox):
    """A wrong key is 401, and the answer does not repeat it."""
    client = stripe.StripeClient(
        "sk_test_somebody_elses_key", base_addresses={"api": sandbox.url}, max_network_retries=0
    )

    with pytest.raises(stripe.AuthenticationError) as caught:
        client.v1.customers.list()

    assert caught.value.http_status == 401
    assert caught.value.user_message == "Invalid API Key provided: sk_test_**************_key"


def test_line_01_basic_authentication_is_let_in(sandbox):
    """The key as a Basic user name works, as curl -u sends it."""
    answer = httpx.get(f"{sandbox.url}/v1/customers", auth=(sandbox.api_key, ""))

    assert answer.status_code == 200


def test_line_01_basic_authentication_must_be_readable(sandbox):
    """What is not base64 carries no key."""
    answer = httpx.get(f"{sandbox.url}/v1/customers", headers={"Authorization": "Basic ***"})

    assert (answer.status_code, answer.json()["error"]["message"][:7]) == (401, "You did")


def test_line_02_v1_takes_forms_with_brackets(raw, sandbox):
    """Brackets nest, `[]` appends, and the request log shows what was meant."""
    answer = raw.post(
        "/v1/products",
        content="name=A&metadata[0]=zero&metadata[b]=two&expand[]=default_price",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert answer.json()["metadata"] == {"0": "zero", "b": "two"}
    assert sandbox.requests[0].params == {
        "name": "A",
        "metadata": {"0": "zero", "b": "two"},
        "expand": ["default_price"],
    }


def test_line_02_objects_in_a_list_can_be_appended(shop, raw):
    """`items[][price]` begins a new item as soon as the last one has a price."""
    meter, customer = shop.meter(), shop.customer()
    one, two = shop.price(meter, unit_amount=1), shop.price(unit_amount=2)

    answer = raw.post(
        "/v1/subscriptions",
        content=f"customer={customer.id}&items[][price]={one.id}&items[][price]={two.id}&items[][quantity]=3",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    items = answer.json()["items"]["data"]
    assert [(item["price"]["id"], item["quantity"]) for item in items] == [(one.id, None), (two.id, 3)]


def test_line_02_v1_takes_no_json(raw):
    """A JSON body on v1 is refused with Stripe's hint."""
    answer = raw.post("/v1/customers", json={"name": "A"})

    assert answer.status_code == 400
    assert "application/x-www-form-urlencoded" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/charges"),
        ("PATCH", "/v1/customers"),
        ("GET", "/"),
        ("POST", "/v2/billing/meter_events"),
        ("GET", "/v1/customers/"),
        ("GET", "/v1/customers/cus_1/subscriptions"),
    ],
)
def test_line_02_what_it_does_not_know_is_never_a_success(raw, method, path):
    """Other paths, all of v2 among them, are Stripe's 404 for an unrecognised URL."""
    answer = raw.request(method, path)

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(f"Unrecognized request URL ({method}: {path}). ")


@pytest.mark.parametrize("name", ["a[b", "a[b]c", "[a]"])
def test_line_02_a_name_that_cannot_be_parsed_is_refused(raw, name):
    """Brackets that do not match are a 400."""
    answer = raw.get("/v1/customers", params={name: "1"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


def test_line_02_a_name_cannot_be_a_value_and_an_object(raw):
    """`a=1&a[b]=2` means nothing."""
    assert raw.get("/v1/customers?email=1&email[b]=2").status_code == 400


def test_line_03_every_reply_carries_its_id_and_version(raw):
    """Also an error does."""
    for path in ("/v1/customers", "/v1/nothing"):
        answer = raw.get(path, headers={"Stripe-Version": "2025-03-31.basil"})

        assert answer.headers["Request-Id"].startswith("req_")
        assert answer.headers["Stripe-Version"] == "2025-03-31.basil"
        assert answer.headers["Content-Type"] == "application/json"
        assert "Idempotency-Key" not in answer.headers


def test_line_03_a_post_echoes_its_key_and_original_request(raw):
    """The first request of a key is its own original."""
    answer = raw.post("/v1/customers", headers={"Idempotency-Key": "k"})

    assert answer.headers["Idempotency-Key"] == "k"
    assert answer.headers["Original-Request"] == answer.headers["Request-Id"]


def test_line_03_a_version_that_is_none_is_refused(raw):
    """Stripe-Version must look like one."""
    assert raw.get("/v1/customers", headers={"Stripe-Version": "latest"}).status_code == 400


@pytest.mark.parametrize(
    ("params", "message", "param", "code"),
    [
        ({"colour": "red"}, "Received unknown parameter: colour", "colour", "parameter_unknown"),
        ({"a": "1", "b": "2"}, "Received unknown parameters: a, b", "a", "parameter_unknown"),
        (
            {"currency": "usd", "recurring[x]": "1"},
            "Received unknown parameter: recurring[x]",
            "recurring[x]",
            "parameter_unknown",
        ),
        ({}, "Missing required param: currency.", "currency", "parameter_missing"),
        (
            {"currency": "usd", "recurring[meter]": "m"},
            "Missing required param: recurring[interval].",
            "recurring[interval]",
            "parameter_missing",
        ),
        (
            {"currency": "usd", "tiers[0][unit_amount]": "1"},
            "Missing required param: tiers[0][up_to].",
            "tiers[0][up_to]",
            "parameter_missing",
        ),
        ({"currency": ""}, "You passed an empty string for 'currency'", "currency", "parameter_invalid_empty"),
        (
            {"currency": "usd", "unit_amount": "1.5"},
            "Invalid integer: 1.5",
            "unit_amount",
            "parameter_invalid_integer",
        ),
        (
            {"currency": "usd", "unit_amount": "-1"},
            "This value must be greater than or equal to 0.",
            "unit_amount",
            "parameter_invalid_integer",
        ),
        ({"currency": "usd", "unit_amount_decimal": "x"}, "Invalid decimal: x", "unit_amount_decimal", None),
        ({"currency": "usd", "unit_amount_decimal": "NaN"}, "Invalid decimal: NaN", "unit_amount_decimal", None),
        (
            {"currency": "usd", "unit_amount_decimal": "0.0000000000001"},
            "Invalid decimal: 0.0000000000001; must contain at maximum 12 decimal places.",
            "unit_amount_decimal",
            None,
        ),
        ({"currency": "usd", "active": "yes"}, "Invalid boolean: yes", "active", None),
        (
            {"currency": "usd", "recurring[interval]": "decade"},
            "Invalid recurring[interval]: must be one of day, week, month, or year",
            "recurring[interval]",
            None,
        ),
        ({"currency": "usd", "recurring": "month"}, "Invalid object", "recurring", None),
        ({"currency": "usd", "tiers": "1"}, "Invalid array", "tiers", None),
        ({"currency": "usd", "tiers[a][up_to]": "1"}, "Invalid array", "tiers", None),
        ({"currency": "usd", "metadata": "1"}, "Invalid object", "metadata", None),
        (
            {"currency": "usd", **{f"tiers[{n}][up_to]": "1" for n in range(101)}},
            "Array tiers exceeded maximum 100 allowed elements.",
            "tiers",
            None,
        ),
        (
            {"currency": "usd", **{f"metadata[{n}]": "1" for n in range(51)}},
            "metadata can have at most 50 keys.",
            "metadata",
            None,
        ),
        ({"currency[x]": "usd"}, "Invalid string", "currency", None),
        (
            {"currency": "dollars"},
            "Invalid string: dollars...dollars; must be at most 3 characters",
            "currency",
            "parameter_invalid_string_too_long",
        ),
    ],
)
def test_line_04_parameters_are_checked_by_name_and_type(raw, params, message, param, code):
    """Each complaint names the parameter in bracket form."""
    answer = raw.post("/v1/prices", data=params)

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith(message)
    assert (error["param"], error.get("code")) == (param, code)


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("/v1/customers/nope", "customer"),
        ("/v1/products/nope", "product"),
        ("/v1/prices/nope", "price"),
        ("/v1/billing/meters/nope", "billing meter"),
        ("/v1/subscriptions/nope", "subscription"),
        ("/v1/subscription_items/nope", "subscription item"),
        ("/v1/invoices/nope", "invoice"),
        ("/v1/invoices/nope/lines", "invoice"),
        ("/v1/events/nope", "event"),
    ],
)
def test_line_05_an_unknown_id_is_missing(raw, path, noun):
    """404 `resource_missing` when the path names it."""
    answer = raw.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "resource_missing"
    assert answer.json()["error"]["message"] == f"No such {noun}: 'nope'"


def test_line_05_an_unknown_id_in_a_parameter_is_a_bad_request(shop):
    """400 `resource_missing` with the parameter when a parameter names it."""
    with pytest.raises(stripe.InvalidRequestError, match="No such product: 'nope'") as caught:
        shop.price(product="nope", unit_amount=1)

    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, "resource_missing", "product")


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


def test_line_08_the_same_key_in_flight_is_a_conflict(shop, sandbox):
    """While the first request is being worked on, a second one with its key is 409."""
    shop.meter()
    customer = shop.customer()
    fault = sandbox.fail("slow")
    first = threading.Thread(target=shop.send, args=(customer, 1), kwargs={"key": "k"})
    first.start()
    assert fault.wait(30)

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


def test_line_12_no_limit_by_default(shop):
    """Tests may be fast."""
    assert len([shop.v1.customers.list() for _ in range(30)]) == 30


@pytest.mark.parametrize(
    ("switches", "allowed", "reason"),
    [
        ({"rate_limit": 3}, 3, "global-rate"),
        ({"rate_limit": "stripe"}, 25, "global-rate"),
        ({"rate_limit": "stripe", "livemode": True}, 100, "global-rate"),
    ],
)
def test_line_12_requests_per_second_are_limited(make_shop, switches, allowed, reason):
    """One too many in a second is 429 with the limiter's name; the next second is a new one."""
    shop = make_shop(**switches)
    for _ in range(allowed):
        shop.v1.customers.list()

    with pytest.raises(stripe.RateLimitError) as caught:
        shop.v1.customers.list()
    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == reason
    shop.sandbox.advance(seconds=1)

    assert shop.v1.customers.list().data == []


def test_line_12_live_meter_events_have_a_limit_of_their_own(make_shop):
    """1,000 meter events per second in live mode, whatever else is called."""
    with httpx.Client() as client:
        shop = make_shop(rate_limit="stripe", livemode=True)
        answers = [
            client.post(f"{shop.sandbox.url}{EVENTS}", headers={"Authorization": f"Bearer {shop.sandbox.api_key}"})
            for _ in range(1001)
        ]

    assert [answer.status_code for answer in answers] == [400] * 1000 + [429]
    assert answers[-1].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
