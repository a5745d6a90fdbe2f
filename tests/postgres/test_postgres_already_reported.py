"""Usage that others have reported, imported while hosts report and sync: neither is interrupted, nothing is sent."""

from __future__ import annotations

import threading

import pytest
from postgres_account import billed, make_customers

pytestmark = pytest.mark.long

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def database(postgres_server, like):
    """A fresh one."""
    return postgres_server.new_database(like=like)


@pytest.mark.parametrize("name", ["reporter", "follower"])
def test_it_waits_for_who_relies_on_a_lease(
    make_reporting_kit, postgres_server, database, stripe, clock, tmp_path, name
):
    """Who seals the same window marks what it has read as reported; who reads a balance would not see the import."""
    kit = make_reporting_kit(ledger=postgres_server.url(database))
    customers = make_customers(stripe, ["acme"])
    kit.link("acme", customers["acme"])
    kit.record("calls", "acme", 5)
    kit.flush()
    path = tmp_path / "usage.csv"
    path.write_text(f"meter,company,quantity,at\ncalls,acme,3,{int(clock.now)}\n")
    importing = threading.Thread(target=kit.backfill, args=[path], kwargs={"already_reported": True})
    with postgres_server.connect(database) as holder, postgres_server.connect(database) as observer:
        with holder.transaction():
            holder.execute("UPDATE meterkit_lease SET expires_at = 0 WHERE name = %s", [name])
            importing.start()
            while observer.execute(WAITING).fetchone() != (1,):
                assert importing.is_alive(), "it did not wait"
            holder.execute("UPDATE meterkit_usage SET reported = reported")  # would deadlock with an import amidst rows
        importing.join()
    kit.report(include_open=True)

    assert [(8, 8)] == [(row.quantity, row.reported) for row in kit.usage()]
    assert {"acme": 5} == billed(stripe, customers)
