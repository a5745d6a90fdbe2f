"""What usage spends: which grant first, what expires, what is not covered; and that the books agree."""

from __future__ import annotations

import argparse
import random
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from test_wallet_grants import at
from thorough import first
from wallet_kits import CALLS, figures

from meterkit import Meter, UsageError, Wallet
from meterkit.access_logs.command import add_arguments, tail
from meterkit.ledger import schema
from meterkit.wallets.audit import mistakes


def used(kit, quantity, meter="calls", company="acme", **about):
    """Count usage, and move it to the ledger."""
    kit.record(meter, company, quantity, **about)
    kit.flush()


def remaining(kit):
    """What remains of each grant, by key."""
    return {each.key: str(each.remaining) for each in kit.balance("acme", "credits").grants}


def wrong(kit):
    """What the audit finds, and health beyond the key that these kits lack."""
    return [*mistakes(kit.process().database()), *kit.health()["attention"][:-1]]


def test_usage_spends_at_its_rate(prepaid):
    """Exactly, in both wallets, and of that company alone."""
    kit = prepaid()
    for company in ("acme", "globex"):
        kit.grant(company, "credits", 100)
        kit.grant(company, "money", "1.00")
    used(kit, 3)
    used(kit, 7, "tokens")
    used(kit, 123_457, "images")

    assert {"granted": "100", "spent": "4.75", "left": "95.25"} == figures(kit)
    assert {"granted": "1", "spent": "0.246914", "left": "0.753086"} == figures(kit, wallet="money")
    assert {"granted": "100", "left": "100"} == figures(kit, "globex")
    assert [] == wrong(kit)


def test_the_order_of_grants(prepaid, clock):
    """The lowest priority, then what expires sooner, then what is older."""
    kit = prepaid()
    soon, later = at(clock() + 1000), at(clock() + 2000)
    for key, about in {
        "never": {},
        "later": {"expires": later},
        "soon": {"expires": soon},
        "last": {"priority": 51, "expires": soon},
        "first": {"priority": 0, "expires": later},
    }.items():
        clock.advance(1)
        kit.grant("acme", "credits", 10, key=key, **about)
    clock.advance(1)
    kit.grant("acme", "credits", 10, key="newest")

    order = []
    for _ in range(6):
        before = set(remaining(kit))
        used(kit, 10)
        order += before - set(remaining(kit))

    assert ["first", "soon", "later", "never", "newest", "last"] == order
    assert [] == wrong(kit)


def test_one_use_of_several_grants(prepaid):
    """A fold takes as many as it needs."""
    kit = prepaid()
    for number in range(3):
        kit.grant("acme", "credits", 10, key=f"pay-{number}", priority=number)
    used(kit, 25)

    assert {"pay-2": "5"} == remaining(kit)
    (usage,) = [each for each in kit.wallet_entries("acme", "credits") if each.cause == "usage"]
    assert ("-25", "calls", 25, 3) == (str(usage.amount), usage.meter, usage.quantity, len(usage.grants))


def test_what_expires(prepaid, clock):
    """At that second it cannot be spent, before any flush has written it; and the flush writes it once."""
    kit = prepaid()
    kit.grant("acme", "credits", 10, key="short", expires=at(clock() + 100))
    kit.grant("acme", "credits", 5, key="long")
    used(kit, 3)
    clock.advance(100)
    at_once = figures(kit)
    used(kit, 7)
    again = prepaid()
    again.flush()

    assert {"granted": "15", "spent": "3", "expired": "7", "left": "5"} == at_once
    assert {"granted": "15", "spent": "8", "expired": "7", "uncovered": "2"} == figures(kit)
    assert ["expiry", "grant", "grant", "usage"] == sorted(each.cause for each in kit.wallet_entries("acme", "credits"))
    assert [] == mistakes(kit.process().database())


def test_a_flush_writes_what_has_expired(prepaid, clock):
    """Even if nobody uses anything."""
    prepaid().grant("acme", "credits", 10, expires=at(clock() + 100))
    clock.advance(100)
    kit = prepaid()
    kit.flush()

    assert ["expiry", "grant"] == [each.cause for each in kit.wallet_entries("acme", "credits")]
    assert {"granted": "10", "expired": "10"} == figures(kit)


