"""Automatic top-ups on PostgreSQL: what `tests/top_ups` says of them, with hosts that share nothing but the ledger."""

from __future__ import annotations

import pytest
from followed_account import api, events, stripe, tell
from test_top_up_kills import (
    test_a_kill_between_two_requests,
    test_an_agreement_that_ends_meanwhile,
    test_many_processes_at_once,
)
from test_top_ups import (
    test_a_balance_that_falls_below,
    test_a_card_that_is_declined,
    test_a_debit_that_takes_days,
    test_most_per_month,
    test_webhooks,
    test_what_is_refunded_is_not_bought_again,
)
from topped_up import kit, make_selling_kit, shop

pytestmark = pytest.mark.long

__all__ = [
    "api",
    "events",
    "kit",
    "make_selling_kit",
    "shop",
    "stripe",
    "tell",
    "test_a_balance_that_falls_below",
    "test_a_card_that_is_declined",
    "test_a_debit_that_takes_days",
    "test_a_kill_between_two_requests",
    "test_an_agreement_that_ends_meanwhile",
    "test_many_processes_at_once",
    "test_most_per_month",
    "test_webhooks",
    "test_what_is_refunded_is_not_bought_again",
]
