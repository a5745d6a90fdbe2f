"""Three JetStream servers, PostgreSQL, hosts, collectors and a reporter, all killed: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from guard import tries
from postgres_account import billed, make_customers, used
from real_nats import RealNats

from meterkit import JetStream, LedgerError

HOSTS = 4
KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "8"))
BETWEEN_KILLS = 1500
"""Units of usage that are counted between two kills, on the average."""

COMPANIES = [f"company-{number}" for number in range(20)]


class Collectors:
    """``meterkit collect``, several of it, in a with statement."""

    def __init__(self, directory: Path, ledger: str, servers: list[str], number: int) -> None:
        directory.mkdir()
        (directory / "billing.py").write_text(
            "from meterkit import JetStream, Meter, MeterKit\n"
            f"kit = MeterKit(meters=[Meter('calls')], customer_ids=True, data_dir={str(directory / 'data')!r},\n"
            f"    ledger={ledger!r}, jetstream=JetStream({servers!r}))\n"
        )
        self._directory = directory
        self._all = [self._start() for _ in range(number)]

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._all:
            each.terminate()
        assert [0] * len(self._all) == [each.wait() for each in self._all]

    def _start(self):
        command = [str(Path(sys.executable).with_name("meterkit")), "collect", "billing:kit"]
        return subprocess.Popen(command, cwd=self._directory, stdout=subprocess.DEVNULL)

    def kill_one(self, chance) -> None:
        """Kill one of them, and start another."""
        number = chance.randrange(len(self._all))
        self._all[number].kill()
        self._all[number].wait()
        self._all[number] = self._start()


def kill_servers(nats, chance, number):
    """Kill servers, the leader first."""
    leader = nats.leader("METERKIT")
    others = [each for each in nats.running if each != leader]
    victims = ([] if leader is None else [leader]) + chance.sample(others, len(others))
    for each in victims[:number]:
        nats.kill(each)


def flush(kit):
    """Publish all, as soon as there is a leader."""
    for _ in tries(lambda: str(kit.health())):
        try:
            kit.flush()
        except LedgerError:
            continue
        return


@pytest.mark.long
@pytest.mark.thorough
def test_everything_is_killed(postgres_server, make_kit_now, stripe_now, hosts, chance, tmp_path):
    """Hosts, collectors, the leader of the stream, and a majority of the servers."""
    ledger = postgres_server.url(postgres_server.new_database())
    customers = make_customers(stripe_now, COMPANIES)
    with RealNats(3) as nats:
        jetstream = JetStream(nats.urls)
        kit = make_kit_now(
            ledger=ledger, stripe_key=stripe_now.api_key, stripe_base=stripe_now.url, jetstream=jetstream
        )
        for company, customer in customers.items():
            kit.link(company, customer)
        kit.process().collector(batch=50).prepare()
        with Collectors(tmp_path / "collectors", ledger, nats.urls, 2) as collectors:
            hosts.add(ledger, COMPANIES, chance=chance, stripe=stripe_now, jetstream=nats.urls)
            others = [hosts.add(ledger, COMPANIES, chance=chance, jetstream=nats.urls) for _ in range(HOSTS - 1)]
            hosts.go()
            killed = []
            for _ in range(KILLS):
                hosts.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
                what = chance.choice(["host", "collector", "server", "majority"])
                killed.append(what)
                if what == "host":
                    victim = chance.choice(others)
                    victim.kill()
                    victim.start()
                    victim.go()
                elif what == "collector":
                    collectors.kill_one(chance)
                else:
                    kill_servers(nats, chance, 1 if what == "server" else 2)
                    hosts.wait_for(chance.randint(1, BETWEEN_KILLS))
                    nats.start_all()
            hosts.wait_for(BETWEEN_KILLS)
            hosts.stop()
            for host in hosts.all:  # what its last moment was too short for
                flush(make_kit_now(ledger=ledger, data_dir=host.data_dir, jetstream=jetstream))
            for _ in tries(lambda: str(kit.health()["jetstream"])):
                if kit.health()["jetstream"] == {"waiting": 0, "refused": 0}:
                    break
        summary = kit.report(include_open=True)
        health = kit.health()

    in_ledger = used(kit)
    print(f"{in_ledger.total()} in {len(stripe_now.meter_events)} events; killed {', '.join(killed)}")
    assert "" == summary.error
    assert in_ledger == billed(stripe_now, customers)
    assert all(hosts.counted[company] <= in_ledger[company] <= hosts.begun[company] for company in COMPANIES)
    assert hosts.begun.total() - hosts.counted.total() <= 9 * KILLS
    assert all(of_meter["balanced"] for of_meter in health["books"].values())
