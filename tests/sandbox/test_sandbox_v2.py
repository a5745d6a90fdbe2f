"""The second version of the API: lines 2, 21, 22, 24, 27 to 30 and 35 to 37 of the fidelity checklist."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
import stripe

from meterkit.sandbox import Sandbox

NOW = 1_772_323_200  # 2026-03-01
ISO = "2026-03-01T00:00:00Z"


@pytest.fixture
def sandbox():
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox):
    return client_of(sandbox)


def client_of(sandbox):
    addresses = {"api": sandbox.url, "meter_events": sandbox.url}
    return stripe.StripeClient(sandbox.api_key, base_addresses=addresses, max_network_retries=0)


@pytest.fixture
def meter(client):
    return client.v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    ).id


@pytest.fixture
def customer(client):
    return client.v1.customers.create({}).id


@pytest.fixture
def event(customer):
    """A function that makes a meter event."""

    def event(value="5", **changed):
        payload = {"stripe_customer_id": customer, "value": value}
        return {"event_name": "calls", "payload": payload, "timestamp": ISO, **changed}

    return event


@pytest.fixture
def stream(client):
    """A function that sends events in a stream, under a token of its own unless told which."""

    def stream(*events, token=None):
        token = token or client.v2.billing.meter_event_session.create().authentication_token
        return client.v2.billing.meter_event_stream.create({"events": list(events)}, options={"api_key": token})

    return stream


def told(client, sandbox):
    """The thin events so far, with their data."""
    listed = httpx.get(f"{sandbox.url}/v2/core/events", headers={"Authorization": f"Bearer {sandbox.api_key}"}).json()
    return [client.v2.core.events.retrieve(each["id"]) for each in listed["data"]]


def test_line_2_v2_takes_json(sandbox):
    """And no form."""
    key = {"Authorization": f"Bearer {sandbox.api_key}"}
    path = f"{sandbox.url}/v2/billing/meter_event_session"

    assert 400 == httpx.post(path, data={"a": "1"}, headers=key).status_code
    assert 200 == httpx.post(path, json={}, headers=key).status_code


def test_an_event_is_taken(client, sandbox, meter, customer, event):
    """The answer has what was sent, and moments in RFC 3339."""
    answer = client.v2.billing.meter_events.create(event(identifier="one"))

    assert (
        "v2.billing.meter_event",
        "one",
        "2026-03-01T00:00:00.000Z",
        {"stripe_customer_id": customer, "value": "5"},
    ) == (
        answer.object,
        answer.identifier,
        answer.timestamp,
        answer.payload.to_dict(),
    )
    assert 5 == sandbox.usage("calls", customer)


def test_line_21_a_duplicate_has_a_code(client, sandbox, meter, customer, event):
    """And changes nothing."""
    client.v2.billing.meter_events.create(event(identifier="one"))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create(event("7", identifier="one"))

    assert (400, "duplicate_meter_event", 5) == (
        refused.value.http_status,
        refused.value.code,
        sandbox.usage("calls", customer),
    )


def test_line_22_a_duplicate_in_a_stream_is_dropped(sandbox, meter, customer, event, stream):
    """It is no error."""
    stream(event(identifier="one"), event(identifier="one"))
    stream(event("7", identifier="one"))

    assert 5 == sandbox.usage("calls", customer)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"event_name": "unknown"}, "no_meter"),
        ({"payload": {"value": "5"}}, "payload_no_customer_defined"),
        ({"payload": {"stripe_customer_id": "cus_1", "value": "five"}}, "payload_invalid_value"),
        ({"payload": {"stripe_customer_id": "cus_1", "value": "1234567890123456"}}, "payload_invalid_value"),
        ({"payload": {"stripe_customer_id": "cus_1"}}, "payload_no_value_defined"),
        ({"timestamp": "2026-01-01T00:00:00Z"}, "timestamp_too_far_in_past"),
        ({"timestamp": "2026-03-01T00:06:00Z"}, "timestamp_in_future"),
    ],
)
def test_line_24_what_is_wrong_is_told_by_a_code(client, meter, event, changed, code):
    """At once, one by one."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create(event(**changed))

    assert (400, code) == (refused.value.http_status, refused.value.code)


def test_line_24_an_archived_meter(client, meter, event):
    """It is told from one that never was."""
    client.v1.billing.meters.deactivate(meter)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create(event())

    assert "archived_meter" == refused.value.code


@pytest.mark.parametrize(
    "changed",
    [{"payload": {"stripe_customer_id": "cus_1", "value": 5}}, {"timestamp": NOW}, {"timestamp": "yesterday"}],
)
def test_line_27_only_text(sandbox, meter, event, changed):
    """Neither numbers in a payload, nor unix seconds."""
    answer = httpx.post(
        f"{sandbox.url}/v2/billing/meter_events",
        json=event(**changed),
        headers={"Authorization": f"Bearer {sandbox.api_key}"},
    )

    assert 400 == answer.status_code


def test_line_28_one_at_a_time(client, sandbox, meter, event):
    """Two in flight for one customer and meter: the second is a conflict."""
    held = sandbox.fail("slow", path="/v2/billing/meter_events")
    first = threading.Thread(target=client.v2.billing.meter_events.create, args=(event(),))
    first.start()
    assert held.wait(10)
    with pytest.raises(stripe.APIError) as refused:
        client_of(sandbox).v2.billing.meter_events.create(event())
    held.release()
    first.join()

    assert (409, "too_many_concurrent_requests") == (refused.value.http_status, refused.value.error.code)


