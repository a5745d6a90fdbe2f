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
