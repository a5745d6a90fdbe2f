"""Reports of invalid events, and thin events: lines 35 to 37 of the fidelity checklist."""

from __future__ import annotations

import json

import pytest
import stripe
from sandbox_shop import DAY, START, streamed

from meterkit.sandbox.metering.thin_events import body_of

pytestmark = pytest.mark.long

REPORT, NO_METER = "v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"


@pytest.fixture
def meter(shop):
    """A meter that sums."""
    return shop.meter()


@pytest.fixture
def customer(shop, meter):
    """Somebody whose queries it counts."""
    return shop.customer()


def thin(shop):
    """The thin events so far, oldest first, as the list shows them."""
    return [event.to_dict() for event in reversed(shop.v2.core.events.list().data)]


def codes(event):
    """What a report says: how many errors of which codes."""
    return {each["code"]: each["error_count"] for each in event["data"]["reason"]["error_types"]}


def test_line_35_invalid_events_are_reported_once_per_window(shop, sandbox, meter, customer):
    """As soon as its ten seconds are over, with the identifier of each."""
    sandbox.advance(seconds=12)
    shop.stream(streamed(customer, "many", identifier="a"))
    sandbox.advance(seconds=7)
    shop.stream(streamed(customer), streamed("cus_nobody", identifier="b"))
    assert thin(shop) == []
    sandbox.advance(seconds=1)

    (event,) = thin(shop)
    assert event.pop("id").startswith("evt_test_65")
    assert event == {
        "object": "v2.core.event",
        "changes": None,
        "context": None,
        "created": "2026-03-01T00:00:20.000Z",
        "data": {
            "developer_message_summary": "There are 2 invalid events",
            "reason": {
                "error_count": 2,
                "error_types": [
                    {
                        "code": "meter_event_customer_not_found",
                        "error_count": 1,
                        "sample_errors": [
                            {"error_message": "No such customer: 'cus_nobody'", "request": {"identifier": "b"}}
                        ],
                    },
                    {
                        "code": "meter_event_invalid_value",
                        "error_count": 1,
                        "sample_errors": [
                            {
                                "error_message": "The value in the event payload must be a number. Received many.",
                                "request": {"identifier": "a"},
                            }
                        ],
                    },
                ],
            },
            "validation_end": "2026-03-01T00:00:20.000Z",
            "validation_start": "2026-03-01T00:00:10.000Z",
        },
        "livemode": False,
        "reason": None,
        "related_object": {"id": meter.id, "type": "billing.meter", "url": f"/v1/billing/meters/{meter.id}"},
        "snapshot_event": None,
        "type": REPORT,
    }


def test_line_35_each_window_and_each_meter_has_its_report(shop, sandbox, meter, customer):
    """Also where a jump in time passes over several."""
    other = shop.meter("rows")
    shop.stream(streamed(customer, "x"), streamed(customer, "x", event_name="rows"), streamed(customer, "y"))
    sandbox.advance(seconds=10)
    shop.stream(streamed(customer, "x"))
    sandbox.advance(seconds=DAY)

    reports = [(event["related_object"]["id"], event["created"][11:19], codes(event)) for event in thin(shop)]
    assert reports == [
        (meter.id, "00:00:10", {"meter_event_invalid_value": 2}),
        (other.id, "00:00:10", {"meter_event_invalid_value": 1}),
        (meter.id, "00:00:20", {"meter_event_invalid_value": 1}),
    ]


def test_line_35_samples_are_samples(shop, sandbox, customer):
    """The count goes beyond them."""
    shop.stream(*(streamed(customer, "x") for _ in range(100)))
    sandbox.advance(seconds=10)

    reason = thin(shop)[0]["data"]["reason"]
    assert (reason["error_count"], len(reason["error_types"][0]["sample_errors"])) == (100, 10)


def test_line_35_every_code(shop, sandbox, meter, customer):
    """What can be wrong with an event of a meter."""
    shop.stream(
        {"event_name": "queries", "payload": {"value": "1"}},
        {"event_name": "queries", "payload": {"stripe_customer_id": customer.id}},
        streamed(customer, "many"),
        streamed(customer, "1234567890123456"),
        streamed("cus_nobody"),
        streamed(customer, timestamp="2026-01-24T23:59:59Z"),
        streamed(customer, timestamp="2026-03-01T00:05:01Z"),
    )
    shop.v1.billing.meters.deactivate(meter.id)
    shop.stream(streamed(customer))
    sandbox.advance(seconds=10)

    (event,) = thin(shop)
    assert codes(event) == {
        "archived_meter": 1,
        "meter_event_customer_not_found": 1,
        "meter_event_invalid_value": 2,
        "meter_event_no_customer_defined": 1,
        "meter_event_value_too_many_digits": 1,
        "timestamp_in_future": 1,
        "timestamp_too_far_in_past": 1,
    }


