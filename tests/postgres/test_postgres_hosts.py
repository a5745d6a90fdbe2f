"""Many hosts, one ledger: processes with journals of their own, one of which reports, and some of which are killed."""

from __future__ import annotations

import os
import threading

import pytest
from postgres_account import billed, make_customers, used

HOSTS = 4
KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "4"))
BETWEEN_KILLS = 1500
"""Units of usage that are counted between two kills, on the average."""

COMPANIES = [f"{letter}{number}" for letter in "aBcD_" for number in range(4)]
"""Their order in en_US is not the one in which Python sorts."""


class Auditor:
    """Reads the books without a pause, from a process of its own, while others write."""

    def __init__(self, kit) -> None:
        self.read = 0
        self.complaints: list[object] = []
        self._kit = kit
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()

    def _run(self):
        while not self._over:
            health = self._kit.health()
            books = health["books"]
            if books is None or not all(of_meter["balanced"] for of_meter in books.values()):
                self.complaints.append(health)
            self.read += bool(books)


@pytest.mark.long
@pytest.mark.thorough
def test_many_hosts_share_a_ledger(postgres_server, make_kit_now, stripe_now, hosts, chance):
    """
    All begin at once, with an empty database, and whoever is killed: nothing is lost, and nothing doubled.
    """
    log_before = len(postgres_server.log)
    ledger = postgres_server.url(postgres_server.new_database())
    customers = make_customers(stripe_now, COMPANIES)
    hosts.add(ledger, COMPANIES, chance=chance, stripe=stripe_now)
    others = [hosts.add(ledger, COMPANIES, chance=chance) for _ in range(HOSTS - 1)]
    hosts.go()
    hosts.wait_for(BETWEEN_KILLS)
    kit = make_kit_now(ledger=ledger, stripe_key=stripe_now.api_key, stripe_base=stripe_now.url)
    for company, customer in customers.items():
        kit.link(company, customer)

    with Auditor(make_kit_now(ledger=ledger)) as auditor:
        for _ in range(KILLS):
            hosts.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
            victim = chance.choice(others)
            victim.kill()
            victim.start()
            victim.go()
        hosts.wait_for(BETWEEN_KILLS)
    hosts.stop()
    for host in hosts.all:
        make_kit_now(ledger=ledger, data_dir=host.data_dir).flush()  # what its last moment was too short for
    summary = kit.report(include_open=True)

    in_ledger = used(kit)
    print(f"{in_ledger.total()} in {len(stripe_now.meter_events)} events, {auditor.read} audits")
    assert "" == summary.error
    assert in_ledger == billed(stripe_now, customers)
    assert all(hosts.counted[company] <= in_ledger[company] <= hosts.begun[company] for company in COMPANIES)
    assert hosts.begun.total() - hosts.counted.total() <= 9 * KILLS
    assert auditor.read > 0
    assert [] == auditor.complaints
    assert [] == hosts.trouble
    assert "deadlock" not in postgres_server.log[log_before:]
