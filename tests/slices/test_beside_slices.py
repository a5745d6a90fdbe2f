"""What is counted beside what processes draw: keyed records, events, forked children, hosts whose clocks differ."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
from governed import CALLS, Governed, counted, held, rest
from served_events import Served, event

from meterkit import Governance, InsufficientBalanceError, LedgerError, Meter, Quota, Wallet

PAID = Meter("paid", path="/calls", billable=False)
CREDITS = Wallet("credits", unit="credits", spends={PAID: 1})


@pytest.fixture
def prepaid(make_kit):
    """A function that makes kits whose calls a wallet pays for."""

    def make(**options):
        return Governed(make_kit(PAID, wallets=[CREDITS], identify=lambda each: each.headers["x-company"], **options))

    return make


def flushed(*governed):
    """All that is drawn and not needed is given back."""
    for each in governed:
        rest(each.kit)
    for each in (*governed, *governed):
        each.kit.flush()


def fits(kit, quantity, **options):
    """Whether acme can hold so much."""
    try:
        with kit.hold("acme", quantity, **options):
            return True
    except InsufficientBalanceError:
        return False


def test_keyed_records_under_an_exact_quota(govern, pace):
    """They count once, take what nobody has drawn, and leave the rest of the quota to requests."""
    one, other = govern(Quota(CALLS, 100, exact=True)), govern(Quota(CALLS, 100, exact=True))
    passed = one.passed(20)
    for each in (one, other):
        each.kit.record(CALLS, "acme", 50, key="job-1")
    flushed(one, other)
    passed += other.passed(10) + one.passed(100) + other.passed(100)
    flushed(one, other)

    assert 50 == passed
    assert ({}, 100) == (held(one), counted(one))


def test_a_keyed_record_under_a_hold(govern):
    """It is not covered by the hold, which is given back; after the next flush, quotas know it."""
    one, other = govern(Quota(CALLS, 100, exact=True)), govern(Quota(CALLS, 100, exact=True))
    with one.kit.hold("acme", 60, meter=CALLS) as hold:
        one.kit.record(CALLS, "acme", 40, key="job-1")
        used = hold.used
        one.kit.flush()
        meanwhile = fits(other.kit, 1, meter=CALLS)
    flushed(one, other)

    assert (0, False) == (used, meanwhile)
    assert (False, True) == (fits(other.kit, 61, meter=CALLS), fits(other.kit, 60, meter=CALLS))
    assert 40 == counted(one)


def test_keyed_records_of_a_wallet(prepaid):
    """What others hold stays theirs; what a keyed record takes beyond the rest is not covered, once."""
    one, other = prepaid(), prepaid()
    one.kit.grant("acme", "credits", 100)
    with one.kit.hold("acme", 60, meter=PAID) as hold:
        for each in (one, other):
            each.kit.record(PAID, "acme", 50, key="job-1")
            each.kit.flush()
        hold.settle(60)
    flushed(one, other)
    found = one.kit.balance("acme", "credits")

    assert (100, 10, 0, 0) == (found.spent, found.uncovered, found.left, found.held)
    assert [] == one.kit.audit_wallets()


@pytest.mark.parametrize("paid_by", ["quota", "wallet"])
def test_usage_events_of_a_meter_that_is_limited(make_kit, paid_by):
    """Each counts, once, also beyond the limit; work that holds sees what is left after the next flush."""
    tokens = Meter("tokens", event_type="prompt", value="$.tokens", billable=paid_by == "quota")
    rules = {"governance": Governance(quotas=[Quota(tokens, 100, exact=True)])}
    if paid_by == "wallet":
        rules = {"wallets": [Wallet("credits", unit="credits", spends={tokens: 1})]}
    kit = make_kit(tokens, identify=lambda _: None, **rules)
    if paid_by == "wallet":
        kit.grant("acme", "credits", 100)
    service = Served(kit)
    for _ in range(2):
        service.post([event(number, tokens=20) for number in range(3)])
    kit.flush()
    left = fits(kit, 41, meter=tokens), fits(kit, 40, meter=tokens)
    with kit.hold("acme", 40, meter=tokens) as hold:
        service.post(event(3, tokens=70))
        hold.settle(40)
    for _ in range(3):
        kit.flush()

    assert (False, True) == left
    assert [("acme", None, 170)] == service.used()
    assert not fits(kit, 1, meter=tokens)
    if paid_by == "wallet":
        found = kit.balance("acme", "credits")
        assert (100, 70, 0, 0) == (found.spent, found.uncovered, found.left, found.held)
        assert [] == kit.audit_wallets()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_draws_for_itself(govern):
    """It has no part of what its parent holds, and what both count is within the quota."""
    parent = govern(Quota(CALLS, 50, exact=True))
    passed = parent.passed(5)
    under_way = [parent.begin() for _ in range(5)]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            own = Governed(parent.kit)
            os.write(writing, str(own.passed(20) * 100 + own.free()).encode())
            own.kit.close()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = int(pipe.read())
    _, status = os.waitpid(child, 0)
    for each in under_way:
        parent.end(each)
    passed += 5 + said // 100 + parent.passed(50)
    flushed(parent)
    passed += parent.passed(50)
    flushed(parent)

    assert (0, 20) == (status, said // 100)
    assert (50, {}, 50) == (passed, held(parent), counted(parent))


def test_hosts_whose_clocks_differ(prepaid, clock, tmp_path):
    """For one of them a grant has expired: what the other holds of it is spent, and covered."""
    ledger = f"sqlite:///{tmp_path}/ledger.sqlite"
    one = prepaid(ledger=ledger, data_dir=tmp_path / "one")
    ahead = prepaid(ledger=ledger, data_dir=tmp_path / "ahead", clock=lambda: clock() + 24 * 3600)
    one.kit.grant("acme", "credits", 100, key="short", expires=datetime.fromtimestamp(clock() + 3600, timezone.utc))
    one.kit.grant("acme", "credits", 10, key="long")
    with one.kit.hold("acme", 30, meter=PAID) as hold:
        seen = fits(ahead.kit, 11, meter=PAID), fits(ahead.kit, 10, meter=PAID)
        ahead.kit.flush()
        hold.settle(30)
    flushed(one, ahead)
    found = one.kit.balance("acme", "credits")

    assert (False, True) == seen
    assert (30, 70, 10, 0) == (found.spent, found.expired, found.left, found.uncovered)
    assert [] == one.kit.audit_wallets()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_revocation_of_which_nobody_knows_the_outcome(prepaid, monkeypatch, when):
    """Told again under its key, it takes back once."""
    kit = prepaid().kit
    kit.grant("acme", "credits", 100, key="pay-1")
    database = kit.process().database()
    transaction = database.transaction

    @contextmanager
    def unknown():
        with transaction() as connection:
            yield connection
            if when == "before":
                raise LedgerError("the connection broke before the commit")
        raise LedgerError("the connection broke after the commit")

    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", unknown)
        for work in (
            lambda: kit.revoke("acme", "credits", "pay-1", amount=40, key="refund-1"),
            lambda: kit.grant("acme", "credits", 7, key="pay-2"),
        ):
            with pytest.raises(LedgerError):
                work()
    again = [kit.revoke("acme", "credits", "pay-1", amount=40, key="refund-1") for _ in range(2)]
    kit.grant("acme", "credits", 7, key="pay-2")
    found = kit.balance("acme", "credits")

    assert [40, 40] == again
    assert (107, 40, 67) == (found.granted, found.revoked, found.left)
    assert [] == kit.audit_wallets()


def test_a_request_that_ends_after_its_kit_is_closed(prepaid):
    """It counts, and what it had taken is not spent by anybody else meanwhile."""
    one, other = prepaid(), prepaid()
    one.kit.grant("acme", "credits", 2)
    exchange = one.begin()
    one.kit.close()
    passed = other.passed(5)
    one.end(exchange)
    flushed(other)
    one.kit.flush()
    found = other.kit.balance("acme", "credits")

    assert 1 == passed
    assert (2, 0, 0) == (found.spent, found.uncovered, found.left)


def test_a_draw_that_outlasts_the_close(govern, make_kit, monkeypatch):
    """It waits for the ledger meanwhile, and another process gives back what was drawn: nothing is drawn after that."""
    one, other = govern(Quota(CALLS, 10, exact=True)), govern(Quota(CALLS, 10, exact=True))
    assert 1 == one.passed(1)
    runtime = one.kit.process()
    transaction = runtime.database().transaction

    def closed_meanwhile():
        monkeypatch.undo()
        runtime.journal.close()
        make_kit().flush()
        return transaction()

    monkeypatch.setattr(runtime.database(), "transaction", closed_meanwhile)
    with pytest.raises(LedgerError, match="is being closed"):
        one.slices.take("acme", "calls", 3)

    assert {} == held(other)
    assert 9 == other.passed(20)
