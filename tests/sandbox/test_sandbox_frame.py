"""The HTTP frame, its parameters and its errors: lines 1 to 5 of the fidelity checklist."""

from __future__ import annotations

import httpx
import pytest
import stripe
from guard import GUARD

pytestmark = pytest.mark.long


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Digest sk_test_sandbox"}])
def test_line_01_a_request_without_a_key_is_refused(sandbox, headers):
    """No key at all is 401 with the text that tells how to send one."""
    answer = httpx.get(f"{sandbox.url}/v1/customers", headers=headers, timeout=GUARD)

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
    answer = httpx.get(f"{sandbox.url}/v1/customers", auth=(sandbox.api_key, ""), timeout=GUARD)

    assert answer.status_code == 200


def test_line_01_basic_authentication_must_be_readable(sandbox):
    """What is not base64 carries no key."""
    answer = httpx.get(f"{sandbox.url}/v1/customers", headers={"Authorization": "Basic ***"}, timeout=GUARD)

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
    answer = raw.post("/v1/customers", json={"a[": ["b=c"]})

    assert answer.status_code == 400
    assert "application/x-www-form-urlencoded" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/charges"),
        ("PATCH", "/v1/customers"),
        ("GET", "/"),
        ("POST", "/v2/core/accounts"),
        ("GET", "/v1/customers/"),
        ("GET", "/v1/customers/cus_1/subscriptions"),
    ],
)
def test_line_02_what_it_does_not_know_is_never_a_success(raw, method, path):
    """Other paths, most of v2 among them, are Stripe's 404 for an unrecognised URL."""
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
