"""Quotas on PostgreSQL: its sums are as exact in the snapshot as those of SQLite."""

from __future__ import annotations

import json

from guard import GUARD
from plain_exchange import PlainExchange

from meterkit import Governance, Meter, Quota
from meterkit.core.validation import MAX_QUANTITY

CALLS = Meter("calls")


def test_what_is_used_beyond_64_bits_is_known_to_the_unit(make_kit, postgres_url):
    """A day quota, and what a billing period adds up to."""
    rules = Governance(quotas=[Quota(CALLS, MAX_QUANTITY, per="day"), Quota(CALLS, MAX_QUANTITY)])
    kit = make_kit(CALLS, identify=lambda _: "acme", governance=rules, ledger=postgres_url)
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    for _ in range(10_000):
        kit.record(CALLS, "acme", MAX_QUANTITY)
    kit.flush()

    exchange = PlainExchange()
    exchange.publish(kit)
    answer = json.loads(kit.governor.check(exchange).body)
    kit.recorder.refuse(exchange)

    assert (MAX_QUANTITY, 10_000 * MAX_QUANTITY) == (answer["limit"], answer["used"])
