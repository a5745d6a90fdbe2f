"""
Tails are killed at random moments, while a writer writes, rotates and compresses: what is in the logs is what counts.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import time
from pathlib import Path

from log_lines import FORMAT, line, meterkit, used
from warm import Warm

from meterkit import Meter, MeterKit

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "5"))
SEED = int(os.environ.get("METERKIT_TEST_SEED", str(random.randrange(10**6))))

BILLING = """
from meterkit import Meter, MeterKit
from meterkit.access_logs import command, tail

command.POLL_SECONDS, tail.BATCH = 0.001, 7
searches = Meter("searches", path="/v1/search")
kit = MeterKit(meters=[searches], identify=lambda exchange: exchange.headers.get("x-company"))
"""
COMPANIES = ["acme", "globex", "initech"]


class Writer:
    """Writes a log, and keeps what it has written."""

    def __init__(self, log, chance):
        self.log = log
        self.chance = chance
        self.written = {}
        self.number = 0

    def step(self):
        what = self.chance.random()
        if what < 0.1:
            self.rename()
        elif what < 0.15:
            self.copy_and_truncate()
        elif what < 0.25:
            self.compress()
        else:
            self.write()

    def write(self):
        with self.log.open("a") as file:
            for _ in range(self.chance.randrange(1, 20)):
                company = self.chance.choice(COMPANIES)
                self.number += 1
                text = line(company, at=time.time(), path=f"/v1/search?{self.number}")
                cut = self.chance.randrange(len(text))
                for part in (text[:cut], text[cut:]):  # in two pieces, as a full buffer makes them
                    file.write(part)
                    file.flush()
                self.written[company] = self.written.get(company, 0) + 1

    def rename(self):
        self.shift()
        if self.log.exists():
            self.log.rename(f"{self.log}.1")

    def copy_and_truncate(self):
        if self.log.exists():
            self.shift()
            shutil.copy(self.log, f"{self.log}.1")
            os.truncate(self.log, 0)

    def shift(self):
        """Make room for the first number, as logrotate does."""
        former = sorted(self.log.parent.glob("access.log.*"), key=lambda path: -int(path.name.split(".")[2]))
        for path in former:
            _, _, number, *ends = path.name.split(".")
            path.rename(path.with_name(".".join(["access.log", str(int(number) + 1), *ends])))

    def compress(self):
        for path in self.log.parent.glob("access.log.*"):
            if path.suffix != ".gz" and path.name != "access.log.1":
                hidden = path.with_name("compressing")
                with gzip.open(hidden, "wb") as file:
                    file.write(path.read_bytes())
                hidden.rename(f"{path}.gz")
                path.unlink()


def test_what_is_in_the_logs_is_what_counts(tmp_path, monkeypatch):
    """No line is lost, and none counts twice."""
    print(f"METERKIT_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "meterkit"))
    (tmp_path / "billing.py").write_text(BILLING)
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "access.log"
    words = ["tail", "billing:kit", str(log), "--format", FORMAT]
    writer = Writer(log, chance)
    writer.write()
    meterkit(*words, "--once")
    for _ in range(KILLS):
        tail = Warm(["-m", "meterkit", *words], env=dict(os.environ), cwd=Path.cwd())
        with tail.stdin, tail.stdout as said, tail.stderr:
            if chance.random() < 0.7:
                said.readline()  # it has begun
            for _ in range(chance.randrange(1, 30)):
                writer.step()
            os.kill(tail.pid, signal.SIGKILL)
            tail.wait()
    for _ in range(chance.randrange(3)):
        writer.step()

    code, _, err = meterkit(*words, "--once")

    kit = MeterKit(meters=[Meter("searches")], data_dir=tmp_path / "meterkit")
    found = used(kit)
    kit.close()
    assert (0, "") == (code, err)
    assert writer.written == found
