"""What processes draw of exact quotas ahead: enough to ask the ledger seldom, and never more than there is."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from governed import CALLS, counted, held, rest
from guard import GUARD

from meterkit import LedgerError, Meter, Quota
from meterkit.slices.taken import ShortageError

TOKENS = Meter("tokens", path="/calls", value="tokens")
MANY = 1_000_000


@pytest.fixture
def transactions(monkeypatch):
    """A function that makes a list with an item for each transaction of a kit."""

    def of(governed):
        found, database = [], governed.kit.process().database()
        transaction = database.transaction

        def counted_transaction():
            found.append(1)
            return transaction()

        monkeypatch.setattr(database, "transaction", counted_transaction)
        return found

    return of


def test_a_request_asks_the_ledger_seldom(govern, pace, in_background, transactions):
    """The more a company uses, the more is drawn at once."""
    kit = govern(Quota(CALLS, MANY, exact=True))
    written = transactions(kit)

    assert 2_000 == kit.passed(2_000)
    assert len(written) <= 8
    assert 2_000 <= held(kit)[kit.lineage] < MANY


def test_more_is_drawn_in_the_background_before_the_slice_is_used_up(govern, pace, in_background, transactions):
    """So in the end no request waits for the ledger."""
    kit = govern(Quota(CALLS, MANY, exact=True))
    kit.passed(200)
    written = transactions(kit)
    for _ in range(500):
        kit.passed(10)
        while in_background:
            before = len(written)
            in_background.pop()()
            del written[before:]  # nobody has waited for it

    assert [] == written


def test_the_thread_that_draws_is_a_real_one(govern):
    """It ends when there is nothing left to draw."""
    kit = govern(Quota(CALLS, MANY, exact=True))
    kit.passed(500)

    rest(kit.kit)
    assert held(kit)[kit.lineage] >= 500


def test_nothing_is_drawn_ahead_of_what_is_nearly_used_up(govern, pace):
    """The last units are for whoever comes, in whichever process."""
    one, other = govern(Quota(CALLS, 15, exact=True)), govern(Quota(CALLS, 15, exact=True))
    passed = one.passed(9)

    assert (9, 0) == (passed, one.free())
    assert (6, 0) == (other.passed(10), one.passed(1))


def test_the_last_units_come_back_with_a_flush(govern, pace):
    """Until then, whoever finds none is told to come again soon, and not in the next period."""
    one, other = govern(Quota(CALLS, 10, exact=True)), govern(Quota(CALLS, 10, exact=True))
    under_way = [one.begin() for _ in range(10)]
    for each in under_way[:4]:
        one.end(each, status=500)  # counts nothing
    refused = other.passed(1)
    soon = other.refusal.headers
    one.kit.flush()
    then = other.passed(9)
    for each in under_way[4:]:
        one.end(each)

    assert (0, 4) == (refused, then)
    assert ("Retry-After", "10") in list(soon)
    assert (0, 0) == (one.passed(1), other.passed(1))
    assert ("Retry-After", "10") not in list(other.refusal.headers) or held(one) != {}
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, 10) == (held(one), counted(one))


def test_what_is_not_used_is_given_back(govern, pace, in_background):
    """Of a company that sends nothing from one flush to the next, all."""
    kit = govern(Quota(CALLS, MANY, exact=True))
    kit.passed(300)
    kit.kit.flush()
    after_use = kit.free()
    kit.kit.flush()
    kit.kit.flush()

    assert 0 < after_use <= 600
    assert (0, {}) == (kit.free(), held(kit))
    assert {} == kit.slices._slices
    assert 1 == kit.passed(1)


@pytest.mark.parametrize("where", ["same", "other"])
def test_at_the_end_all_is_given_back(govern, pace, in_background, tmp_path, make_kit, where):
    """At once, so that another host needs not wait for one that never comes back."""
    ledger = f"sqlite:///{tmp_path}/ledger.sqlite"
    more = {} if where == "same" else {"data_dir": tmp_path / "other"}
    one = govern(Quota(CALLS, 2_000, exact=True), ledger=ledger)
    other = govern(Quota(CALLS, 2_000, exact=True), ledger=ledger, **more)
    one.passed(10)
    drawn = one.free()
    one.kit.close()
    make_kit(ledger=ledger).flush()

    assert drawn > 0
    assert 1_990 == other.passed(2_000)
    assert not [each for each in (tmp_path / "meterkit" / "journal").iterdir() if one.lineage in each.name]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["draw", "give_back"])
def test_a_commit_of_unknown_outcome_loses_nothing(govern, monkeypatch, when, what):
    """Whether or not it has succeeded: nothing is allowed for it, and nothing stays drawn."""
    one, other = govern(Quota(CALLS, 10, exact=True)), govern(Quota(CALLS, 10, exact=True))
    under_way = [one.begin() for _ in range(4)]
    database = one.kit.process().database()
    transaction = database.transaction

    @contextmanager
    def unknown():
        if when == "before":
            raise LedgerError("the connection broke")
        with transaction() as connection:
            yield connection
        raise LedgerError("the connection broke")

    if what == "give_back":
        for each in under_way:
            one.end(each, status=500)
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", unknown)
        with pytest.raises(LedgerError):
            one.slices.take("acme", "calls", 3) if what == "draw" else one.slices.give_back()
    for each in under_way:
        one.end(each)
    free = one.free()
    one.kit.flush()
    one.kit.flush()

    passed = 4 if what == "draw" else 0
    assert 0 == free
    assert ({}, passed) == (held(one), counted(one))
    assert 10 - passed == other.passed(20)


def test_a_quota_in_units_takes_what_a_request_probably_counts(govern):
    """By what the company's recent ones did; the first takes one."""
    one = govern(Quota(TOKENS, 2_000, exact=True), meters=(TOKENS,))
    other = govern(Quota(TOKENS, 2_000, exact=True), meters=(TOKENS,))
    assert 3 == one.passed(3, tokens=100)
    at_once = []
    while (exchange := one.begin()) is not None:
        at_once.append(exchange)

    assert 17 == len(at_once)
    assert None is one.begin()
    for each in at_once:
        one.end(each, tokens=100)
    assert 0 == one.passed(1)
    one.kit.flush()
    other.kit.flush()
    assert (0, 2_000) == (other.passed(1), counted(one))