def test_line_29_a_session(client, sandbox, meter, event, stream):
    """Its token is good for 15 minutes, and for the stream alone; a key is not good for the stream."""
    session = client.v2.billing.meter_event_session.create()
    sandbox.advance(seconds=15 * 60 - 1)
    stream(event(), token=session.authentication_token)
    sandbox.advance(seconds=1)

    assert "2026-03-01T00:15:00.000Z" == session.expires_at
    with pytest.raises(stripe.TemporarySessionExpiredError) as expired:
        stream(event(), token=session.authentication_token)
    assert (401, "billing_meter_event_session_expired") == (expired.value.http_status, expired.value.code)
    with pytest.raises(stripe.StripeError) as wrong:
        stream(event(), token=sandbox.api_key)
    assert 401 == wrong.value.http_status
    with pytest.raises(stripe.AuthenticationError):
        client.v1.customers.list(
            options={"api_key": client.v2.billing.meter_event_session.create().authentication_token}
        )


@pytest.mark.parametrize(("number", "status"), [(0, 400), (1, 200), (100, 200), (101, 400)])
def test_line_30_up_to_a_hundred(client, sandbox, meter, event, number, status):
    """And the answer is empty."""
    token = client.v2.billing.meter_event_session.create().authentication_token
    answer = httpx.post(
        f"{sandbox.url}/v2/billing/meter_event_stream",
        json={"events": [event(identifier=str(each)) for each in range(number)]},
        headers={"Authorization": f"Bearer {token}"},
    )

    assert status == answer.status_code
    assert status != 200 or answer.json() == {}


def test_line_35_errors_are_told_in_groups(client, sandbox, meter, customer, event, stream):
    """By meter and ten seconds, with a count and samples that carry the identifier; what is right counts."""
    wrong = [event("five", identifier=f"bad-{number}") for number in range(12)]
    stream(*wrong, event("1", identifier="good"))
    stream(event(payload={"stripe_customer_id": "cus_none", "value": "1"}, identifier="nobody"))
    before = told(client, sandbox)
    sandbox.advance(seconds=10)
    (report,) = told(client, sandbox)

    assert ([], 1) == (before, sandbox.usage("calls", customer))
    assert ("v1.billing.meter.error_report_triggered", meter) == (report.type, report.related_object.id)
    reason = report.data.reason
    assert (13, [("meter_event_invalid_value", 12, 10), ("meter_event_customer_not_found", 1, 1)]) == (
        reason.error_count,
        [(each.code, each.error_count, len(each.sample_errors)) for each in reason.error_types],
    )
    assert "bad-0" == reason.error_types[0].sample_errors[0].request.identifier
    assert ("2026-03-01T00:00:00.000Z", "2026-03-01T00:00:10.000Z") == (
        report.data.validation_start,
        report.data.validation_end,
    )


def test_line_36_a_meter_that_is_not(client, sandbox, event, stream):
    """It is told without a related object."""
    stream(event(identifier="one"))
    sandbox.advance(seconds=10)
    (report,) = told(client, sandbox)

    assert ("v1.billing.meter.no_meter_found", None) == (report.type, getattr(report, "related_object", None))


def test_line_37_a_thin_event_leads_to_its_object(client, sandbox, meter, event, stream):
    """The data are asked for, and the related object is where it says."""
    stream(event("five"))
    sandbox.advance(seconds=10)
    listed = httpx.get(f"{sandbox.url}/v2/core/events", headers={"Authorization": f"Bearer {sandbox.api_key}"}).json()
    (report,) = told(client, sandbox)

    assert "data" not in listed["data"][0]
    assert meter == client.deserialize(client.raw_request("get", report.related_object.url), api_mode="V1").id


@pytest.mark.parametrize("options", [{"unknown_customer": "async"}, {"bad_payload": "async"}])
def test_the_first_version_tells_later_if_it_is_told_to(options, event):
    """The switches let through what is told of afterwards."""
    with Sandbox(now=NOW, **options) as sandbox:
        client = client_of(sandbox)
        client.v1.billing.meters.create(
            {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        customer = client.v1.customers.create({}).id
        payload = {"stripe_customer_id": "cus_none" if "unknown_customer" in options else customer, "value": "five"}
        if "unknown_customer" in options:
            payload["value"] = "5"
        client.v1.billing.meter_events.create({"event_name": "calls", "payload": payload, "identifier": "one"})
        sandbox.advance(seconds=10)
        (report,) = told(client, sandbox)

    assert "one" == report.data.reason.error_types[0].sample_errors[0].request.identifier


def test_an_event_is_canceled(client, sandbox, meter, customer, event):
    """Within a day; after that it is refused with a code."""
    for name in ("one", "two"):
        client.v2.billing.meter_events.create(event(identifier=name))
    cancel = {"type": "cancel", "event_name": "calls", "cancel": {"identifier": "one"}}
    answer = client.v2.billing.meter_event_adjustments.create(cancel)
    sandbox.advance(seconds=25 * 3600)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_event_adjustments.create({**cancel, "cancel": {"identifier": "two"}})

    assert ("pending", True, 5) == (
        answer.status,
        answer.id.startswith("mtr_event_adj_"),
        sandbox.usage("calls", customer),
    )
    assert "invalid_cancel_configuration" == refused.value.code


@pytest.mark.filterwarnings("ignore:Use 'content")  # stripe-python's own HTTPX client causes it
def test_an_asynchronous_client(sandbox, meter, customer, event):
    """The SDK's other way to call."""

    async def send():
        addresses = {"api": sandbox.url, "meter_events": sandbox.url}
        http = stripe.HTTPXClient()
        client = stripe.StripeClient(sandbox.api_key, base_addresses=addresses, http_client=http)
        session = await client.v2.billing.meter_event_session.create_async()
        await client.v2.billing.meter_event_stream.create_async(
            {"events": [event("3")]}, options={"api_key": session.authentication_token}
        )
        await http.close_async()

    asyncio.run(send())

    assert 3 == sandbox.usage("calls", customer)
