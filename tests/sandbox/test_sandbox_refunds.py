"""Refunds: in parts, up to what was paid."""

from __future__ import annotations

import pytest
from sandbox_shop import refused


@pytest.fixture
def paid(shop):
    """The payment of an invoice of 500 cents."""
    shop.subscribe(shop.customer(payment_method="pm_card_visa"), shop.price(unit_amount=500))
    return shop.v1.invoice_payments.list().data[0].payment.payment_intent


def test_parts_and_the_rest(shop, paid):
    """What is left is refunded if no amount is given; each tells of itself."""
    first = shop.v1.refunds.create({"payment_intent": paid, "amount": 200, "reason": "requested_by_customer"})
    rest = shop.v1.refunds.create({"payment_intent": paid, "metadata": {"case": "7"}})

    assert [("succeeded", 200), ("succeeded", 300)] == [(each.status, each.amount) for each in (first, rest)]
    assert ["refund.created"] * 2 == shop.events("refund.created")
    assert [rest.id, first.id] == [each.id for each in shop.v1.refunds.list({"payment_intent": paid}).data]
    assert {"case": "7"} == shop.v1.refunds.retrieve(rest.id).metadata.to_dict()


def test_no_more_than_was_paid(shop, paid):
    """In Stripe's words."""
    more = refused(shop.v1.refunds.create, {"payment_intent": paid, "amount": 501})
    shop.v1.refunds.create({"payment_intent": paid})
    again = refused(shop.v1.refunds.create, {"payment_intent": paid})

    assert "greater than unrefunded amount" in str(more)
    assert "charge_already_refunded" == again.code


def test_what_was_not_paid(shop):
    """Nothing can be given back."""
    customer = shop.customer(payment_method="pm_card_visa")
    (method,) = shop.v1.payment_methods.list({"customer": customer.id}).data
    shop.sandbox.payments(method.id, "fail")
    shop.subscribe(customer, shop.price(unit_amount=500), default_payment_method=method.id)
    intent = shop.v1.invoice_payments.list().data[0].payment.payment_intent

    assert "successful charge" in str(refused(shop.v1.refunds.create, {"payment_intent": intent}))
