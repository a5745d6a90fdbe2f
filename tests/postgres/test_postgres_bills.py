"""What usage costs, with the ledger in PostgreSQL; most of it stands in `test_spending_cap`."""

from __future__ import annotations

import pytest
from followed_account import (  # noqa: F401 - fixtures
    api,
    events,
    make_following_kit,
    make_shown_kit,
    shown,
    stripe,
    tell,
)
from test_spending_cap import (  # noqa: F401 - fixtures, among others
    govern,
    make_price,
    meter,
    subscribe,
    test_a_price_that_is_changed_within_the_period,
    test_a_quota_on_monthly_usage_beside_a_yearly_fee,
    test_two_subscriptions_on_one_meter,
    test_what_a_coupon_leaves_is_spent,
    test_what_is_free_is_not_spent,
)

__all__ = [  # what pytest is to find here
    "test_a_price_that_is_changed_within_the_period",
    "test_a_quota_on_monthly_usage_beside_a_yearly_fee",
    "test_two_subscriptions_on_one_meter",
    "test_what_a_coupon_leaves_is_spent",
    "test_what_is_free_is_not_spent",
]

pytestmark = [pytest.mark.long, pytest.mark.thorough]

HOUR, DAY = 3600, 24 * 3600


def test_an_opening_balance_and_late_usage(make_shown_kit, api, clock, make_price, subscribe):
    """Both cost what the tier costs that was reached; the preview is Stripe's."""
    tiers = [{"up_to": 1000, "unit_amount": 50}, {"up_to": "inf", "unit_amount": 30}]
    price = make_price(None, billing_scheme="tiered", tiers_mode="graduated", tiers=tiers)
    (subscription,) = subscribe([price])
    clock.advance(10 * DAY)
    payload = {"stripe_customer_id": subscription.customer, "value": "1500"}
    api.billing.meter_events.create({"event_name": "calls", "payload": payload, "timestamp": int(clock.now)})
    clock.advance(HOUR)
    kit = make_shown_kit(late="next_invoice")
    kit.sync()
    kit.record("calls", "acme", 10)
    clock.advance(HOUR)
    kit.report()
    (preview,) = kit.preview("acme")
    upcoming = api.invoices.create_preview({"subscription": subscription.id})
    late = int(clock.now)
    clock.advance(22 * DAY)
    api.invoices.list()  # lets the sandbox bring itself up to date
    kit.sync()
    kit.process().ledger().fold("forgotten", [(("calls", "calls", "acme", "", late), 10, late)])
    kit.report()

    assert (65_300, "653.00") == (upcoming.total, str(preview.total))
    assert [300] == [item.amount for item in api.invoice_items.list().data]
