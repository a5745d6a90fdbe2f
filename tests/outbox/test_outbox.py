"""The outbox: a report is written before it is sent, never changed, and its fate is never guessed."""

from __future__ import annotations

import pytest

from meterkit.accounts.accounts import Accounts
from meterkit.ledger.database import Database
from meterkit.ledger.lease import LeaseLostError, acquire, release
from meterkit.ledger.ledger import Ledger
from meterkit.outbox.outbox import Outbox
from meterkit.outbox.seal import seal

WINDOW = 1_772_366_400  # conftest's NOON: the clock stands in this window
HOUR = 3600


@pytest.fixture
def database(tmp_path):
    """An empty ledger's database."""
    return Database(f"sqlite:///{tmp_path}/ledger.sqlite", customer_ids=True)


@pytest.fixture
def ledger(database, clock):
    """The ledger in it."""
    return Ledger(database, clock=clock)


@pytest.fixture
def accounts(database, clock):
    """Who pays, in the same ledger."""
    return Accounts(database, clock=clock)


@pytest.fixture
def outbox(database, clock):
    """The outbox of the same ledger."""
    return Outbox(database, clock=clock)


@pytest.fixture
def take(database, clock):
    """A function that asks for the right to report."""
    return lambda holder: acquire(database, "reporter", holder, clock=clock)


@pytest.fixture
def lease(take):
    """The right to report."""
    return take("me")


@pytest.fixture
def sealed(database, clock):
    """A function that seals what is due, and says how many reports that made."""
    return lambda lease, **options: seal(database, lease, clock=clock, **options)


def fold(ledger, generation, quantity, *, company="cus_1", user="", window=WINDOW, last_used=WINDOW + 10):
    ledger.fold(generation, [(("calls", "calls", company, user, window), quantity, last_used)])


def test_sealing_writes_what_is_to_be_sent(ledger, outbox, lease, clock, sealed):
    """Quantity of all users, last usage, and a state in which it was never sent."""
    fold(ledger, "g1", 2, user="anna", last_used=WINDOW + 10)
    fold(ledger, "g2", 3, user="bert", last_used=WINDOW + 20)
    clock.advance(HOUR)

    sealed(lease)

    (report,) = outbox.pending()
    assert (5, WINDOW + 20, "cus_1", 0) == (report.quantity, report.timestamp, report.customer, report.attempts)


def test_sealing_again_finds_nothing(ledger, lease, clock, sealed):
    """What stands in a report is not reported again."""
    fold(ledger, "g1", 2)
    clock.advance(HOUR)

    assert [1, 0, 0] == [sealed(lease), sealed(lease), sealed(lease, include_open=True)]


def test_the_identifier_says_which_row_it_is(ledger, outbox, lease, clock, tmp_path, sealed):
    """No two rows share it, also in different ledgers; so it is never taken for another's."""
    for number, company in enumerate(["cus_1", "cus_2"]):
        fold(ledger, f"g{number}", 2, company=company)
        fold(ledger, f"h{number}", 2, company=company, window=WINDOW + HOUR, last_used=WINDOW + HOUR)
    clock.advance(2 * HOUR)
    sealed(lease)
    fold(ledger, "late", 1)
    sealed(lease)
    other = Database(f"sqlite:///{tmp_path}/other.sqlite", customer_ids=True)
    fold(Ledger(other, clock=clock), "g0", 2)
    elsewhere = Outbox(other, clock=clock)
    seal(other, acquire(other, "reporter", "me", clock=clock), clock=clock)

    identifiers = [report.identifier for report in [*outbox.pending(), *elsewhere.pending()]]

    assert 6 == len(identifiers) == len(set(identifiers))


def test_a_restored_ledger_makes_the_same_identifiers(ledger, outbox, lease, clock, tmp_path, take, sealed):
    """From a backup, a row that was sent before is refused by Stripe as a duplicate, not billed twice."""
    fold(ledger, "g1", 2)
    backup = (tmp_path / "ledger.sqlite").read_bytes()
    clock.advance(HOUR)
    sealed(lease)
    (before,) = outbox.pending()

    (tmp_path / "ledger.sqlite").write_bytes(backup)
    sealed(take("me"))

    (after,) = outbox.pending()
    assert before.identifier == after.identifier


def test_the_timestamp_stays_inside_its_window(ledger, outbox, lease, clock, sealed):
    """Whatever the clock did, usage lands in the period in which the window lies."""
    fold(ledger, "g1", 2, last_used=WINDOW + 2 * HOUR)
    fold(ledger, "g2", 2, company="cus_2", last_used=WINDOW - 5)
    clock.advance(HOUR)

    sealed(lease)

    assert [WINDOW + HOUR - 1, WINDOW] == [report.timestamp for report in outbox.pending()]


def test_only_one_holds_the_lease(take, database):
    """Another gets it when the first has let go."""
    mine = take("me")

    assert take("you") is None

    release(database, mine)
    assert take("you") is not None


def test_a_lease_expires_with_its_holder(clock, take):
    """A reporter that died is replaced after a minute."""
    take("me")

    clock.advance(61)

    assert take("you") is not None


def test_who_has_lost_the_lease_writes_nothing(ledger, outbox, lease, clock, take, sealed):
    """A reporter that slept through its lease cannot overwrite what its successor knows."""
    fold(ledger, "g1", 2)
    clock.advance(HOUR)
    sealed(take("me"))
    (report,) = outbox.pending()
    clock.advance(61)
    successor = take("you")
    outbox.settle(successor, outbox.begin(successor, [report], now=int(clock.now)), "sent")

    for write in (
        lambda: sealed(lease),
        lambda: outbox.begin(lease, [report], now=int(clock.now)),
        lambda: outbox.settle(lease, [report], "rejected"),
        lambda: outbox.note(lease, [report], error="", unknown_since=None),
        lambda: outbox.mark_old_uncertain(lease, now=int(clock.now)),
    ):
        fold(ledger, f"more-{write}", 1)
        with pytest.raises(LeaseLostError):
            write()

    assert ["sent"] == [each.state for each in outbox.reports()]


def test_every_write_renews_the_lease(ledger, outbox, lease, clock, take, sealed):
    """A long pass keeps it for as long as it works."""
    fold(ledger, "g1", 2)
    sealed(lease, include_open=True)
    (report,) = outbox.pending()
    for _ in range(10):
        clock.advance(59)
        (report,) = outbox.begin(lease, [report], now=int(clock.now))

    assert take("you") is None


def test_from_the_first_attempt_on_the_outcome_is_unknown(ledger, outbox, lease, clock, sealed):
    """That is written before anything is sent, so a crash in between is remembered."""
    fold(ledger, "g1", 2)
    sealed(lease, include_open=True)
    (report,) = outbox.pending()

    outbox.begin(lease, [report], now=int(clock.now))
    clock.advance(10)
    (report,) = outbox.pending()
    outbox.begin(lease, [report], now=int(clock.now))

    (report,) = outbox.pending()
    assert (2, int(clock.now) - 10) == (report.attempts, report.unknown_since)


def test_a_link_that_changes_does_not_change_what_is_written(ledger, accounts, outbox, lease, clock, take, sealed):
    """A report keeps its customer; later usage goes to the new one."""
    accounts.link("acme", "cus_old")
    fold(ledger, "g1", 2, company="acme")
    clock.advance(HOUR)
    sealed(lease := take("me"))

    accounts.link("acme", "cus_new")
    fold(ledger, "g2", 3, company="acme")
    sealed(lease)

    assert [("cus_old", 2), ("cus_new", 3)] == [(report.customer, report.quantity) for report in outbox.pending()]
