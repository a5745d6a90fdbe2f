"""``meterkit wallet``."""

from __future__ import annotations

import json

import pytest
from cli_shell import meterkit
from fake_clock import NOON

pytestmark = pytest.mark.long

BILLING = f"""
from meterkit import Meter, MeterKit, Wallet

calls = Meter("calls", http=False, billable=False)
kit = MeterKit(
    meters=[calls],
    wallets=[Wallet("credits", unit="credits", spends={{calls: 1}})],
    clock=lambda: {NOON + 600},
)
"""


@pytest.fixture
def wallet(shop):
    """A function that runs a word of ``meterkit wallet`` in a shop, and returns its code and what it printed."""
    (shop / "billing.py").write_text(BILLING)

    def run(word, *arguments):
        return meterkit("wallet", word, "billing:kit", *arguments)

    return run


def test_the_life_of_a_grant(wallet):
    """Granted, shown, spent, taken back; as JSON, with exact amounts as text."""
    granted = wallet("grant", "acme", "credits", "12.50", "--key", "pay-1", "--by", "ann", "--json")
    repeated = wallet("grant", "acme", "credits", "12.50", "--key", "pay-1", "--by", "ann", "--json")
    taken = wallet("revoke", "acme", "credits", "pay-1", "--amount", "2.5", "--key", "re-1", "--by", "bob", "--json")
    balance = json.loads(wallet("balance", "acme", "credits", "--json")[1])
    entries = json.loads(wallet("entries", "acme", "credits", "--json")[1])

    assert granted == repeated
    assert (0, "12.5", None) == (granted[0], json.loads(granted[1])["amount"], json.loads(granted[1])["expires_at"])
    assert {"revoked": "2.5", "unit": "credits"} == json.loads(taken[1])
    assert ("12.5", "2.5", "10") == tuple(balance[name] for name in ("granted", "revoked", "left"))
    assert ["2026-03-01T12:10Z"] == [each["created_at"] for each in balance["grants"]]
    assert {("revocation", "-2.5", "re-1", "bob"), ("grant", "12.5", "pay-1", "ann")} == {
        (each["cause"], each["amount"], each["key"], each["by"]) for each in entries
    }


def test_for_people(wallet):
    """A line for each figure, grant and movement."""
    said = [
        wallet("grant", "acme", "credits", "1250", "--key", "pay-1", "--expires", "2027-01-01T00:00Z", "--by", "ann")
    ]
    said += [wallet("balance", "acme", "credits"), wallet("entries", "acme", "credits")]
    said += [wallet("revoke", "acme", "credits", "pay-1", "--by", "ann"), wallet("entries", "globex", "credits")]

    assert [0] * 5 == [code for code, _, _ in said]
    assert said[0][1].startswith(
        "Granted: 1,250 of 1,250 credits left, priority 50, expires 2027-01-01T00:00Z; manual by ann, 2026-03-01T12:10Z"
    )
    assert ["granted", "spent", "left"] == [line.split()[0] for line in said[1][1].splitlines()[:3]]
    assert "1,250 credits  grant, key pay-1, by ann" in said[2][1]
    assert "Taken back: 1,250 credits\n" == said[3][1]
    assert "No movements.\n" == said[4][1]
    assert (0, "The books of all wallets are right.\n", "") == meterkit("wallet", "audit", "billing:kit")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["grant", "acme", "credit", "1"], 2, "this kit has no wallet 'credit', only credits"),
        (["grant", "acme", "credits", "1e3"], 2, "amount must be an amount such as '10.00'"),
        (["grant", "acme", "credits", "0"], 2, "a grant must be more than 0"),
        (["grant", "acme", "credits", "1", "--priority", "101"], 2, "priority= must be an int from 0"),
        (["grant", "acme", "credits", "1", "--expires", "tomorrow"], 2, "must be a time with a time zone"),
        (["grant", "acme", "credits", "1", "--expires", "2020-01-01T00:00Z"], 1, "expires= is in the past"),
        (["revoke", "acme", "credits", "pay-1"], 1, "has no grant 'pay-1'"),
    ],
)
def test_what_is_wrong(wallet, arguments, code, said):
    """One line that says how to do it."""
    found, _, err = wallet(*arguments)

    assert code == found
    assert said in err


SPENDS = "spends={calls: 1}"
AGREEING = BILLING.replace(SPENDS, f"{SPENDS}, packs=[Pack('1,000', amount=1000, price=10)]").replace(
    "MeterKit, Wallet", "MeterKit, Pack, Wallet"
)


def test_a_top_up(shop, wallet):
    """Agreed to, shown and ended; what is wrong names the cure."""
    (shop / "billing.py").write_text(AGREEING)
    terms = ("--pack", "1,000", "--below", "200")
    before = wallet("top-up", "acme", "credits")
    unlinked = wallet("top-up", "acme", "credits", *terms)
    meterkit("link", "billing:kit", "acme", "cus_acme")
    half = wallet("top-up", "acme", "credits", "--pack", "1,000")
    agreed = wallet("top-up", "acme", "credits", *terms, "--most-per-month", "3", "--by", "ann")
    shown = json.loads(wallet("top-up", "acme", "credits", "--json")[1])
    ended = wallet("top-up", "acme", "credits", "--off", "--by", "ann")

    assert (0, "acme has never agreed to an automatic top-up of credits.\n") == before[:2]
    assert (1, 2) == (unlinked[0], half[0])
    assert "no Stripe customer pays for 'acme' yet" in unlinked[2]
    assert "say both" in half[2]
    assert "in force: 1,000 below 200 credits, 0 of at most 3 bought this month" in agreed[1]
    assert ("200", 3, True, None) == tuple(shown[name] for name in ("below", "most_per_month", "enabled", "next_at"))
    assert "not in force" in ended[1]
