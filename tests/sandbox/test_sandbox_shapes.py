"""What stripe-python says an object has, the sandbox's objects have: no AttributeError in code that runs on Stripe."""

from __future__ import annotations

import inspect
import typing

import pytest
from sandbox_shop import APRIL, HOUR

# Left out on purpose: only on demand or only on tombstones, as on Stripe (see expandable fields and `deleted`).
ABSENT = {
    "customer": {
        "deleted",
        "invoice_credit_balance",
        "sources",
        "subscriptions",
        "tax",
        "tax_ids",
    },
    "event": {"deleted"},
    "invoice": {"deleted", "payments", "status_details"},
    "plan": {"deleted", "tiers"},
    "price": {"deleted", "tiers"},
    "product": {"deleted"},
    "subscription": {"managed_payments", "presentment_details", "status_details"},
    "subscription_item": {"deleted"},
}


@pytest.fixture
def objects(shop):
    """One of each, as stripe-python parsed it."""
    customer, meter = shop.customer(), shop.meter()
    price = shop.price(meter, unit_amount=1)
    subscription = shop.subscribe(customer, price)
    event = shop.send(customer, 5, identifier="a")
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
    ]


def test_every_declared_attribute_is_there(objects):
    """Each annotation of the class, but for the few that Stripe leaves out as well."""
    lacking = {}
    for each in objects:
        declared = set(inspect.get_annotations(type(each))) - {"OBJECT_NAME"}
        absent = {name for name in declared if not hasattr(each, name) or name not in each.to_dict()}
        lacking[each.object] = absent - ABSENT.get(each.object, set())

    assert lacking == {each.object: set() for each in objects}


def test_nothing_is_there_that_is_not_declared(objects):
    """The sandbox's own fields stay with it."""
    extra = {each.object: set(each.to_dict()) - set(inspect.get_annotations(type(each))) for each in objects}

    assert extra == {each.object: set() for each in objects}


def test_literals_are_among_the_declared_ones(objects):
    """`status`, `billing_reason`, `type`, … are words that the class lists."""
    wrong = []
    for each in objects:
        for name, hint in inspect.get_annotations(type(each)).items():
            words = _words(hint)
            value = getattr(each, name, None)
            if words and isinstance(value, str) and value not in words:
                wrong.append((each.object, name, value))

    assert wrong == []


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
    }

    assert {each.object for each in objects if hasattr(each, "id")} == set(beginnings)
    assert all(each.id.startswith(beginnings[each.object]) for each in objects if hasattr(each, "id"))


def _words(hint):
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return set().union(*(_words(part) for part in typing.get_args(hint))) if typing.get_args(hint) else set()
