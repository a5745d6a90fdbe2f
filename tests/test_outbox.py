"""The outbox: a report is written before it is sent, never changed, and its fate is never guessed."""

from __future__ import annotations

import pytest

from meterkit.database import Database
from meterkit.ledger import Ledger
from meterkit.outbox import LeaseLostError, Outbox

WINDOW = 1_772_366_400  # conftest's NOON: the clock stands in this window
HOUR = 3600


@pytest.fixture
def database(tmp_path):
    """An empty ledger's database."""
    return Database(f"sqlite:///{tmp_path}/ledger.sqlite")


@pytest.fixture
def ledger(database, clock):
    """The ledger in it."""
    return Ledger(database, clock=clock)


@pytest.fixture
def outbox(database, clock):
    """The outbox of the same ledger."""
    return Outbox(database, clock=clock)


@pytest.fixture
def lease(outbox):
    """The right to report."""
    return outbox.acquire("me")


def fold(ledger, generation, quantity, *, company="cus_1", user="", window=WINDOW, last_used=WINDOW + 10):
    ledger.fold(generation, [(("calls", "calls", company, user, window), quantity, last_used)])


def test_sealing_writes_what_is_to_be_sent(ledger, outbox, lease, clock):
    """Quantity of all users, last usage, and a state in which it was never sent."""
    fold(ledger, "g1", 2, user="anna", last_used=WINDOW + 10)
    fold(ledger, "g2", 3, user="bert", last_used=WINDOW + 20)
    clock.advance(HOUR)

    outbox.seal(lease)

    (report,) = outbox.pending()
    assert (5, WINDOW + 20, "cus_1", 0) == (report.quantity, report.timestamp, report.customer, report.attempts)


def test_sealing_again_finds_nothing(ledger, outbox, lease, clock):
    """What stands in a report is not reported again."""
    fold(ledger, "g1", 2)
    clock.advance(HOUR)

    assert [1, 0, 0] == [outbox.seal(lease), outbox.seal(lease), outbox.seal(lease, include_open=True)]


def test_the_identifier_says_which_row_it_is(ledger, outbox, lease, clock, tmp_path):
    """No two rows share it, also in different ledgers; so it is never taken for another's."""
    for number, company in enumerate(["cus_1", "cus_2"]):
        fold(ledger, f"g{number}", 2, company=company)
        fold(ledger, f"h{number}", 2, company=company, window=WINDOW + HOUR, last_used=WINDOW + HOUR)
    clock.advance(2 * HOUR)
    outbox.seal(lease)
    fold(ledger, "late", 1)
    outbox.seal(lease)
    other = Database(f"sqlite:///{tmp_path}/other.sqlite")
    fold(Ledger(other, clock=clock), "g0", 2)
    elsewhere = Outbox(other, clock=clock)
    elsewhere.seal(elsewhere.acquire("me"))

    identifiers = [report.identifier for report in [*outbox.pending(), *elsewhere.pending()]]

    assert 6 == len(identifiers) == len(set(identifiers))


def test_a_restored_ledger_makes_the_same_identifiers(ledger, outbox, lease, clock, tmp_path):
    """From a backup, a row that was sent before is refused by Stripe as a duplicate, not billed twice."""
    fold(ledger, "g1", 2)
    backup = (tmp_path / "ledger.sqlite").read_bytes()
    clock.advance(HOUR)
    outbox.seal(lease)
    (before,) = outbox.pending()

    (tmp_path / "ledger.sqlite").write_bytes(backup)
    outbox.seal(outbox.acquire("me"))

    (after,) = outbox.pending()
    assert before.identifier == after.identifier


def test_the_timestamp_stays_inside_its_window(ledger, outbox, lease, clock):
    """Whatever the clock did, usage lands in the period in which the window lies."""
    fold(ledger, "g1", 2, last_used=WINDOW + 2 * HOUR)
    fold(ledger, "g2", 2, company="cus_2", last_used=WINDOW - 5)
    clock.advance(HOUR)

    outbox.seal(lease)

    assert [WINDOW + HOUR - 1, WINDOW] == [report.timestamp for report in outbox.pending()]


def test_only_one_holds_the_lease(outbox):
    """Another gets it when the first has let go."""
    mine = outbox.acquire("me")

    assert outbox.acquire("you") is None

    outbox.release(mine)
    assert outbox.acquire("you") is not None


def test_a_lease_expires_with_its_holder(outbox, clock):
    """A reporter that died is replaced after a minute."""
    outbox.acquire("me")

    clock.advance(61)

    assert outbox.acquire("you") is not None


def test_who_has_lost_the_lease_writes_nothing(ledger, outbox, lease, clock):
    """A reporter that slept through its lease cannot overwrite what its successor knows."""
    fold(ledger, "g1", 2)
    clock.advance(HOUR)
    outbox.seal(outbox.acquire("me"))
    (report,) = outbox.pending()
    clock.advance(61)
    successor = outbox.acquire("you")
    outbox.settle(successor, outbox.begin(successor, report), "sent")

    for write in (
        lambda: outbox.seal(lease),
        lambda: outbox.begin(lease, report),
        lambda: outbox.settle(lease, report, "rejected"),
        lambda: outbox.postpone(lease, report, error="", unknown_since=None, refused=False),
    ):
        fold(ledger, f"more-{write}", 1)
        with pytest.raises(LeaseLostError):
            write()

    assert ["sent"] == [each.state for each in outbox.reports()]


def test_every_write_renews_the_lease(ledger, outbox, lease, clock):
    """A long pass keeps it for as long as it works."""
    fold(ledger, "g1", 2)
    outbox.seal(lease, include_open=True)
    (report,) = outbox.pending()
    for _ in range(10):
        clock.advance(59)
        report = outbox.begin(lease, report)

    assert outbox.acquire("you") is None


def test_from_the_first_attempt_on_the_outcome_is_unknown(ledger, outbox, lease, clock):
    """That is written before anything is sent, so a crash in between is remembered."""
    fold(ledger, "g1", 2)
    outbox.seal(lease, include_open=True)
    (report,) = outbox.pending()

    outbox.begin(lease, report)
    clock.advance(10)
    (report,) = outbox.pending()
    outbox.begin(lease, report)

    (report,) = outbox.pending()
    assert (2, int(clock.now) - 10) == (report.attempts, report.unknown_since)


def test_a_link_that_changes_does_not_change_what_is_written(ledger, outbox, lease, clock):
    """A report keeps its customer; later usage goes to the new one."""
    ledger.link("acme", "cus_old")
    fold(ledger, "g1", 2, company="acme")
    clock.advance(HOUR)
    outbox.seal(lease := outbox.acquire("me"))

    ledger.link("acme", "cus_new")
    fold(ledger, "g2", 3, company="acme")
    outbox.seal(lease)

    assert [("cus_old", 2), ("cus_new", 3)] == [(report.customer, report.quantity) for report in outbox.pending()]
