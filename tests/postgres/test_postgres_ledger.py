"""The specification of the ledger and the outbox, which stands in `test_ledger` and `test_outbox`, on PostgreSQL."""

from __future__ import annotations

import random

import psycopg
import pytest
from test_ledger import (
    test_a_generation_is_folded_once,
    test_a_generation_may_have_a_cell_twice,
    test_a_journal_file_that_is_folded_is_not_counted_twice,
    test_a_link_is_shown_and_can_be_changed,
    test_the_books_say_where_usage_is,
    test_usage_can_be_asked_for_in_parts,
    test_usage_is_kept_by_meter_company_user_and_window,
)
from test_outbox import (
    accounts,
    fold,
    lease,
    ledger,
    outbox,
    sealed,
    take,
    test_a_link_that_changes_does_not_change_what_is_written,
    test_from_the_first_attempt_on_the_outcome_is_unknown,
    test_only_one_holds_the_lease,
    test_sealing_again_finds_nothing,
    test_sealing_writes_what_is_to_be_sent,
    test_the_timestamp_stays_inside_its_window,
)

from meterkit import Meter
from meterkit.core.validation import MAX_ID_BYTES
from meterkit.ledger.database import Database
from meterkit.ledger.lease import LeaseLostError

pytestmark = pytest.mark.long

__all__ = [  # what pytest is to find here
    "accounts",
    "lease",
    "ledger",
    "outbox",
    "sealed",
    "take",
    "test_a_generation_is_folded_once",
    "test_a_generation_may_have_a_cell_twice",
    "test_a_journal_file_that_is_folded_is_not_counted_twice",
    "test_a_link_is_shown_and_can_be_changed",
    "test_a_link_that_changes_does_not_change_what_is_written",
    "test_from_the_first_attempt_on_the_outcome_is_unknown",
    "test_only_one_holds_the_lease",
    "test_sealing_again_finds_nothing",
    "test_sealing_writes_what_is_to_be_sent",
    "test_the_books_say_where_usage_is",
    "test_the_timestamp_stays_inside_its_window",
    "test_usage_can_be_asked_for_in_parts",
    "test_usage_is_kept_by_meter_company_user_and_window",
]


@pytest.fixture
def database(postgres_url):
    """An empty ledger's database."""
    return Database(postgres_url, customer_ids=True)


@pytest.fixture
def sql(postgres_url):
    """A function that asks the database itself."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection.execute


def test_a_lease_expires_with_its_holder(take, lease_expires):
    """A reporter that died is replaced after a minute."""
    take("me")

    lease_expires()

    assert take("you") is not None


def test_every_write_renews_the_lease(ledger, outbox, lease, clock, sealed, take, lease_expires):
    """A long pass keeps it for as long as it works."""
    fold(ledger, "g1", 2)
    sealed(lease, include_open=True)
    (report,) = outbox.pending()
    for _ in range(3):
        lease_expires()
        (report,) = outbox.begin(lease, [report], now=int(clock.now))

    assert take("you") is None


def test_the_clock_of_a_host_does_not_move_the_lease(take, clock):
    """However far it is set ahead or back."""
    take("me")

    for step in (3600, -7200):
        clock.advance(step)
        assert take("you") is None


def test_who_has_lost_the_lease_writes_nothing(ledger, outbox, lease, clock, sealed, take, lease_expires):
    """A reporter that slept through its lease cannot overwrite what its successor knows."""
    fold(ledger, "g1", 2)
    sealed(lease, include_open=True)
    (report,) = outbox.pending()
    lease_expires()
    successor = take("you")
    outbox.settle(successor, outbox.begin(successor, [report], now=int(clock.now)), "sent")

    for number, write in enumerate(
        (
            lambda: sealed(lease, include_open=True),
            lambda: outbox.begin(lease, [report], now=int(clock.now)),
            lambda: outbox.settle(lease, [report], "rejected"),
            lambda: outbox.note(lease, [report], error="", unknown_since=None),
            lambda: outbox.mark_old_uncertain(lease, now=int(clock.now)),
        )
    ):
        fold(ledger, f"more-{number}", 1)
        with pytest.raises(LeaseLostError):
            write()

    assert ["sent"] == [each.state for each in outbox.reports()]


COMPANIES = [
    "'; DROP TABLE meterkit_usage; --",
    "%s %(name)s :name ? $1",
    "back\\slash \"quoted\" E'\\n'",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",  # looks the same, and is another
    "Acme",
    "acme",
    "ACME ",
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}stanbul",
    "\N{GRINNING FACE}",
]


def test_companies_that_look_alike_are_kept_apart(kit):
    """The database compares ids as they are, whatever its collation takes for equal, and none is taken for SQL."""
    for quantity, company in enumerate(COMPANIES, 1):
        kit.record("calls", company, quantity, user=company)

    kit.flush()

    rows = kit.usage()
    assert {company: quantity for quantity, company in enumerate(COMPANIES, 1)} == {
        row.company: row.quantity for row in rows
    }
    assert all(row.user == row.company for row in rows)
    assert [3] == [row.quantity for row in kit.usage(company=COMPANIES[2])]


def test_the_longest_ids_can_be_kept(make_kit):
    """One that could not would hold up all usage that was counted with it. PostgreSQL bounds the bytes of a key."""
    chance = random.Random(1)

    def longest(length):
        return "".join(chr(chance.randrange(0x20000, 0x2A6D0)) for _ in range(length))  # four bytes each, no two alike

    meter = Meter(longest(100), event_name=longest(100))
    kit = make_kit(meter)
    company, user = longest(MAX_ID_BYTES // 4), longest(MAX_ID_BYTES // 4)
    kit.record(meter, company, 7, user=user)

    kit.flush()

    assert [(company, user, 7)] == [(row.company, row.user, row.quantity) for row in kit.usage()]


def test_the_largest_sums_can_be_kept(kit):
    """Far beyond what Stripe takes as one value, and exactly."""
    for _ in range(9_000):
        kit.record("calls", "acme", 999_999_999_999_999)
    kit.flush()

    assert [9_000 * 999_999_999_999_999] == [row.quantity for row in kit.usage()]
    assert kit.health()["books"]["calls"]["balanced"]
