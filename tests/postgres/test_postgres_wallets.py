"""Wallets on PostgreSQL: what `tests/wallets` says of them, and hosts that spend and grant at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from test_spending import (
    test_a_company_has_few_rows,
    test_a_flush_writes_what_has_expired,
    test_a_meter_that_had_usage_before,
    test_every_order_of_everything,
    test_one_use_of_several_grants,
    test_the_order_of_grants,
    test_usage_spends_at_its_rate,
    test_what_a_balance_does_not_cover,
)
from test_wallet_grants import (
    test_a_key_with_another_amount,
    test_no_more_is_taken_back_than_is_left,
    test_one_key_grants_once,
    test_one_key_takes_back_once,
    test_the_largest_grants_add_up,
)
from wallet_kits import figures, prepaid

from meterkit.wallets.audit import mistakes

__all__ = [
    "prepaid",
    "test_a_company_has_few_rows",
    "test_a_flush_writes_what_has_expired",
    "test_a_key_with_another_amount",
    "test_a_meter_that_had_usage_before",
    "test_every_order_of_everything",
    "test_no_more_is_taken_back_than_is_left",
    "test_one_key_grants_once",
    "test_one_key_takes_back_once",
    "test_one_use_of_several_grants",
    "test_the_largest_grants_add_up",
    "test_the_order_of_grants",
    "test_usage_spends_at_its_rate",
    "test_what_a_balance_does_not_cover",
]


@pytest.mark.parametrize("hosts", [4])
def test_hosts_that_spend_and_grant_at_once(prepaid, hosts):
    """Nothing is spent twice, and a key that all of them grant counts once."""
    kits = [prepaid() for _ in range(hosts)]

    def work(kit):
        for number in range(10):
            kit.grant("acme", "credits", 10, key=f"pay-{number}")
            kit.record("calls", "acme", 2)
            kit.flush()

    with ThreadPoolExecutor(hosts) as pool:
        list(pool.map(work, kits))

    assert {"granted": "100", "spent": "80", "left": "20"} == figures(kits[0])
    assert [] == mistakes(kits[0].process().database())
