"""Requests under a wallet: blocked once its balance is used up, and never worth more than it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from governed import rest
from guard import GUARD
from plain_exchange import PlainExchange
from test_wallet_grants import at
from wallet_kits import figures

from meterkit import ConfigurationError, Governance, JetStream, Meter, UsageError, Wallet

CALLS = Meter("calls", path="/v1/*", billable=False)
CREDITS = Wallet("credits", unit="credits", spends={CALLS: 1})


@pytest.fixture
def make_app(make_kit):
    """A function that makes kits whose requests say whose they are."""

    def make(**options):
        about = {"identify": lambda exchange: exchange.headers.get("x-company"), "wallets": [CREDITS], **options}
        kit = make_kit(CALLS, **about)
        kit.governor.begin()
        assert kit.governor.ready.wait(GUARD)
        return kit

    return make


def ask(kit, company="acme", path="/v1/scores"):
    """The status of a request."""
    exchange = PlainExchange(path=path, headers={"x-company": company})
    exchange.publish(kit)
    blocked = kit.governor.check(exchange)
    if blocked is not None:
        kit.recorder.refuse(exchange)
        return blocked.status
    exchange.status = 200
    kit.recorder.close(exchange)
    exchange.retract()
    return 200


def asked(kit, times, **about):
    return [ask(kit, **about) for _ in range(times)]


def test_a_balance_that_is_used_up(make_app):
    """Exactly what was granted is served, and a grant opens it again."""
    kit = make_app()
    kit.grant("acme", "credits", 5)
    first = asked(kit, 7)
    kit.flush()
    empty = figures(kit)
    kit.grant("acme", "credits", 2)
    kit.flush()
    then = asked(kit, 3)
    kit.flush()

    assert [200] * 5 + [402] * 2 == first
    assert {"granted": "5", "spent": "5"} == empty
    assert [200, 200, 402] == then
    assert {"granted": "7", "spent": "7"} == figures(kit)
    assert [] == kit.audit_wallets()


def test_whom_it_does_not_concern(make_app):
    """Other paths, exempt ones; a company without grants has nothing."""
    kit = make_app(governance=Governance(exempt=["/v1/pay"]))
    found = [ask(kit, path="/health"), ask(kit, path="/v1/pay"), ask(kit)]

    assert [200, 200, 402] == found


def test_what_is_held_can_be_spent_after_it_expired(make_app, clock):
    """It was drawn before; the rest is lost, and nothing is uncovered."""
    kit = make_app()
    kit.grant("acme", "credits", 1_000, expires=at(clock() + 100))
    asked(kit, 20)
    rest(kit)
    kit.flush()
    held = kit.balance("acme", "credits").held
    clock.advance(100)
    after = kit.balance("acme", "credits")
    later = asked(kit, 1_000)
    kit.flush()
    found = kit.balance("acme", "credits")

    assert 0 <= held == after.held < 980
    assert (0, 1_000 - 20 - held) == (after.left, after.expired)
    assert held >= later.count(200)
    assert 402 == later[-1]
    assert 0 == found.uncovered
    assert found.left == found.granted - found.spent - found.expired - found.revoked - found.held == 0
    assert [] == kit.audit_wallets()


def test_what_is_held_is_not_taken_back(make_app):
    """A revocation leaves it, and says so."""
    kit = make_app()
    kit.grant("acme", "credits", 100, key="pay-1")
    asked(kit, 1)
    rest(kit)
    balance = kit.balance("acme", "credits")
    with pytest.raises(UsageError, match="held by processes"):
        kit.revoke("acme", "credits", "pay-1", amount=100)
    taken = kit.revoke("acme", "credits", "pay-1")
    kit.flush()

    assert 0 < balance.held
    assert balance.left == taken == 100 - balance.held
    assert 0 == kit.balance("acme", "credits").uncovered
    assert [] == kit.audit_wallets()


def test_two_processes(make_app):
    """Together they serve what was granted, whoever draws it."""
    kits = [make_app(), make_app()]
    kits[0].grant("acme", "credits", 50)
    found = [ask(kits[number % 2]) for number in range(40)]
    for _ in range(4):
        for kit in kits:
            rest(kit)
            kit.flush()
            found += asked(kit, 20)
    for kit in kits:
        rest(kit)
        kit.flush()

    assert 50 == found.count(200)
    assert {"granted": "50", "spent": "50"} == figures(kits[0])
    assert [] == kits[0].audit_wallets()


def test_a_wallet_needs_to_know_the_company(make_kit):
    """Before the app runs."""
    with pytest.raises(ConfigurationError, match=r"wallets= needs identify="):
        make_kit(CALLS, wallets=[CREDITS])


def test_a_wallet_and_jetstream(make_kit):
    """What is on its way to the ledger is not in the balance."""
    with pytest.raises(ConfigurationError, match="remove wallets=, or jetstream="):
        make_kit(CALLS, wallets=[CREDITS], identify=lambda _: "acme", jetstream=JetStream("nats://127.0.0.1:4222"))


def test_an_amount_is_decimal(make_app):
    """In whole units, exactly."""
    kit = make_app()
    kit.grant("acme", "credits", "0.1")

    assert Decimal("0.1") == kit.balance("acme", "credits").left
    assert 402 == ask(kit)


def test_what_nothing_has_asked_for_takes_nothing_that_is_held(make_app):
    """What a process holds is covered when it is used, although another has recorded more than was left."""
    serving, recording = make_app(), make_app()
    serving.grant("acme", "credits", 100)
    asked(serving, 30)
    recording.record("calls", "acme", 100)
    recording.flush()
    found = serving.balance("acme", "credits")
    # Only now is it certain: until nothing is left, the process goes on drawing in the background.
    held = found.held
    more = asked(serving, 100).count(200)
    serving.flush()

    assert 30 < held < 100
    assert (100 - held, held, 0) == (found.spent, found.uncovered, found.left)
    assert int(held) == 30 + more
    found = serving.balance("acme", "credits")
    assert (100 - held + int(held), held) == (found.spent, found.uncovered)
    assert [] == serving.audit_wallets()


def test_what_is_held_of_an_expired_grant_is_spent_first(make_app, clock):
    """Whatever the priorities: the rest of it would be lost."""
    kit = make_app()
    kit.grant("acme", "credits", 100, key="old", expires=at(clock() + 100))
    asked(kit, 30)
    kit.grant("acme", "credits", 100, key="new", priority=0)
    clock.advance(100)
    kit.flush()

    assert {"new": 100} == {each.key: each.remaining for each in kit.balance("acme", "credits").grants}
    assert [] == kit.audit_wallets()
