"""Disputed payments on PostgreSQL: what `tests/wallets` says of them, and two hosts that are told at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from followed_account import api, events, stripe, tell
from signed import body_of, signature_of
from test_disputed_packs import (
    WINNING,
    buy,
    kit,
    make_selling_kit,
    test_until_it_is_won,
    test_what_a_process_holds,
    test_what_usage_gives_back,
    test_what_was_refunded_before,
)
from wallet_kits import figures

pytestmark = pytest.mark.long

__all__ = [
    "api",
    "buy",
    "events",
    "kit",
    "make_selling_kit",
    "stripe",
    "tell",
    "test_until_it_is_won",
    "test_what_a_process_holds",
    "test_what_usage_gives_back",
    "test_what_was_refunded_before",
]


def test_two_hosts_that_are_told_at_once(kit, make_selling_kit, buy, stripe, api, tell, events):
    """It is taken back once, and given back once."""
    paid = buy()
    tell(kit, *events())
    kits = [kit, make_selling_kit()]

    def told(host):
        for event in events():
            payload = body_of(event)
            host.receive(payload, signature_of(payload, kit.clock()))
            host._supervisor.runtime().stripe_jobs.follow()

    found = []
    for act in (lambda: stripe.dispute(paid), lambda: api.disputes.update(api.disputes.list().data[0].id, WINNING)):
        act()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(told, kits))
        kit._supervisor.runtime().stripe_jobs.follow()
        found.append(figures(kit))

    assert [{"granted": "1000", "revoked": "1000"}, {"granted": "1000", "left": "1000"}] == found
    assert [] == kit.audit_wallets()
