"""Access logs with a ledger on PostgreSQL: two follow the same log at once, and both are killed now and then."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from guard import tries
from log_lines import FORMAT, meterkit, used
from real_postgres import RealPostgres
from test_kills_of_tails import BILLING, KILLS, SEED, Writer
from warm import Warm

from meterkit import Meter, MeterKit

pytestmark = pytest.mark.long


@pytest.fixture
def url():
    """A fresh ledger."""
    with RealPostgres() as server:
        yield server.url(server.new_database())


def test_two_at_once_that_are_killed(tmp_path, url, monkeypatch):
    """What is in the logs is what counts, whoever counts it."""
    print(f"METERKIT_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "meterkit"))
    monkeypatch.setenv("METERKIT_LEDGER", url)
    (tmp_path / "billing.py").write_text(f"{BILLING}\ntail.SHARED_SECONDS = 0.01\n")
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "access.log"
    words = ["tail", "billing:kit", str(log), "--format", FORMAT]
    writer = Writer(log, chance)
    writer.write()
    meterkit(*words, "--once")
    with (tmp_path / "errors").open("w") as errors:
        for _ in range(max(1, KILLS // 2)):
            tails = [
                Warm(["-m", "meterkit", *words], env=dict(os.environ), cwd=Path.cwd(), stderr=errors) for _ in range(2)
            ]
            for each in tails:
                each.stdin.close()
                each.stdout.readline()  # it has begun
            for _ in range(chance.randrange(1, 20)):
                writer.step()
            for each in tails:
                os.kill(each.pid, signal.SIGKILL)
                each.wait()
                each.stdout.close()

    kit = MeterKit(meters=[Meter("searches")], data_dir=tmp_path / "meterkit", ledger=url)
    for _ in tries(lambda: f"{writer.written} {used(kit)}"):  # what was killed may hold its lock for a moment
        meterkit(*words, "--once")
        if writer.written == used(kit):
            break
        assert all(used(kit).get(each, 0) <= count for each, count in writer.written.items())
    kit.close()
