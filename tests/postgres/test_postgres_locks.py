"""
Locks of rows: a flush and a report that want the same ones take them in the same order, however the database sorts.

PostgreSQL ends one of two that wait for each other crosswise. Here both are held up amidst their rows, until they do.
"""

from __future__ import annotations

import threading

import pytest
from postgres_account import billed, make_customers

from meterkit import LedgerError

pytestmark = pytest.mark.long

COMPANIES = ["a", "B", "c", "D"]
"""Python, and the collation C, sort them BDac; en_US sorts them aBcD."""

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def database(postgres_server):
    """An empty one in a server that sorts as in en_US."""
    return postgres_server.new_database()


@pytest.fixture
def kits(make_reporting_kit, postgres_server, database, stripe):
    """Two hosts: the first has flushed usage of all companies, so that their rows are there."""
    one, two = [make_reporting_kit(ledger=postgres_server.url(database)) for _ in range(2)]
    for company in COMPANIES:
        one.record("calls", company)
    one.flush()
    two.usage()
    return one, two


def held_up(postgres_server, database, company, actions):
    """Run *actions* in threads, all of which wait, for the row of *company* or for each other; answer their errors."""
    errors = []

    def run(action):
        try:
            action()
        except LedgerError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=run, args=[action]) for action in actions]
    with postgres_server.connect(database) as blocker, postgres_server.connect(database) as observer:
        with blocker.transaction():
            blocker.execute("SELECT * FROM meterkit_usage WHERE company = %s FOR UPDATE", [company])
            for thread in threads:
                thread.start()
            # Ask until it is so: PostgreSQL tells nobody that somebody waits.
            while observer.execute(WAITING).fetchone() != (len(threads),):
                assert all(thread.is_alive() for thread in threads), errors
        for thread in threads:
            thread.join()
    return errors


def test_the_server_sorts_otherwise_than_python(postgres_server, database):
    """Or the tests here would show nothing."""
    with postgres_server.connect(database) as connection:
        rows = connection.execute("SELECT unnest(%s::text[]) AS name ORDER BY name", [COMPANIES]).fetchall()

    assert sorted(COMPANIES) != [name for (name,) in rows]


@pytest.mark.parametrize("company", COMPANIES)
def test_a_flush_and_a_report_of_the_same_rows_do_not_deadlock(kits, postgres_server, database, stripe, company):
    """The one adds to the rows that the other marks as reported."""
    reporter, other = kits
    log_before = len(postgres_server.log)
    customers = make_customers(stripe, COMPANIES)
    for each, customer in customers.items():
        reporter.link(each, customer)
        other.record("calls", each, 10)

    errors = held_up(postgres_server, database, company, [other.flush, lambda: reporter.report(include_open=True)])

    assert [] == errors
    assert "deadlock" not in postgres_server.log[log_before:]
    reporter.report(include_open=True)
    assert dict.fromkeys(COMPANIES, 11) == billed(stripe, customers)


@pytest.mark.parametrize("company", COMPANIES)
def test_flushes_of_the_same_rows_do_not_deadlock(kits, postgres_server, database, company):
    """Two hosts that counted for the same companies, in another order."""
    one, two = kits
    log_before = len(postgres_server.log)
    for each in COMPANIES:
        one.record("calls", each, 10)
    for each in reversed(COMPANIES):
        two.record("calls", each, 100)

    errors = held_up(postgres_server, database, company, [one.flush, two.flush])

    assert [] == errors
    assert "deadlock" not in postgres_server.log[log_before:]
    assert dict.fromkeys(COMPANIES, 111) == {row.company: row.quantity for row in one.usage()}
