"""Requests of companies that have paid ahead: allowed as long as the balance covers what they may count."""

from __future__ import annotations

import json

import pytest
from governed import Governed, held
from guard import tries
from plain_exchange import PlainExchange

from meterkit import Governance, LedgerError, Meter, Quota, Refusal, Wallet

CALLS = Meter("calls", path="/calls", billable=False)
TOKENS = Meter("tokens", path="/calls", value="tokens", billable=False)
CREDITS = Wallet("credits", unit="credits", spends={CALLS: "1", TOKENS: "0.01"})


def whose(exchange):
    return exchange.headers.get("x-company")


@pytest.fixture
def prepaid(make_kit):
    """A function that makes kits with a wallet, each of which has looked once; acme has some credits."""

    def make(amount="10", *, company="acme", **options):
        options = {"wallets": [CREDITS], "identify": whose, **options}
        kit = make_kit(CALLS, TOKENS, **options)
        if amount:
            kit.grant(company, "credits", amount, key="first")
        return Governed(kit)

    return make


def balance(governed, company="acme"):
    """What the ledger says: what remains, and what is held of it."""
    found = governed.kit.balance(company, "credits")
    return str(found.left), str(found.held)


def test_requests_are_allowed_up_to_the_balance(prepaid):
    """Then they get a 402 that says why, in all processes."""
    one, other = prepaid("10"), prepaid("")
    passed = (one.passed(6), other.passed(9), one.passed(1))
    refusal = one.refusal

    assert (6, 4, 0) == passed
    problem = json.loads(refusal.body)
    assert (402, "balance", "credits", "0") == (
        refusal.status,
        problem["reason"],
        problem["wallet"],
        problem["amount"],
    )
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, "0") == (held(one), balance(one)[0])


def test_a_grant_lets_them_pass_again(prepaid):
    """With the next request, in every process."""
    one, other = prepaid("1"), prepaid("")
    before = (one.passed(2), other.passed(2))
    other.kit.grant("acme", "credits", "3", key="second")

    assert (1, 0) == before
    assert (2, 1) == (one.passed(2), other.passed(2))


def test_a_company_without_a_wallet_has_nothing(prepaid):
    """Nobody has paid."""
    kit = prepaid("10")

    assert (0, 10) == (kit.passed(2, "globex"), kit.passed(12))


def test_what_a_request_has_used_is_taken_at_its_rate(prepaid):
    """And the next is allowed only if the balance covers what it will probably use."""
    kit = prepaid("10")
    first = kit.passed(1, tokens=200)  # 1 for the call and 2 for its tokens
    at_once = [kit.begin() for _ in range(4)]

    assert 1 == first
    assert [True, True, False, False] == [each is not None for each in at_once]
    for each in at_once[:2]:
        kit.end(each, tokens=100)
    kit.kit.flush()
    assert "3" == balance(kit)[0]
    assert 1 == kit.passed(3, tokens=200)


def test_exempt_paths_are_free(prepaid):
    """Whoever has nothing left must be able to pay."""
    kit = prepaid("0.5", governance=Governance(quotas=[], exempt=["/calls"], check=lambda *_: None))

    assert 3 == kit.passed(3)


def test_a_warning_blocks_nothing(prepaid):
    """What is used beyond the balance is named."""
    kit = prepaid("1", governance=Governance(mode="warn", check=lambda *_: None))

    assert 3 == kit.passed(3)
    kit.kit.flush()
    assert {"warn:balance": 2} == kit.kit.health()["stopped"]


def test_a_refusal_can_be_worded(prepaid):
    """As for each reason."""
    refusals = {"balance": Refusal(status=429, detail="Buy {wallet} at /buy.")}
    kit = prepaid("1", governance=Governance(refusals=refusals, check=lambda *_: None))

    assert 1 == kit.passed(2)
    assert (429, "Buy credits at /buy.") == (kit.refusal.status, json.loads(kit.refusal.body)["detail"])


def test_another_server_is_told_what_is_known(prepaid):
    """The first answer is from memory, and asks the ledger in the background; nothing is taken."""
    kit = prepaid("1")
    kit.passed(1)
    kit.kit.flush()

    def ahead():
        exchange = PlainExchange("GET", "/calls", headers={"x-company": "acme"})
        exchange.publish(kit.kit)
        return kit.kit.governor.check_ahead(exchange)

    first = ahead()
    assert None is first
    assert next(True for _ in tries() if ahead() is not None)
    assert 402 == ahead().status
    kit.kit.grant("acme", "credits", "5", key="more")
    kit.kit.flush()
    assert None is ahead()


def test_while_the_ledger_fails_requests_pass(prepaid, monkeypatch):
    """Nobody is blocked because of that; what the slice has is taken, and the rest is named."""
    kit = prepaid("3")
    kit.passed(1)

    def unreachable():
        raise LedgerError("away")

    with monkeypatch.context() as patch:
        patch.setattr(kit.kit.process().database(), "transaction", unreachable)
        assert 5 == kit.passed(5)
    assert "quota_not_exact" in kit.kit.health()["problems"]
    kit.kit.flush()
    kit.kit.flush()
    assert ({}, "0") == (held(kit), balance(kit)[0])


def test_recorded_usage_spends_the_slice_or_the_balance(prepaid):
    """It is not asked for; other processes have less."""
    one, other = prepaid("10"), prepaid("")
    one.kit.record(CALLS, "acme", 4)
    one.passed(1)

    assert (5, 0) == (other.passed(6), other.passed(1))
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, "0") == (held(one), balance(one)[0])


def test_a_quota_and_a_wallet_of_one_meter(prepaid):
    """Both have to cover a request, and what one has counted is in both."""
    quotas = [Quota(CALLS, 5, exact=True)]
    one, other = (prepaid("8" if first else "", governance=Governance(quotas=quotas)) for first in (True, False))
    one.kit.record(CALLS, "acme")
    passed = one.passed(2)
    one.kit.flush()
    passed += one.passed(1) + other.passed(4)

    assert (4, 429) == (passed, other.refusal.status)
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, "3") == (held(one), balance(one)[0])
