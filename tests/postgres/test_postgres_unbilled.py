"""Usage that no price bills, in a ledger in PostgreSQL; the specification stands in `test_unbilled`."""

from __future__ import annotations

import pytest
from followed_account import api, events, make_following_kit, price, stripe, tell
from test_unbilled import (
    base,
    customer,
    test_a_customer_without_the_meter_on_a_subscription,
    test_a_subscription_that_has_ended,
    test_many_companies,
)

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("impatient")]

__all__ = [  # what pytest is to find here
    "api",
    "base",
    "customer",
    "events",
    "make_following_kit",
    "price",
    "stripe",
    "tell",
    "test_a_customer_without_the_meter_on_a_subscription",
    "test_a_subscription_that_has_ended",
    "test_many_companies",
]


@pytest.fixture
def kit(make_following_kit, postgres_url):
    """A kit that follows the account, with its ledger in PostgreSQL."""
    return make_following_kit(ledger=postgres_url)
