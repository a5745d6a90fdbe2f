"""
Workers on two hosts, killed at random instants, under one exact quota in PostgreSQL: none of it is lost, or overrun.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one. At full size,
as in ``nox -s reliability``, there are `REQUESTS` for `UNITS`, with ``METERKIT_TEST_SEEDS`` seeds from that one on.
"""

from __future__ import annotations

import os
import random

import pytest
from figures import note_figure
from guard import GUARD, tries
from real_postgres import RealPostgres
from test_kills_of_workers import KILLS, SEED, Told, Workers
from thorough import IS_THOROUGH

from meterkit import Meter, Wallet
from meterkit.ledger import schema

pytestmark = pytest.mark.long

WORKERS = 4
"""On each host."""
BETWEEN_KILLS = 15
"""Complete responses between two kills, on the average."""
UNITS, REQUESTS = 1_000, 10_000
"""At full size."""
SEEDS = int(os.environ.get("METERKIT_TEST_SEEDS", "3"))
"""Runs at full size."""


@pytest.fixture(scope="module")
def server():
    """A server of its own."""
    with RealPostgres() as server:
        yield server


@pytest.fixture
def two_hosts(server, tmp_path, make_kit):
    """A function that lets workers on two hosts serve what *what* allows while it kills them, and checks the books."""

    def run(what, units, seed, kill_some):
        is_prepaid, ledger = what == "wallet", server.url(server.new_database())
        print(f"seed {seed}")
        chance = random.Random(seed)
        directories = [tmp_path / "one", tmp_path / "other"]
        calls = Meter("calls", billable=not is_prepaid)
        wallets = [Wallet("credits", unit="credits", spends={calls: "0.5"})] if is_prepaid else []
        kits = [
            make_kit(calls, wallets=wallets, identify=lambda _: "acme", data_dir=directory, ledger=ledger)
            for directory in directories
        ]
        if is_prepaid:
            kits[0].grant("acme", "credits", f"{units / 2:.1f}", key="paid")
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            told = Told(pipe)
            hosts = [
                Workers(
                    directory, units, writing, shape="process", ledger=ledger, number=WORKERS, is_prepaid=is_prepaid
                )
                for directory in directories
            ]
            os.close(writing)
            told.start()

            def kill_one():
                host = chance.choice(hosts)
                victims = [*host.pids, host.flusher()]
                host.kill(chance.choice([each for each in victims if each is not None]))

            try:
                kills = kill_some(told, chance, kill_one)
                for _ in tries():
                    told.wait_for_refusals()
                    for kit in kits:
                        kit.flush()
                    counted = sum(row.quantity for row in kits[0].usage())
                    if counted >= units:
                        break
            finally:
                for host in hosts:
                    host.end()
                told.join(GUARD)
        for kit in kits:
            kit.flush()

        counted = sum(row.quantity for row in kits[0].usage())
        about = {"complete": told.complete, "counted": counted, "sent": units}
        note_figure(f"kills on two hosts with a {what}", kills=kills, seed=seed, **about)
        print(f"{kills} killed, {told.total} responses: {about}")
        assert told.complete <= counted == units, f"seed {seed}"
        with kits[0].process().database().snapshot() as connection:
            assert [] == connection.execute(schema.slices.select()).all(), f"seed {seed}"
        assert kits[0].health()["books"]["calls"]["balanced"]
        if is_prepaid:
            balance = kits[0].balance("acme", "credits")
            assert (0, 0, 0) == (balance.left, balance.held, balance.uncovered), f"seed {seed}"
            assert (units, []) == (2 * balance.spent, kits[0].audit_wallets()), f"seed {seed}"
        return told

    return run


@pytest.mark.parametrize("what", ["quota", "wallet"])
def test_what_two_hosts_may_use_through_kills(two_hosts, what):
    """All of it is counted, no more passes, nothing stays drawn, and nothing is left."""

    def kill_some(told, chance, kill_one):
        for _ in range(KILLS):
            told.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
            kill_one()
        return KILLS

    two_hosts(what, BETWEEN_KILLS * (KILLS + 4), SEED, kill_some)


@pytest.mark.thorough
@pytest.mark.parametrize("number", range(SEEDS if IS_THOROUGH else 1))
@pytest.mark.parametrize("what", ["quota", "wallet"])
def test_many_more_requests_than_units(two_hosts, what, number):
    """The same at full size: while units are left, and long after."""

    def kill_some(told, chance, kill_one):
        kills = 0
        while told.total < REQUESTS:
            goal = told.total + chance.randint(1, 2 * BETWEEN_KILLS * REQUESTS // UNITS)
            told.wait_for(chance.randint(1, 2 * BETWEEN_KILLS), until=goal)
            kill_one()
            kills += 1
        return kills

    told = two_hosts(what, UNITS, SEED + number, kill_some)

    assert told.total >= REQUESTS
