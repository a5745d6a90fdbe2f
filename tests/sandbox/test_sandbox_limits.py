"""Rate limits: line 12 of the fidelity checklist."""

from __future__ import annotations

import httpx
import pytest
import stripe
from guard import GUARD

pytestmark = pytest.mark.long

EVENTS = "/v1/billing/meter_events"


def test_line_12_no_limit_by_default(shop):
    """Tests may be fast."""
    assert len([shop.v1.customers.list() for _ in range(30)]) == 30


@pytest.mark.parametrize(
    ("switches", "allowed", "reason"),
    [
        ({"rate_limit": 3}, 3, "global-rate"),
        ({"rate_limit": "stripe"}, 25, "global-rate"),
        ({"rate_limit": "stripe", "livemode": True}, 100, "global-rate"),
    ],
)
def test_line_12_requests_per_second_are_limited(make_shop, switches, allowed, reason):
    """One too many in a second is 429 with the limiter's name; the next second is a new one."""
    shop = make_shop(**switches)
    for _ in range(allowed):
        shop.v1.customers.list()

    with pytest.raises(stripe.RateLimitError) as caught:
        shop.v1.customers.list()
    assert caught.value.headers["Stripe-Rate-Limited-Reason"] == reason
    shop.sandbox.advance(seconds=1)

    assert shop.v1.customers.list().data == []


def test_line_12_live_meter_events_have_a_limit_of_their_own(make_shop):
    """1,000 meter events per second in live mode, whatever else is called."""
    with httpx.Client(timeout=GUARD) as client:
        shop = make_shop(rate_limit="stripe", livemode=True)
        answers = [
            client.post(f"{shop.sandbox.url}{EVENTS}", headers={"Authorization": f"Bearer {shop.sandbox.api_key}"})
            for _ in range(1001)
        ]

    assert [answer.status_code for answer in answers] == [400] * 1000 + [429]
    assert answers[-1].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
