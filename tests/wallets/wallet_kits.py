"""Meters that are paid for ahead, and wallets that pay for them."""

from __future__ import annotations

import pytest

from meterkit import Meter, Wallet

CALLS = Meter("calls", http=False, billable=False)
TOKENS = Meter("tokens", http=False, billable=False)
IMAGES = Meter("images", http=False, billable=False)

CREDITS = Wallet("credits", unit="credits", spends={CALLS: 1, TOKENS: "0.25"})
MONEY = Wallet("money", currency="usd", spends={IMAGES: "0.000002"})


def figures(kit, company="acme", wallet="credits"):
    """What a balance says, without what is 0."""
    found = kit.balance(company, wallet)
    names = ("granted", "spent", "expired", "revoked", "held", "left", "uncovered")
    return {name: str(getattr(found, name)) for name in names if getattr(found, name)}


@pytest.fixture
def prepaid(make_kit):
    """A function that makes a kit with both wallets, or with others."""

    def make(*wallets, **options):
        return make_kit(CALLS, TOKENS, IMAGES, wallets=wallets or [CREDITS, MONEY], **options)

    return make
