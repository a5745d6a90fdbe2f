"""A server that crashes under load and comes back, or whose standby takes over: nothing is lost, nothing doubled."""

from __future__ import annotations

import os

import pytest
from postgres_account import billed, make_customers, used
from real_postgres import PASSWORD, USER, RealPostgres, quoted

COMPANIES = ["acme", "Globex", "initech", "Umbrella"]
CRASHES = int(os.environ.get("METERKIT_TEST_KILLS", "4")) // 2
BETWEEN_CRASHES = 1000
"""Units of usage that are counted between two crashes, on the average, and while the server is away."""


@pytest.fixture
def server():
    """A server that may be stopped, and that answers a commit when it is on the disk, as by default."""
    with RealPostgres(fsync="on") as server:
        yield server


@pytest.fixture
def running(hosts, make_kit_now, stripe_now, chance):
    """A function that starts three hosts on a ledger, one of which reports; answers the companies' customers."""

    def run(ledger):
        customers = make_customers(stripe_now, COMPANIES)
        kit = make_kit_now(ledger=ledger)
        for company, customer in customers.items():
            kit.link(company, customer)
        for account in (stripe_now, None, None):
            hosts.add(ledger, COMPANIES, chance=chance, stripe=account)
        hosts.go()
        return customers

    return run


def assert_exact(hosts, kit, stripe, customers):
    """What the hosts counted is in the ledger, and is what Stripe bills."""
    summary = kit.report(include_open=True)
    books = kit.health()["books"]["calls"]
    total = hosts.counted.total()
    print(f"{total} in {len(stripe.meter_events)} events; {len(hosts.trouble)} errors")
    assert hosts.begun == hosts.counted == used(kit)
    assert hosts.counted == billed(stripe, customers)
    assert (total, total, "", True) == (books["counted"], books["sent"], summary.error, books["balanced"])


@pytest.mark.long
@pytest.mark.thorough
def test_a_server_that_crashes_under_load(server, running, hosts, make_kit_now, stripe_now, chance):
    """Whatever it was amidst: what was not committed is flushed again when it is back."""
    ledger = server.url(server.new_database())
    customers = running(ledger)
    for _ in range(CRASHES):
        hosts.wait_for(chance.randint(1, 2 * BETWEEN_CRASHES))
        server.stop("immediate")
        hosts.wait_for_trouble()
        hosts.wait_for(chance.randint(1, BETWEEN_CRASHES))
        server.start()
    hosts.wait_for(BETWEEN_CRASHES)
    hosts.stop()

    for host in hosts.all:
        make_kit_now(ledger=ledger, data_dir=host.data_dir).flush()
    kit = make_kit_now(ledger=ledger, stripe_key=stripe_now.api_key, stripe_base=stripe_now.url)
    assert_exact(hosts, kit, stripe_now, customers)


@pytest.mark.long
@pytest.mark.thorough
def test_a_standby_that_takes_over(server, running, hosts, make_kit_now, stripe_now):
    """The URL names both, and asks for the one that can be written; a commit is answered when both have it."""
    database = server.new_database()
    with server.standby() as standby:
        server.restart(synchronous_standby_names="*")
        address = f"{USER}:{quoted(PASSWORD)}@/{database}"
        both = f"host=127.0.0.1:{server.port}&host=127.0.0.1:{standby.port}"
        ledger = f"postgresql+psycopg://{address}?{both}&target_session_attrs=read-write"
        customers = running(ledger)
        hosts.wait_for(BETWEEN_CRASHES)

        server.stop("immediate")
        hosts.wait_for_trouble()
        standby.promote()
        hosts.wait_for(2 * BETWEEN_CRASHES)
        hosts.stop()

        for host in hosts.all:
            make_kit_now(ledger=ledger, data_dir=host.data_dir).flush()
        kit = make_kit_now(ledger=ledger, stripe_key=stripe_now.api_key, stripe_base=stripe_now.url)
        assert_exact(hosts, kit, stripe_now, customers)
