"""What a process has done before its first request does not let that request, or a hold, through without units."""

from __future__ import annotations

import pytest
from plain_exchange import PlainExchange

from meterkit import Governance, InsufficientBalanceError, Meter, Quota, Wallet

CALLS = Meter("calls", path="/v1/*", billable=False)


@pytest.fixture(params=["quota", "wallet"])
def make(request, make_kit):
    """A function that makes kits which let acme use nothing."""
    limits = {
        "quota": {"governance": Governance(quotas=[Quota(CALLS, 0, exact=True)])},
        "wallet": {"wallets": [Wallet("credits", unit="credits", spends={CALLS: 1})]},
    }
    return lambda: make_kit(CALLS, identify=lambda _: "acme", **limits[request.param])


@pytest.fixture
def other(make):
    """Another process of the host, which flushes for all."""
    kit = make()
    kit.governor.begin()
    return kit


FIRST = [lambda kit: None, lambda kit: kit.flush(), lambda kit: kit.usage(), lambda kit: kit.health()]


@pytest.mark.parametrize("first", FIRST, ids=["nothing", "flush", "usage", "health"])
def test_the_first_request_of_a_process(make, first):
    """Waits for the ledger, and is blocked."""
    kit = make()
    first(kit)
    exchange = PlainExchange(path="/v1/scores")
    exchange.publish(kit)

    assert kit.governor.check(exchange).status in (402, 429)
    assert "quota_not_exact" not in str(kit.health())


@pytest.mark.parametrize("first", FIRST, ids=["nothing", "flush", "usage", "health"])
def test_the_first_hold_of_a_process(make, first):
    """Holds nothing."""
    kit = make()
    first(kit)

    with pytest.raises(InsufficientBalanceError), kit.hold("acme", 10):
        pass


def test_where_another_process_flushes(make, other):
    """So it is, too."""
    kit = make()
    other.flush()
    kit.flush()

    with pytest.raises(InsufficientBalanceError), kit.hold("acme", 10):
        pass
