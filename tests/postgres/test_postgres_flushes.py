"""What a flush costs the server, and that usage which is added to a reported hour is due again."""

from __future__ import annotations

import psycopg
import pytest
from guard import tries
from postgres_account import billed, make_customers

HOUR = 3600

UPDATES = """
SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'meterkit_usage'
"""

FLUSH_OF_VERSION_6 = """
INSERT INTO meterkit_usage (meter, event_name, company, "user", "window", quantity, reported, last_used)
SELECT meter, event_name, company, "user", "window", 2, 0, last_used FROM meterkit_usage
ON CONFLICT (meter, event_name, company, "user", "window") DO UPDATE
SET quantity = meterkit_usage.quantity + excluded.quantity, reported = meterkit_usage.reported + excluded.reported
"""
"""As a host writes that was not restarted when the tables were upgraded: it knows of no further column."""


@pytest.fixture
def connection(postgres_url):
    """To the database itself."""
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def test_flushes_of_an_hour_write_its_indexes_once(kit, connection):
    """Otherwise, each would add an entry to all indexes of the largest table, hundreds of times an hour."""
    for _ in range(6):
        kit.record("calls", "acme", 2)
        kit.flush()

    for _ in tries():  # a connection says what it did when it ends
        found = connection.execute(UPDATES).fetchone()
        if found[:2] == (1, 5):
            break
    assert (1, 5, 5) == found


def test_usage_that_an_older_host_adds_to_a_reported_hour_is_reported(make_reporting_kit, connection, stripe, clock):
    """It adds to the row as it always did."""
    kit = make_reporting_kit()
    customers = make_customers(stripe, ["acme"])
    kit.link("acme", customers["acme"])
    kit.record("calls", "acme", 5)
    clock.advance(HOUR)
    kit.report()
    assert kit.report().sealed == 0

    connection.execute(FLUSH_OF_VERSION_6)
    kit.report()

    assert {"acme": 7} == billed(stripe, customers)