def test_what_a_request_counts_beyond_is_taken_afterwards(govern):
    """And of what it does not count, others have the use at once. The last unit lets a request pass, as ever."""
    kit = govern(Quota(TOKENS, 1_000, exact=True), meters=(TOKENS,))
    kit.passed(1, tokens=400)
    first, second, third = kit.begin(), kit.begin(), kit.begin()

    assert [True, True, False] == [each is not None for each in (first, second, third)]
    kit.end(first, tokens=50)
    kit.end(second, tokens=500)
    last = kit.begin()  # 50 are left, and the median is 400
    assert (True, None) == (last is not None, kit.begin())
    kit.end(last, tokens=60)
    kit.kit.flush()
    assert (0, 1_010) == (kit.passed(1), counted(kit))


def test_usage_that_nobody_asked_for_comes_out_of_the_slice(govern, pace):
    """It is used, whoever may have wanted it."""
    one, other = govern(Quota(CALLS, 100, exact=True)), govern(Quota(CALLS, 100, exact=True))
    one.passed(20)
    one.kit.record(CALLS, "acme", 70)

    assert 10 == one.passed(30)
    assert 0 == other.passed(1)
    one.kit.flush()
    one.kit.flush()
    assert (0, 0, 100) == (one.passed(1), other.passed(1), counted(one))
    assert {} == held(one)


def test_usage_beyond_the_quota_is_counted_and_blocks_all(govern):
    """At once, in all processes, if the one that counts it has looked since."""
    one, other = govern(Quota(CALLS, 50, exact=True)), govern(Quota(CALLS, 50, exact=True))
    under_way = one.begin()
    one.kit.record(CALLS, "acme", 70)

    assert (0, 0) == (one.passed(1), other.passed(1))
    one.end(under_way)
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, 71) == (held(one), counted(one))
    assert (0, 0) == (one.passed(1), other.passed(1))


