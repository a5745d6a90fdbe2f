"""The shapes of endpoints, accounts, payments, hosted pages and test clocks are those that stripe-python declares."""

from __future__ import annotations

import pytest
from hosted_browser import Browser
from sandbox_shop import APRIL, HOUR
from shapes import differences, named, parts

pytestmark = pytest.mark.long

BEGINNINGS = {
    "webhook_endpoint": "we_1",
    "v2.core.event_destination": "ed_test_61",
    "v2.core.event": "evt_test_65",
    "account": "acct_1",
    "payment_method": "pm_1",
    "payment_intent": "pi_3",
    "invoice_payment": "inpay_1",
    "refund": "re_3",
    "dispute": "du_1",
    "balance_transaction": "txn_1",
    "setup_intent": "seti_1",
    "checkout.session": "cs_test_a1",
    "item": "li_1",
    "billing_portal.session": "bps_1",
    "billing_portal.configuration": "bpc_1",
    "test_helpers.test_clock": "clock_1",
}


def check(*objects):
    """All that is declared is there, nothing else is, and ids begin as Stripe's do."""
    assert set() == differences(list(objects))
    for one in objects:
        for each in parts(one):
            if named(each) in BEGINNINGS:
                assert each.id.startswith(BEGINNINGS[named(each)])


def test_endpoints(shop):
    """Webhook endpoints, event destinations, and a ping."""
    url = {"url": "http://127.0.0.1:9/"}
    made = shop.v1.webhook_endpoints.create({**url, "enabled_events": ["*"]})
    destinations = shop.v2.core.event_destinations
    destination = destinations.create(
        {
            "name": "Ours",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["*"],
            "webhook_endpoint": url,
        }
    )
    ping = destinations.ping(destination.id)
    disabled = destinations.disable(destination.id)

    check(shop.v1.webhook_endpoints.retrieve(made.id), destination, ping, disabled, *destinations.list().data)


def test_accounts(shop):
    """The platform's own, and a connected one."""
    connected = shop.v1.accounts.create({"type": "express", "capabilities": {"card_payments": {"requested": True}}})

    check(shop.v1.accounts.retrieve_current(), connected)


def test_payments(shop):
    """What an invoice is paid with, and what has failed."""
    customer = shop.customer(payment_method="pm_card_visa")
    (method,) = shop.v1.payment_methods.list({"customer": customer.id}).data
    shop.subscribe(customer, shop.price(unit_amount=500), default_payment_method=method.id)
    shop.sandbox.payments(method.id, "fail")
    shop.subscribe(customer, shop.price(unit_amount=500), default_payment_method=method.id)
    payments = shop.v1.invoice_payments.list({"expand": ["data.payment.payment_intent"]}).data
    refund = shop.v1.refunds.create({"payment_intent": payments[1].payment.payment_intent.id})

    check(method, refund, *payments)
    assert ["open", "paid"] == [each.status for each in payments]


def test_disputes(shop):
    """One whose money was withdrawn, and one that has come back."""
    customer = shop.customer(payment_method="pm_card_visa")
    (method,) = shop.v1.payment_methods.list({"customer": customer.id}).data
    shop.subscribe(customer, shop.price(unit_amount=500), default_payment_method=method.id)
    dispute = shop.sandbox.dispute(shop.v1.invoice_payments.list().data[0].payment.payment_intent)
    before = shop.v1.disputes.retrieve(dispute)
    won = shop.v1.disputes.update(dispute, {"evidence": {"uncategorized_text": "winning_evidence"}})

    check(before, won)


def test_hosted_pages(shop):
    """Sessions of Checkout, of which one is complete, and of the portal."""
    customer = shop.customer()
    portal = shop.v1.billing_portal.sessions.create({"customer": customer.id, "expand": ["configuration"]})
    saving = {"mode": "setup", "currency": "usd", "customer": customer.id, "success_url": "https://shop.example/"}
    session = shop.v1.checkout.sessions.create(saving)
    with Browser() as browser:
        browser.open(session.url).press("Save card", email="a@b.example", card_number="4242424242424242")
    line = {"price": shop.price(unit_amount=5).id, "quantity": 1}
    buying = {"mode": "subscription", "line_items": [line], "success_url": "https://shop.example/"}
    bought = shop.v1.checkout.sessions.create({**buying, "expand": ["line_items"]})
    price = shop.v1.prices.create({"currency": "usd", "product_data": {"name": "Credits"}, "unit_amount": 5})
    once = {
        "mode": "payment",
        "line_items": [{"price": price.id, "quantity": 1}],
        "invoice_creation": {"enabled": True},
    }
    paid = shop.v1.checkout.sessions.create({**once, "success_url": "https://shop.example/"})
    with Browser() as browser:
        browser.open(paid.url).press("Pay", email="a@b.example", card_number="4242424242424242")
    paid = shop.v1.checkout.sessions.retrieve(paid.id, {"expand": ["invoice", "line_items"]})

    check(
        portal, bought, paid, paid.invoice, shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent"]})
    )


def test_clocks(shop):
    """One that stands, and on its way."""
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": APRIL})

    check(clock, shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": APRIL + HOUR}))