def test_what_a_balance_does_not_cover(prepaid):
    """It is counted, and named; the balance is 0, never less, and a later grant is not taken for it."""
    kit = prepaid()
    kit.grant("acme", "credits", 10)
    used(kit, 12)
    (said,) = kit.health()["attention"][:-1]
    kit.grant("acme", "credits", 3)
    used(kit, 1)

    assert "'acme' has used 2 credits more than the wallet credits covered" in said
    assert {"granted": "13", "spent": "11", "left": "2", "uncovered": "2"} == figures(kit)
    assert [] == mistakes(kit.process().database())


def test_what_is_not_covered_is_said_for_a_while(prepaid, clock):
    """Nothing can cover it any more, so after 35 days the kit is well again; the balance still has it."""
    kit = prepaid()
    used(kit, 12)
    clock.advance(34 * 24 * 3600)
    used(kit, 1, company="globex")
    first = [each for each in kit.health()["attention"] if "more than the wallet" in each]
    clock.advance(2 * 24 * 3600)
    then = [each for each in kit.health()["attention"] if "more than the wallet" in each]

    assert [["'acme' has used 12", "'globex' has used 1"], ["'globex' has used 1"]] == [
        [each.split(" credits")[0] for each in said] for said in (first, then)
    ]
    assert {"uncovered": "12"} == figures(kit)