def test_what_was_drawn_yesterday_is_today_s(govern, clock, pace, in_background):
    """It was no more than a day's quota then, and is no more now."""
    one, other = (govern(Quota(CALLS, 400, per="day", exact=True)) for _ in range(2))
    one.passed(200)
    drawn = held(one)[one.lineage] - 200
    clock.advance(24 * 3600)
    one.kit.flush()  # what was counted yesterday is yesterday's usage only when it is in the ledger

    assert drawn > 0
    assert 400 == one.passed(300) + other.passed(400) + one.passed(400)
    for each in (one, other, one, other):
        each.kit.flush()
    assert ({}, 600) == (held(one), counted(one))


def test_a_company_without_a_limit_draws_nothing(govern):
    """However much it uses."""
    kit = govern(Quota(CALLS, lambda company: 3 if company == "acme" else None, exact=True))

    assert (3, 20) == (kit.passed(20), kit.passed(20, "globex"))
    assert 1 == len(held(kit))


def test_without_a_file_that_says_that_the_process_lives_nothing_is_drawn(govern, monkeypatch):
    """Others would not give back what it has drawn, or would while it lives."""
    kit = govern(Quota(CALLS, 2, exact=True))

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kit.kit.process().journal.lineage, "live", full)

    assert 5 == kit.passed(5)
    assert "No space left" in kit.kit.health()["problems"]["quota_not_exact"]["message"]
    assert {} == held(kit)


def test_a_deleted_file_is_made_again(govern, tmp_path):
    """Something else cleans up there."""
    kit = govern(Quota(CALLS, 10, exact=True))
    kit.passed(1)
    (file,) = (tmp_path / "meterkit" / "journal").glob("*.lineage")
    file.unlink()
    kit.passed(1)

    assert file.exists()


def test_units_are_released_or_settled(govern):
    """As a hold does that is taken for no request."""
    slices = govern(Quota(CALLS, 10, exact=True)).slices
    hold = slices.take("acme", "calls", 6)
    more = (hold.more(5), hold.more(4))
    with pytest.raises(ShortageError):
        slices.take("acme", "calls", 1)
    hold.settle(3)
    hold.release()

    assert (False, True) == more
    assert 10 == slices.take("acme", "calls", 10).quantity


def test_a_hold_of_a_request_is_settled_with_its_end(govern):
    """What it keeps until then is free, or used, once the request has been counted."""
    kit = govern(Quota(TOKENS, 100, exact=True), meters=(TOKENS,))
    exchange = kit.begin()
    hold = kit.slices.take("acme", "tokens", 80, exchange=exchange)
    hold.settle(30)
    (of_request, same) = kit.slices.taken_by(exchange, "acme", "tokens")

    assert (1, hold) == (of_request.quantity, same)
    assert 69 == kit.slices.take("acme", "tokens", 69).quantity
    kit.end(exchange, tokens=30)
    assert True is kit.slices.take("acme", "tokens", 1).more(0)
    with pytest.raises(ShortageError):
        kit.slices.take("acme", "tokens", 1)


def test_a_closed_kit_takes_nothing(govern):
    """The request passes, as wherever the ledger fails."""
    kit = govern(Quota(CALLS, 10, exact=True))
    slices = kit.slices
    kit.passed(3)
    kit.kit.close()

    with pytest.raises(LedgerError, match="closed"):
        slices.take("acme", "calls", 1)


def test_threads_share_a_slice(govern):
    """However they come by it, from memory or from the ledger, exactly as many pass as may."""
    one, other = (govern(Quota(CALLS, 300, exact=True)) for _ in range(2))
    passed = []

    def serve(governed):
        passed.append(governed.passed(100))

    working = [threading.Thread(target=serve, args=[each]) for each in (one, other) for _ in range(4)]
    for each in working:
        each.start()
    for each in working:
        each.join(GUARD)
    for each in (one, other):
        rest(each.kit)
    for each in (one, other, one, other):
        each.kit.flush()
    left = one.passed(300)  # what one had drawn and not used when the other was refused

    assert 300 == sum(passed) + left
    one.kit.flush()
    one.kit.flush()
    assert ({}, 300) == (held(one), counted(one))
