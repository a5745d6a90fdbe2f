"""Previews of invoices: line 45 of the fidelity checklist."""

from __future__ import annotations

import pytest
import stripe
from sandbox_shop import (
    APRIL,
    START,
    day,
    refused,
    tiered,
)

pytestmark = pytest.mark.long


def test_line_45_a_preview_follows_the_usage(shop, sandbox):
    """By customer or by subscription; it is not kept."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, tiered(shop, shop.meter()))
    totals = []
    for used in (80, 1420):
        shop.send(customer, used)
        totals.append(shop.v1.invoices.create_preview({"customer": customer.id}).total)
    preview = shop.v1.invoices.create_preview({"subscription": subscription.id, "preview_mode": "next"})

    assert totals == [40_000, 420_000]
    assert preview.id.startswith("upcoming_in_")
    assert (preview.billing_reason, preview.status, preview.total) == ("upcoming", "draft", 420_000)
    assert (preview.period_start, preview.period_end) == (START, APRIL)
    assert shop.invoices(customer) == []


def test_line_45_a_preview_lags_like_summaries(make_shop):
    """What is still being processed is not on it; what is final has it all."""
    shop = make_shop(event_lag=600, invoice_grace=60)
    customer = shop.customer()
    shop.subscribe(customer, shop.price(shop.meter(), unit_amount=1))
    shop.send(customer, 5)
    early = shop.v1.invoices.create_preview({"customer": customer.id}).total
    shop.sandbox.advance(seconds=600)
    later = shop.v1.invoices.create_preview({"customer": customer.id}).total
    shop.sandbox.advance(to=APRIL + 30)
    shop.send(customer, 20, timestamp=APRIL - 1)
    shop.sandbox.advance(seconds=60)

    assert (early, later, shop.invoices(customer)[0].total) == (0, 5, 25)


def test_line_45_a_preview_includes_the_next_licence(shop):
    """As the invoice will."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=1000))

    (line,) = shop.v1.invoices.create_preview({"customer": customer.id}).lines.data

    assert (line.amount, line.period.start, line.period.end) == (1000, APRIL, day(5, 1))


def test_line_45_a_preview_of_the_last_invoice_has_no_next_licence(shop):
    """Of a subscription that ends with its period."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=1000), cancel_at_period_end=True)

    assert shop.v1.invoices.create_preview({"customer": customer.id}).total == 0


def test_line_45_a_preview_of_what_is_not_yet(shop):
    """What would a subscription cost? Nothing of it is kept."""
    customer, price = shop.customer(), shop.price(unit_amount=1000)

    preview = shop.v1.invoices.create_preview(
        {"customer": customer.id, "subscription_details": {"items": [{"price": price.id, "quantity": 3}]}}
    )

    assert preview.total == 3000
    assert preview.parent.subscription_details.subscription is None
    assert shop.v1.subscriptions.list().data == []


def test_line_45_a_recurring_preview_leaves_out_what_is_billed_once(shop):
    """Pending items are on the next invoice alone."""
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=1000))
    shop.v1.invoice_items.create({"customer": customer.id, "amount": 70, "currency": "usd"})
    preview = shop.v1.invoices.create_preview

    assert preview({"customer": customer.id}).total == 1070
    assert preview({"customer": customer.id, "preview_mode": "recurring"}).total == 1000


def test_line_45_a_preview_of_a_change_changes_nothing(shop, sandbox):
    """Of a cancellation, of the end of a trial, of a coupon."""
    customer, fee = shop.customer(), shop.price(unit_amount=3100)
    subscription = shop.subscribe(customer, fee, shop.price(shop.meter(), unit_amount=100))
    shop.send(customer, 5)
    sandbox.advance(seconds=1)
    half = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})

    def total(discounts=(), **details):
        params = {"subscription": subscription.id, "subscription_details": details, "discounts": list(discounts)}
        return shop.v1.invoices.create_preview({key: value for key, value in params.items() if value}).total

    assert total(cancel_now=True) == total(cancel_at_period_end=True) == 500
    assert total() == 3600
    assert total(discounts=[{"coupon": half.id}]) == 1800
    assert total(billing_cycle_anchor={"type": "now"}, proration_behavior="none") == 3600
    after = shop.v1.subscriptions.retrieve(subscription.id)
    assert (after.to_dict(), shop.v1.coupons.retrieve(half.id).times_redeemed) == (subscription.to_dict(), 0)
    refused(total, billing_cycle_anchor={"type": "timestamp", "timestamp": APRIL})


def test_line_45_a_preview_of_something_new_is_its_first_invoice(shop):
    """With its trial, its coupon and its billing date."""
    customer, fee = shop.customer(), shop.price(unit_amount=3100)
    half = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})

    def total(discounts=(), **details):
        details["items"] = [{"price": fee.id}]
        params = {"customer": customer.id, "subscription_details": details, "discounts": list(discounts)}
        return shop.v1.invoices.create_preview({key: value for key, value in params.items() if value}).total

    assert (total(), total(trial_end=APRIL), total(discounts=[{"coupon": half.id}])) == (3100, 0, 1550)
    assert total(billing_cycle_anchor={"type": "timestamp", "timestamp": day(3, 2)}) == 111  # a day of 28
    refused(shop.v1.invoices.create_preview, {"customer": customer.id, "subscription_details": {"trial_end": APRIL}})


def test_line_45_no_preview_without_a_subscription(shop):
    """404 for a customer without, 400 for nobody and for somebody else."""
    ada, bob = shop.customer(), shop.customer()
    subscription = shop.subscribe(bob, shop.price(shop.meter(), unit_amount=1))
    preview = shop.v1.invoices.create_preview

    with pytest.raises(stripe.InvalidRequestError) as caught:
        preview({"customer": ada.id})
    assert (caught.value.http_status, caught.value.code) == (404, "invoice_upcoming_none")
    assert refused(preview, {}).code == "parameter_missing"
    assert refused(preview, {"customer": ada.id, "subscription": subscription.id}).param == "subscription"
    assert refused(preview, {"subscription_details": {"items": [{"price": "p"}]}})
