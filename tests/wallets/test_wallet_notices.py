"""Notices about balances that are low or used up, and grants that are about to expire."""

from __future__ import annotations

import pytest
from test_wallet_grants import at
from wallet_kits import CREDITS

from meterkit import ConfigurationError, Notify


class Told:
    """A channel that keeps what it is told."""

    name = "told"

    def __init__(self):
        self.notices = []

    def deliver(self, notice):
        self.notices.append(notice)


@pytest.fixture
def notifying(prepaid):
    """A kit that notifies."""
    told = Told()
    kit = prepaid(notify=[Notify.balance(CREDITS, low="10", to=told), Notify.grant_expiring(to=told)])
    kit.told = told
    return kit


def after(kit, seconds=3600):
    """What is told after so many seconds."""
    kit.clock.advance(seconds)
    kit.flush()
    kit.process().dispatcher.evaluate()
    kit.process().dispatcher.deliver("told")
    said = [(each.kind, each.fields["left"]) for each in kit.told.notices]
    kit.told.notices.clear()
    return said


def test_a_balance_that_sinks(notifying):
    """Once when it is low, once when it is used up, and anew after the next grant."""
    said = []
    notifying.grant("acme", "credits", 50)
    for quantity in (40, 1, 1, 8, 1):
        notifying.record("calls", "acme", quantity)
        said.append(after(notifying))
    notifying.grant("acme", "credits", 5)
    said.append(after(notifying))

    assert [[], [("balance_low", "9")], [], [("balance_empty", "0")], [], [("balance_low", "5")]] == said


def test_a_grant_that_will_expire(notifying, clock):
    """A week before, of what is left; once."""
    notifying.grant("acme", "credits", 50, expires=at(clock() + 8 * 24 * 3600))
    said = [after(notifying, seconds) for seconds in (3600, 24 * 3600, 3600)]

    assert [[], [("grant_expiring", "50")], []] == said


@pytest.mark.parametrize(
    ("wallet", "low", "said"),
    [
        ("credit", 1, "the wallet 'credit', which is not in wallets="),
        (CREDITS, 1.5, "a float is not exact"),
        (CREDITS, 0, "must be more than 0"),
        (7, 1, "must be a Wallet or its name"),
    ],
)
def test_rules_that_are_wrong(prepaid, wallet, low, said):
    """The message says why."""
    with pytest.raises(ConfigurationError) as caught:
        prepaid(notify=[Notify.balance(wallet, low=low, to=print)])

    assert said in str(caught.value)
