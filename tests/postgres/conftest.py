"""One PostgreSQL for all tests of a process, a fresh database for each of them, and hosts that share it."""

from __future__ import annotations

import os
import random
import time

import psycopg
import pytest
from guard import GUARD
from postgres_account import open_account
from postgres_hosts import Hosts
from real_postgres import EXISTING, RealPostgres, drop_database, existing_database

from meterkit.ledger import lease
from meterkit.ledger.database import Database

SEED = os.environ.get("METERKIT_TEST_SEED")


@pytest.fixture(autouse=True)
def _long_leases(monkeypatch):
    """They live by the server's clock, which is the real one: none expires because a machine is slow."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", GUARD)


@pytest.fixture
def lease_expires(postgres_url):
    """A function after which whoever holds a lease has not written for longer than it lasts."""

    def expire():
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("UPDATE meterkit_lease SET expires_at = expires_at - %s", [lease.LEASE_SECONDS + 1])

    return expire


@pytest.fixture(scope="session")
def running_postgres():
    """The one server."""
    with RealPostgres() as server:
        yield server


@pytest.fixture
def postgres_server(running_postgres):
    """A server that a test may look into, and fill; who stops or freezes one starts it for the purpose."""
    yield running_postgres
    running_postgres.drop_databases()


@pytest.fixture(scope="session")
def made_once(running_postgres):
    """A database with meterkit's tables and nothing in them, to be copied: that is faster than to make them."""
    name = running_postgres.new_database()
    running_postgres.keep(name)
    with Database(running_postgres.url(name)).transaction():
        pass
    return name


@pytest.fixture
def like(made_once):
    """The database that a fresh ledger is a copy of."""
    return made_once


@pytest.fixture
def postgres_url(request):
    """A fresh ledger, on the server that ``METERKIT_TEST_POSTGRES`` names if it is set."""
    if EXISTING is None:
        server = request.getfixturevalue("postgres_server")
        yield server.url(server.new_database(like=request.getfixturevalue("like")))
        return
    url, name = existing_database(EXISTING)
    yield url
    drop_database(EXISTING, name)


@pytest.fixture
def make_kit(make_kit, postgres_url, tmp_path):
    """A function that makes kits of different hosts: each has a journal of its own, and all have one ledger."""
    made = []

    def make(*meters, **options):
        made.append(options)
        return make_kit(*meters, **{"ledger": postgres_url, "data_dir": tmp_path / f"host-{len(made)}", **options})

    return make


@pytest.fixture
def make_kit_now(make_kit):
    """The same by the real time, among processes that have no other."""
    return lambda *meters, **options: make_kit(*meters, **{"clock": time.time, **options})


@pytest.fixture
def stripe(clock):
    """A Stripe account by the test's clock, with the meter ``calls``."""
    with open_account(now=clock) as sandbox:
        yield sandbox


@pytest.fixture
def stripe_now():
    """A Stripe account by the real time."""
    with open_account() as sandbox:
        yield sandbox


@pytest.fixture
def make_reporting_kit(make_kit, stripe):
    """A function that makes kits which report to the sandbox."""

    def make(*meters, **options):
        return make_kit(*meters, **{"stripe_key": stripe.api_key, "stripe_base": stripe.url, **options})

    return make


@pytest.fixture
def kit(make_reporting_kit):
    """A kit with the meter ``calls`` that reports to the sandbox."""
    return make_reporting_kit()


@pytest.fixture
def chance():
    """Whatever is left to it can be repeated with ``METERKIT_TEST_SEED``."""
    seed = int(SEED or random.randrange(2**32))
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def hosts(tmp_path):
    """Processes that count for the same companies; none of them is left at the end."""
    with Hosts(tmp_path) as hosts:
        yield hosts
