"""Billing meters: lines 13 to 17 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe

pytestmark = pytest.mark.long


def test_line_13_a_meter_has_stripes_defaults(shop):
    """The payload keys `stripe_customer_id` and `value`, every event counts, active."""
    meter = shop.meter("queries")

    assert meter.id.startswith("mtr_test_61")
    assert meter.customer_mapping.to_dict() == {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    assert meter.value_settings.to_dict() == {"event_payload_key": "value"}
    assert meter.event_time_window is None
    assert (meter.status, meter.status_transitions.deactivated_at) == ("active", None)
    assert meter.default_aggregation.formula == "sum"


def test_line_13_a_meter_can_name_its_payload_keys(shop, sandbox):
    """Then events must carry those."""
    meter = shop.meter(
        customer_mapping={"type": "by_id", "event_payload_key": "who"}, value_settings={"event_payload_key": "n"}
    )
    customer = shop.customer()
    shop.v1.billing.meter_events.create({"event_name": "queries", "payload": {"who": customer.id, "n": "3"}})

    assert sandbox.usage(meter.event_name, customer.id) == 3


def test_line_14_an_event_name_belongs_to_one_active_meter(shop):
    """A second meter of the name is refused."""
    shop.meter("queries")

    with pytest.raises(stripe.InvalidRequestError, match="single meter") as caught:
        shop.meter("queries")

    assert (caught.value.http_status, caught.value.param) == (400, "event_name")


def test_line_14_an_inactive_meter_frees_its_name(shop):
    """Until it wants to be active again."""
    old = shop.meter("queries")
    shop.v1.billing.meters.deactivate(old.id)
    shop.meter("queries")

    with pytest.raises(stripe.InvalidRequestError, match="single meter"):
        shop.v1.billing.meters.reactivate(old.id)


def test_line_14_whether_it_does_is_a_switch(make_shop):
    """An account could hold names for ever."""
    shop = make_shop(inactive_frees_name=False)
    meter = shop.v1.billing.meters.deactivate(shop.meter("queries").id)

    with pytest.raises(stripe.InvalidRequestError, match="single meter"):
        shop.meter("queries")
    assert shop.v1.billing.meters.reactivate(meter.id).status == "active"


def test_line_15_only_the_display_name_can_change(shop, raw):
    """Everything else about a meter is for ever."""
    meter = shop.meter()

    changed = shop.v1.billing.meters.update(meter.id, {"display_name": "Questions"})
    refused = raw.post(f"/v1/billing/meters/{meter.id}", data={"event_name": "other"})

    assert changed.display_name == "Questions"
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "parameter_unknown")


def test_line_16_an_inactive_meter_takes_nothing(shop, sandbox):
    """No events and no prices, until it is reactivated."""
    meter, customer = shop.meter(), shop.customer()
    sandbox.advance(seconds=10)

    gone = shop.v1.billing.meters.deactivate(meter.id)
    with pytest.raises(stripe.InvalidRequestError, match='No active meter found for event name "queries"'):
        shop.send(customer)
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        shop.price(meter, unit_amount=1)
    back = shop.v1.billing.meters.reactivate(meter.id)

    assert (gone.status, gone.status_transitions.deactivated_at) == ("inactive", sandbox.now)
    assert (back.status, back.status_transitions.deactivated_at) == ("active", None)
    assert shop.send(customer).event_name == "queries"
    assert shop.price(meter, unit_amount=1).recurring.meter == meter.id


def test_line_16_a_meter_cannot_become_what_it_is(shop):
    """Neither inactive twice nor active twice."""
    meter = shop.meter()

    with pytest.raises(stripe.InvalidRequestError, match="already active"):
        shop.v1.billing.meters.reactivate(meter.id)
    shop.v1.billing.meters.deactivate(meter.id)
    with pytest.raises(stripe.InvalidRequestError, match="already inactive"):
        shop.v1.billing.meters.deactivate(meter.id)


def test_line_16_meters_leave_events(shop):
    """Each change is in the event log, with what it was before."""
    meter = shop.meter(display_name="Old")
    shop.v1.billing.meters.update(meter.id, {"display_name": "New"})
    shop.v1.billing.meters.update(meter.id, {})
    shop.v1.billing.meters.deactivate(meter.id)
    shop.v1.billing.meters.reactivate(meter.id)

    kinds = [f"billing.meter.{verb}" for verb in ("created", "updated", "deactivated", "reactivated")]
    assert shop.events(*kinds) == kinds
    (updated,) = shop.v1.events.list({"type": "billing.meter.updated"}).data
    assert updated.data.object.display_name == "New"
    assert updated.data.previous_attributes.to_dict() == {"display_name": "Old"}
    assert shop.v1.events.retrieve(updated.id).api_version == "2026-10-28.endive"
    assert updated.request.id.startswith("req_")


@pytest.mark.parametrize(
    ("path", "form", "param", "longest"),
    [
        ("/v1/billing/meters", {}, "display_name", 250),
        ("/v1/billing/meters", {}, "event_name", 100),
        ("/v1/billing/meters", {"customer_mapping[type]": "by_id"}, "customer_mapping[event_payload_key]", 100),
        ("/v1/billing/meters", {}, "value_settings[event_payload_key]", 100),
        ("/v1/billing/meter_events", {}, "event_name", 100),
        ("/v1/billing/meter_events", {}, "identifier", 100),
        ("/v1/billing/meter_events", {}, "payload[value]", 100),
        ("/v1/billing/meter_event_adjustments", {}, "cancel[identifier]", 100),
    ],
)
def test_line_17_names_have_a_greatest_length(raw, path, form, param, longest):
    """The greatest is accepted (and found wanting elsewhere), one more character is not."""
    complete = {
        "/v1/billing/meters": {
            "display_name": "d",
            "event_name": "e",
            "default_aggregation[formula]": "sum",
        },
        "/v1/billing/meter_events": {"event_name": "e", "payload[stripe_customer_id]": "c"},
        "/v1/billing/meter_event_adjustments": {"event_name": "e", "type": "cancel"},
    }[path]
    errors = [
        raw.post(path, data={**complete, **form, param: "x" * size}).json().get("error", {})
        for size in (longest, longest + 1)
    ]

    assert [error.get("param") == param and "must be at most" in error["message"] for error in errors] == [
        False,
        True,
    ]


def test_line_17_payload_keys_have_a_greatest_length(raw):
    """100 characters."""
    answer = raw.post("/v1/billing/meter_events", data={"event_name": "e", f"payload[{'k' * 101}]": "1"})

    assert answer.status_code == 400
    assert "must be at most 100 characters" in answer.json()["error"]["message"]


def test_meters_are_listed_by_status(shop):
    """Newest first."""
    one, two = shop.meter("one"), shop.meter("two")
    shop.v1.billing.meters.deactivate(one.id)

    assert [meter.id for meter in shop.v1.billing.meters.list().data] == [two.id, one.id]
    assert [meter.id for meter in shop.v1.billing.meters.list({"status": "inactive"}).data] == [one.id]


def test_a_formula_is_one_of_three(raw):
    """There is no `max`."""
    answer = raw.post(
        "/v1/billing/meters",
        data={"display_name": "d", "event_name": "e", "default_aggregation[formula]": "max"},
    )

    assert answer.json()["error"]["message"] == (
        "Invalid default_aggregation[formula]: must be one of count, last, or sum"
    )
