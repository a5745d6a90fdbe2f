"""What stripe-python says that objects have, with discounts, credit, thresholds and changes: the sandbox's have it."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import APRIL, DAY, HOUR, START
from shapes import differences

pytestmark = pytest.mark.long


@pytest.fixture
def objects(shop):
    """One of each, as stripe-python parsed it, and the parts of each."""
    sandbox, customer = shop.sandbox, shop.customer()
    meter = shop.meter()
    calls = shop.price(meter, unit_amount=100, currency_options={"eur": {"unit_amount": 80}})
    gold, silver = shop.price(unit_amount=1000), shop.price(unit_amount=2000)
    coupon = shop.v1.coupons.create(
        {"amount_off": 100, "currency": "usd", "duration": "forever", "expand": ["currency_options", "applies_to"]}
    )
    code = shop.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "restrictions": {"first_time_transaction": True}}
    )
    sandbox.discount(customer.id, coupon.id)
    grant = shop.v1.billing.credit_grants.create(
        {
            "customer": customer.id,
            "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": 300}},
            "applicability_config": {"scope": {"prices": [{"id": calls.id}]}},
        }
    )
    balance = shop.v1.customers.balance_transactions.create(customer.id, {"amount": -5, "currency": "usd"})
    subscription = shop.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": calls.id, "billing_thresholds": {"usage_gte": 5}}, {"price": gold.id}],
            "discounts": [{"promotion_code": code.id}],
            "billing_thresholds": {"amount_gte": 500},
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel", "billing_cycle_anchor": "now"}},
            "expand": ["discounts"],
        }
    )
    shop.send(customer, 5)
    sandbox.advance(to=START + DAY)
    threshold = shop.invoices(customer)[0]
    changed = shop.v1.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": subscription.items.data[1].id, "price": silver.id}],
            "pause_collection": {"behavior": "void"},
        },
    )
    proration = shop.v1.invoice_items.list({"customer": customer.id}).data[0]
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)
    invoice = shop.invoices(customer)[0]
    summary = shop.v1.billing.credit_balance_summary.retrieve(
        {"customer": customer.id, "filter": {"type": "credit_grant", "credit_grant": grant.id}}
    )
    transactions = shop.v1.billing.credit_balance_transactions.list({"customer": customer.id}).data
    return [
        shop.v1.customers.retrieve(customer.id),
        shop.v1.prices.retrieve(calls.id, {"expand": ["currency_options"]}),
        coupon,
        code,
        *subscription.discounts,
        grant,
        balance,
        subscription,
        changed,
        threshold,
        proration,
        preview,
        invoice,
        *threshold.lines.data,
        *preview.lines.data,
        *invoice.lines.data,
        summary,
        *transactions,
        *changed.items.data,
    ]


def test_objects_and_their_parts_have_what_is_declared(objects):
    """No attribute less, none more, no word that the class does not list."""
    assert differences(objects) == set()


def test_all_kinds_are_there(objects):
    """So that the test above can fail."""
    kinds = {each.to_dict().get("object") for each in objects}

    assert kinds >= {
        "coupon",
        "promotion_code",
        "discount",
        "billing.credit_grant",
        "billing.credit_balance_summary",
        "billing.credit_balance_transaction",
        "customer_balance_transaction",
        "invoiceitem",
    }
    assert any(isinstance(each, stripe.Invoice) and each.threshold_reason for each in objects)