def test_line_35_what_v1_lets_through_is_reported_too(make_shop):
    """With the switches that put its checks off."""
    shop = make_shop(unknown_customer="async", bad_payload="async")
    shop.meter()
    shop.send("cus_nobody", identifier="a")
    shop.send(shop.customer(), "many", identifier="b")
    shop.sandbox.advance(seconds=10)

    (event,) = thin(shop)
    assert codes(event) == {"meter_event_customer_not_found": 1, "meter_event_invalid_value": 1}


def test_line_36_no_meter_has_an_event_of_its_own(shop, sandbox, customer):
    """One for all unknown names of a window, about no object."""
    shop.stream(streamed(customer, event_name="answers", identifier="a"), streamed(customer, event_name="rows"))
    sandbox.advance(seconds=10)

    (event,) = thin(shop)
    assert (event["type"], codes(event), "related_object" in event) == (NO_METER, {"no_meter": 2}, False)
    assert event["data"]["reason"]["error_types"][0]["sample_errors"][0] == {
        "error_message": "No meter was found matching event_name answers.",
        "request": {"identifier": "a"},
    }


def test_line_37_a_notice_leads_to_its_data_and_its_meter(shop, sandbox, meter, customer):
    """What is delivered has no data; the library fetches it, and the meter, from the sandbox."""
    delivered = []
    sandbox._account.on_event = delivered.append
    shop.stream(streamed(customer, "x", identifier="a"))
    sandbox.advance(seconds=10)

    (body,) = (json.dumps(body_of(event)) for event in delivered)
    signature = stripe.WebhookSignature.generate_signature_header(body, "whsec_1")
    notice = shop.client.parse_event_notification(body, signature, "whsec_1")
    event = notice.fetch_event()

    assert "data" not in json.loads(body)
    assert (notice.type, notice.related_object.id, notice.created) == (REPORT, meter.id, "2026-03-01T00:00:10.000Z")
    assert event.data.reason.error_types[0].sample_errors[0].request.identifier == "a"
    assert notice.fetch_related_object().to_dict() == meter.to_dict()


def test_line_37_a_snapshot_is_delivered_as_it_is_kept(shop, sandbox):
    """The same hook gets both kinds."""
    delivered = []
    sandbox._account.on_event = delivered.append
    meter = shop.meter()

    assert [(event["object"], event["data"]["object"]["id"]) for event in delivered] == [("event", meter.id)]


def test_line_37_an_event_is_there_for_30_days(shop, raw, sandbox, customer):
    """Then it is v2's 404, as one that never was."""
    shop.stream(streamed(customer, "x"))
    sandbox.advance(seconds=10)
    (event,) = shop.v2.core.events.list().data
    sandbox.advance(seconds=30 * DAY - 1)
    assert shop.v2.core.events.retrieve(event.id).id == event.id
    sandbox.advance(seconds=1)

    for name in (event.id, "evt_test_65nothing"):
        answer = raw.get(f"/v2/core/events/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert shop.v2.core.events.list().data == []


def test_line_37_events_are_listed_in_pages(shop, sandbox, customer):
    """Newest first; the library follows them, the filters stay."""
    for second in range(0, 50, 10):
        shop.stream(streamed(customer, "x"), streamed(customer, event_name="answers"))
        sandbox.advance(to=START + second + 10)
    filters = {"types": [NO_METER], "created": {"gt": "2026-03-01T00:00:10Z"}, "limit": 2}

    first = shop.v2.core.events.list(filters)
    every = [(event.type, event.created[11:19]) for event in first.auto_paging_iter()]

    assert len(first.data) == 2
    assert every == [(NO_METER, f"00:00:{second}") for second in (50, 40, 30, 20)]


def test_line_37_events_are_listed_by_their_object(shop, sandbox, meter, customer):
    """A meter's, and nobody's."""
    shop.stream(streamed(customer, "x"), streamed(customer, event_name="answers"))
    sandbox.advance(seconds=10)

    assert [event.type for event in shop.v2.core.events.list({"object_id": meter.id}).data] == [REPORT]
    assert shop.v2.core.events.list({"object_id": customer.id}).data == []
