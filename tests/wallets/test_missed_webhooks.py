"""An endpoint that was down for days: a sync finds what was paid and refunded meanwhile, and does each once."""

from __future__ import annotations

import pytest
from followed_account import api, stripe  # noqa: F401 - fixtures
from hosted_browser import Browser
from wallet_kits import CALLS, figures

from meterkit import Pack, Wallet

SMALL = Pack("1,000 credits", amount=1_000, price="10.00")


@pytest.fixture
def kit(make_kit, stripe):
    """A kit that has sold a pack, and whose webhooks never arrive."""
    wallets = [Wallet("credits", unit="credits", spends={CALLS: 1}, packs=[SMALL])]
    kit = make_kit(CALLS, wallets=wallets, stripe_key=stripe.api_key, stripe_base=stripe.url, customer_ids=False)
    kit.provision()
    with Browser() as browser:
        browser.open(kit.checkout_url("acme", pack=SMALL, success_url="https://shop.example/paid"))
        browser.press("Pay", card_number="4242424242424242", email="ann@acme.example")
    return kit


def refund(api, **about):
    """Refund the latest payment."""
    api.refunds.create({"payment_intent": api.invoice_payments.list().data[0].payment.payment_intent, **about})


def test_what_was_refunded_meanwhile(kit, api):
    """It is taken back after the payment is granted, once, however many syncs there are."""
    refund(api, amount=250)
    found = [kit.sync() for _ in range(2)]
    first = figures(kit)
    refund(api, amount=100)
    found += [kit.sync() for _ in range(2)]

    assert {""} == {each.error for each in found}
    assert {"granted": "1000", "revoked": "250", "left": "750"} == first
    assert {"granted": "1000", "revoked": "350", "left": "650"} == figures(kit)


def test_what_was_refunded_long_ago(kit, api, clock):
    """It is not looked for, as the invoices of that time are not."""
    kit.sync()
    refund(api)
    clock.advance(41 * 24 * 3600)
    kit.sync()

    assert {"granted": "1000", "left": "1000"} == figures(kit)
