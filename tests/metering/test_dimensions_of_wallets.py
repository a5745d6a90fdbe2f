"""Wallets, exact quotas and holds are of a meter's sum, whatever it consists of."""

from __future__ import annotations

from decimal import Decimal

import pytest
from plain_exchange import serve

import meterkit
from meterkit import Governance, Meter, Quota, Wallet

TOKENS = Meter("tokens", path="*", value="tokens", by=("model", "kind"), billable=False)


@pytest.fixture
def kit(make_kit):
    """A kit whose tokens are paid from credits, a half each, and limited."""
    governance = Governance(quotas=[Quota(TOKENS, 10_000, exact=True)])
    wallets = [Wallet("credits", unit="credits", spends={TOKENS: "0.5"})]
    kit = make_kit(TOKENS, identify=lambda _: "acme", wallets=wallets, governance=governance)
    kit.grant("acme", "credits", 100, key="first")
    kit.flush()
    return kit


def test_a_wallet_pays_for_all_values(kit):
    """In requests, late, and recorded with a key."""
    handles = []

    def view():
        meterkit.add_usage("tokens", 12, model="small", kind="input")
        meterkit.add_usage("tokens", 3, model="small", kind="output")
        handles.append(meterkit.usage())

    serve(kit, view=view)
    handles[0].add("tokens", 5, model="large")
    kit.record("tokens", "acme", 20, dimensions={"model": "small"}, key="job")
    kit.flush()
    found = kit.balance("acme", "credits")

    assert (Decimal(20), Decimal(80)) == (found.spent, found.left)
    assert 40 == sum(row.quantity for row in kit.usage(by="model"))
    assert [] == kit.audit_wallets()
