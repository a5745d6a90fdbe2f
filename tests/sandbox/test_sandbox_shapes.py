"""What stripe-python says an object has, the sandbox's objects have: no AttributeError in code that runs on Stripe."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, HOUR, streamed
from shapes import lacking, named, undeclared, wrong_words


@pytest.fixture
def objects(shop):
    """One of each, as stripe-python parsed it."""
    customer, meter = shop.customer(), shop.meter()
    price = shop.price(meter, unit_amount=1)
    subscription = shop.subscribe(customer, price)
    alert = shop.v1.billing.alerts.create(
        {
            "alert_type": "usage_threshold",
            "title": "Much",
            "usage_threshold": {
                "meter": meter.id,
                "gte": 1,
                "recurrence": "one_time",
                "filters": [{"type": "customer", "customer": customer.id}],
            },
        }
    )
    event = shop.send(customer, 5, identifier="a")
    (triggered,) = shop.v1.events.list({"type": "billing.alert.triggered"}).data
    summary = shop.summary(meter, customer).data[0]
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    shop.sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)
    shop.send(customer, 5, identifier="b")
    adjustment = shop.v1.billing.meter_event_adjustments.create(
        {"type": "cancel", "event_name": "queries", "cancel": {"identifier": "b"}}
    )
    return [
        customer,
        meter,
        shop.v1.products.retrieve(price.product),
        price,
        subscription,
        subscription.items.data[0],
        subscription.items.data[0].plan,
        event,
        summary,
        preview,
        invoice,
        invoice.lines.data[0],
        adjustment,
        shop.v1.events.list().data[0],
        alert,
        alert.usage_threshold,
        alert.usage_threshold.filters[0],
        triggered.data.object,
        *objects_of_v2(shop, customer),
    ]


def objects_of_v2(shop, customer):
    """One of each of v2."""
    event = shop.send_v2(customer, identifier="c")
    adjustment = shop.v2.billing.meter_event_adjustments.create(
        {"type": "cancel", "event_name": "queries", "cancel": {"identifier": "c"}}
    )
    session = shop.v2.billing.meter_event_session.create()
    shop.stream(streamed(customer, "x"), streamed(customer, event_name="answers"), token=session.authentication_token)
    shop.sandbox.advance(seconds=10)
    no_meter, report = sorted(shop.v2.core.events.list().data, key=lambda event: "related_object" in event.to_dict())

    def parsed(kind, part):  # stripe-python leaves the parts of an event's data as they came
        return kind._construct_from(values=part.to_dict(), requestor=shop.client._requestor, api_mode="V2")

    datas = [parsed(type(event.data), event.data) for event in (no_meter, report)]
    types = [data.reason.error_types[0] for data in datas]
    samples = [each.sample_errors[0] for each in types]
    return [
        event,
        adjustment,
        adjustment.cancel,
        session,
        no_meter,
        report,
        parsed(type(report).RelatedObject, report.related_object),
        *datas,
        *(data.reason for data in datas),
        *types,
        *samples,
        *(sample.request for sample in samples),
    ]


def test_every_declared_attribute_is_there(objects):
    """Each annotation of the class, but for the few that Stripe leaves out as well."""
    assert {(named(one), each) for one in objects for each in lacking(one)} == set()


def test_nothing_is_there_that_is_not_declared(objects):
    """The sandbox's own fields stay with it."""
    assert {(named(one), each) for one in objects for each in undeclared(one)} == set()


def test_literals_are_among_the_declared_ones(objects):
    """`status`, `billing_reason`, `type`, … are words that the class lists."""
    assert {(named(one), each) for one in objects for each in wrong_words(one)} == set()


def test_ids_look_like_stripes(objects):
    """By their beginnings."""
    beginnings = {
        "customer": "cus_",
        "billing.meter": "mtr_test_61",
        "product": "prod_",
        "price": "price_1",
        "subscription": "sub_1",
        "subscription_item": "si_",
        "plan": "price_1",
        "billing.meter_event_summary": "mtrusg_test_61",
        "invoice": ("in_1", "upcoming_in_1"),
        "line_item": "il_1",
        "event": "evt_1",
        "billing.alert": "alrt_1",
        "v2.billing.meter_event_adjustment": "mtr_event_adj_",
        "v2.billing.meter_event_session": "mtr_event_ses_",
        "v2.core.event": "evt_test_65",
        "RelatedObject": "mtr_test_61",
    }

    assert {named(each) for each in objects if hasattr(each, "id")} == set(beginnings)
    assert all(each.id.startswith(beginnings[named(each)]) for each in objects if hasattr(each, "id"))
