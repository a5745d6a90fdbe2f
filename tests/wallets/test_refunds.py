"""Refunds of packs of which something is held, has expired, was taken back, or is corrected afterwards."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from followed_account import api, events, stripe, tell  # noqa: F401 - fixtures
from test_packs import LARGE, SMALL, buy, following, make_selling_kit, payment  # noqa: F401 - fixtures
from wallet_kits import figures


@pytest.fixture
def refund(following, api, tell, events):
    """A function that refunds the latest payment, or an amount of it, and tells it twice."""

    def work(amount=None):
        api.refunds.create({"payment_intent": payment(api), **({} if amount is None else {"amount": amount})})
        for _ in range(2):
            tell(following, *events())

    return work


@pytest.fixture
def bought(following, tell, events):
    """A function that makes a kit of which a pack was bought."""

    def work(pack=SMALL):
        buy(following, pack)
        tell(following, *events())
        return following

    return work


@pytest.mark.parametrize(
    ("amount", "meanwhile", "then"),
    [
        (None, {"granted": "1000", "revoked": "1000"}, {"granted": "1000", "revoked": "1000", "uncovered": "100"}),
        (
            800,
            {"granted": "1000", "revoked": "800", "held": "200"},
            {"granted": "1000", "spent": "100", "revoked": "800", "left": "100"},
        ),
    ],
)
def test_what_is_held_is_taken_back_too(bought, refund, amount, meanwhile, then):
    """What a process gives back afterwards is nobody's any more, and only what it has used is not covered."""
    kit = bought()
    with kit.hold("acme", 400, wallet="credits"):
        refund(amount)
        before = figures(kit)
        kit.record("calls", "acme", 100)
    for _ in range(2):
        kit.flush()

    assert (meanwhile, then) == (before, figures(kit))
    assert [] == kit.audit_wallets()


def test_what_has_expired_is_not_owed(bought, refund, clock):
    """It was never used; only the rest was."""
    kit = bought(LARGE)
    kit.record("calls", "acme", 2_000)
    kit.flush()
    clock.advance(366 * 24 * 3600)
    kit.flush()
    refund()

    assert {"granted": "12000", "revoked": "12000", "uncovered": "2000"} == figures(kit)
    assert [] == kit.audit_wallets()


@pytest.mark.parametrize("by_hand", [1_000, 700])
def test_what_was_taken_back_by_hand_is_not_taken_twice(bought, refund, by_hand):
    """Whoever refunds a payment may have done that before."""
    kit = bought()
    (grant,) = kit.balance("acme", "credits").grants
    kit.revoke("acme", "credits", grant.id, amount=by_hand)
    refund()

    assert {"granted": "1000", "revoked": "1000"} == figures(kit)
    assert [] == kit.audit_wallets()


def test_a_correction_after_a_refund(bought, refund):
    """What was refunded is not given back a second time; first, less is uncovered, and the rest is given back."""
    kit = bought()
    at = datetime.fromtimestamp(kit.clock(), timezone.utc)
    kit.record("calls", "acme", 200)
    kit.flush()
    refund()
    kit.correct("calls", "acme", 150, at=at, reason="outage")
    first = figures(kit)
    kit.grant("acme", "credits", 30)
    kit.record("calls", "acme", 30)
    kit.flush()
    kit.correct("calls", "acme", 40, at=at, reason="outage")
    second = figures(kit)
    kit.correct("calls", "acme", 25, at=at, reason="outage")

    assert {"granted": "1000", "revoked": "1000", "uncovered": "50"} == first
    assert {"granted": "1030", "revoked": "1000", "spent": "30", "uncovered": "10"} == second
    assert {"granted": "1030", "revoked": "1000", "spent": "15", "left": "15"} == figures(kit)
    assert [] == kit.audit_wallets()