def test_usage_without_a_company(make_kit):
    """It is of nobody's balance."""
    kit = make_kit(CALLS, wallets=[CREDITS_OF_CALLS])
    kit.grant("acme", "credits", 10)
    kit._supervisor.count([(("calls", "", "", "", int(kit.clock()) // 3600 * 3600), 5)], kit.clock())
    kit.flush()

    assert {"granted": "10", "left": "10"} == figures(kit)
    assert [] == mistakes(kit.process().database())


CREDITS_OF_CALLS = Wallet("credits", unit="credits", spends={CALLS: 1})


def test_usage_of_shadow_mode(prepaid):
    """Another program bills it, so it spends nothing."""
    kit = prepaid(shadow=datetime(2026, 3, 1, 13, tzinfo=timezone.utc))
    kit.grant("acme", "credits", 10)
    used(kit, 5)
    kit.clock.advance(3600)
    used(kit, 2)

    assert {"granted": "10", "spent": "2", "left": "8"} == figures(kit)


def test_a_meter_that_had_usage_before(make_kit, prepaid):
    """It was paid for in another way; the books know."""
    before = make_kit(CALLS)
    used(before, 100)
    kit = prepaid()
    kit.grant("acme", "credits", 10)
    used(kit, 4)

    assert {"granted": "10", "spent": "4", "left": "6"} == figures(kit)
    assert [] == wrong(kit)


def test_a_company_has_few_rows(prepaid, clock):
    """One movement for each meter and day, however often it is flushed."""
    kit = prepaid()
    kit.grant("acme", "credits", 1_000)
    for _ in range(20):
        used(kit, 1)
        used(kit, 4, "tokens")
        clock.advance(3600)
    with kit.process().database().snapshot() as connection:
        rows = connection.scalar(sa.select(sa.func.count()).select_from(schema.entries))

    assert 2 + 2 * 2 * 2 == rows
    assert {"granted": "1000", "spent": "40", "left": "960"} == figures(kit)
    assert [] == wrong(kit)


def test_usage_of_the_past(prepaid, clock):
    """It spends today's balance, in the row of its own day."""
    kit = prepaid()
    kit.grant("acme", "credits", 10)
    used(kit, 4, at=at(clock()) - timedelta(days=3))

    assert {"granted": "10", "spent": "4", "left": "6"} == figures(kit)
    assert [] == wrong(kit)


@pytest.mark.parametrize("seed", first([0, 1], among=range(20)))
def test_every_order_of_everything(prepaid, clock, seed):
    """What was granted is what is left, spent, expired and taken back; and the entries agree, all the time."""
    chance = random.Random(seed)
    kits = [prepaid(), prepaid()]
    made = []
    for step in range(30):
        kit = chance.choice(kits)
        wallet = chance.choice(["credits", "money"])
        what = chance.choice(["grant", "use", "use", "use", "wait", "revoke"])
        if what == "grant":
            expires = chance.choice([None, at(clock() + chance.randint(1, 20_000))])
            about = {"key": f"pay-{step}", "expires": expires, "priority": chance.randint(0, 3)}
            amount = chance.choice(["1", "12.345678", "0.000001", "250"])
            made.append((wallet, kit.grant("acme", wallet, amount, **about)))
        elif what == "use":
            meter = chance.choice(["calls", "tokens", "images"])
            kit.record(meter, "acme", chance.randint(1, 40))
            if chance.random() < 0.5:
                kit.flush()
        elif what == "wait":
            clock.advance(chance.randint(1, 40_000))
        elif made:
            wallet, grant = chance.choice(made)
            kit.revoke("acme", wallet, grant.id)
        assert [] == mistakes(kit.process().database())
        for wallet in ("credits", "money"):
            found = kit.balance("acme", wallet)
            assert found.left == found.granted - found.spent - found.expired - found.revoked >= 0
    for kit in kits:
        kit.flush()
    used = {name: sum(row.quantity for row in kit.usage(meter=name)) for name in ("calls", "tokens", "images")}
    points, money = kit.balance("acme", "credits"), kit.balance("acme", "money")

    assert used["calls"] * 4 + used["tokens"] == 4 * (points.spent + points.uncovered)
    assert used["images"] * 2 == 1_000_000 * (money.spent + money.uncovered)
    assert [] == mistakes(kit.process().database())


@pytest.mark.parametrize("reversed_", [1, 4, 12, 15])
def test_usage_that_is_reversed(prepaid, stripe, reversed_):
    """What it has spent is given back, to the grants that it was taken from; first what nothing had covered."""
    kit = prepaid(stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.grant("acme", "credits", 10, key="first", priority=0)
    kit.grant("acme", "credits", 3, key="second")
    used(kit, 15)
    kit.correct("calls", "acme", reversed_, at=at(kit.clock()), reason="outage")
    found = kit.balance("acme", "credits")

    assert max(15 - reversed_ - 13, 0) == found.uncovered
    assert min(15 - reversed_, 13) == found.spent
    assert 13 - found.spent == found.left
    assert [] == mistakes(kit.process().database())


def test_usage_that_is_imported(prepaid, tmp_path):
    """It spends like any other; what others have reported to Stripe cannot be paid for ahead."""
    kit = prepaid()
    kit.grant("acme", "credits", 10)
    path = tmp_path / "usage.csv"
    path.write_text("meter,company,quantity,at\ncalls,acme,4,2026-03-01T10:00Z\n")
    for _ in range(2):
        kit.backfill(path)
    with pytest.raises(UsageError, match="calls is spent from a wallet"):
        kit.backfill(path, already_reported=True)

    assert {"granted": "10", "spent": "4", "left": "6"} == figures(kit)
    assert [] == wrong(kit)


def test_usage_of_access_logs(make_kit, tmp_path):
    """A gateway's log spends, too."""
    path = tmp_path / "access.log"
    path.write_text(
        '{"time": "2026-03-01T12:00:01Z", "method": "GET", "path": "/v1", "status": 200, "who": "acme"}\n' * 3
    )
    calls = Meter("calls", path="/v1", billable=False)
    kit = make_kit(calls, wallets=[Wallet("credits", unit="credits", spends={calls: 2})], identify=lambda _: None)
    kit.grant("acme", "credits", 10)
    arguments = argparse.ArgumentParser()
    add_arguments(arguments)
    tail(lambda: kit, arguments.parse_args([str(path), "--company-field", "who", "--once"]), print)

    assert {"granted": "10", "spent": "6", "left": "4"} == figures(kit)
    assert [] == mistakes(kit.process().database())
