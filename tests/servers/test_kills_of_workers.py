"""
Workers of which one flushes for all, killed at random instants, it too: nothing lost or doubled, no quota overrun.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from figures import note_figure
from guard import GUARD, tries
from served_server import PYTHONPATH

from meterkit.flusher.lock import FlusherLock
from meterkit.journal.generation import UNFINISHED
from meterkit.ledger import schema

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "6"))
SEED = int(os.environ.get("METERKIT_TEST_SEED", random.randrange(2**32)))
WORKERS = 3
BETWEEN_KILLS = 20
"""Complete responses between two kills, on the average."""
REFUSALS = 60
"""In a row: then each worker has refused."""


class Told(threading.Thread):
    """Reads what the workers tell, for as long as one can write it."""

    def __init__(self, pipe) -> None:
        super().__init__()
        self._pipe = pipe
        self._more = threading.Condition()
        self.complete = self.total = 0
        self.refusals = 0

    def run(self) -> None:
        """Count bytes."""
        while read := self._pipe.read(4096):
            with self._more:
                passed = read.count(b".")
                self.complete += passed
                self.total += len(read)
                self.refusals = len(read) - 1 - read.rfind(b".") if passed else self.refusals + len(read)
                self._more.notify_all()

    def wait_for(self, more: int, *, until: int | None = None) -> None:
        """Until so many *more* responses are complete, or all are refused: *until* there are so many in total."""
        with self._more:
            goal = self.complete + more

            def is_enough() -> bool:
                is_over = self.refusals >= REFUSALS if until is None else self.total >= until
                return self.complete >= goal or is_over

            done = self._more.wait_for(is_enough, timeout=GUARD)
            assert done, "the workers answer no more"

    def wait_for_refusals(self) -> None:
        """Until nobody passes any more."""
        with self._more:
            self.refusals = 0
            assert self._more.wait_for(lambda: self.refusals >= REFUSALS, timeout=GUARD), "they do not refuse"


class Workers:
    """
    The workers.

    Args:
        data_dir: Directory that they share.
        quota: Units that may be used.
        told: Descriptor to which they write.
        shape: ``process`` or ``thread``.
        ledger: URL of the ledger; by default in the directory.
        number: How many workers.
        is_prepaid: Whether a wallet takes the place of the quota.
    """

    def __init__(
        self,
        data_dir: Path,
        quota: int,
        told: int,
        *,
        shape: str,
        ledger: str | None = None,
        number: int = WORKERS,
        is_prepaid: bool = False,
    ) -> None:
        self._lock = FlusherLock(data_dir)
        settings = {"METERKIT_DATA_DIR": str(data_dir), "METERKIT_FLUSHER": shape, "KILLS_QUOTA": str(quota)}
        if ledger is not None:
            settings["METERKIT_LEDGER"] = ledger
        if is_prepaid:
            settings["KILLS_WALLET"] = "1"
        self._nursery = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kills_of_workers.py")), str(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings, "PYTHONPATH": PYTHONPATH},
            pass_fds=[told],
        )
        self.pids = [self._start() for _ in range(number)]

    def flusher(self) -> int | None:
        """The pid of the one that flushes for all; None if nobody does now."""
        holder = self._lock.holder()
        return None if holder is None else int(holder.split(",")[0].removeprefix("process "))

    def child(self) -> int:
        """The pid of a process that only flushes, once there is one."""
        for _ in tries(lambda: str(self._lock.holder())):
            found = self.flusher()
            if found not in (None, *self.pids):
                return found
        raise AssertionError

    def kill(self, pid: int) -> None:
        """Kill one, and start another in its place; that of a process which only flushes is started by its worker."""
        with suppress(ProcessLookupError):  # the flusher of a worker that was killed, and had only to end
            os.kill(pid, signal.SIGKILL)
        if pid in self.pids:
            self.pids.remove(pid)
            self.pids.append(self._start())

    def end(self) -> None:
        """Kill all, and wait for the end of what flushes for them."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self._nursery.communicate()
        for _ in tries(lambda: str(self._lock.holder())):
            if self.flusher() is None:
                return

    def _start(self) -> int:
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())


@pytest.mark.parametrize("shape", ["process", "thread"])
def test_an_exact_quota_through_kills_of_workers_and_of_the_one_that_flushes(shape, tmp_path, make_kit):
    """What clients received completely is counted, no more than the quota passes, and what was held is given back."""
    data_dir = tmp_path / "meterkit"
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    quota = BETWEEN_KILLS * (KILLS + 2)
    reading, writing = os.pipe()
    killed = {"flusher": 0, "worker": 0}
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        told = Told(pipe)
        workers = Workers(data_dir, quota, writing, shape=shape)
        os.close(writing)
        told.start()
        kit = make_kit(data_dir=data_dir)
        try:
            for number in range(KILLS):
                told.wait_for(chance.randint(1, 2 * BETWEEN_KILLS))
                who = workers.child if shape == "process" else workers.flusher
                flusher = who() if number % 2 else None
                pid = chance.choice(workers.pids) if flusher is None else flusher
                killed["flusher" if pid == flusher else "worker"] += 1
                workers.kill(pid)
            for _ in tries():
                told.wait_for_refusals()
                kit.flush()
                counted = sum(row.quantity for row in kit.usage())
                if counted >= quota:
                    break
        finally:
            workers.end()
            told.join(GUARD)
    kit.flush()

    counted = sum(row.quantity for row in kit.usage())
    note_figure(
        f"kills of workers under an exact quota, flushed by a {shape}",
        kills=KILLS,
        seed=SEED,
        complete=told.complete,
        counted=counted,
        sent=quota,
    )
    print(f"{killed} killed, {told.complete} complete <= {counted} counted, of a quota of {quota}")
    assert told.complete <= counted == quota, f"seed {SEED}"
    with kit.process().database().snapshot() as connection:
        assert [] == connection.execute(schema.slices.select()).all(), f"seed {SEED}"
    # A file that a worker was creating when it was killed has counted nothing, and is swept away within the hour.
    assert [] == [each for each in (data_dir / "journal").iterdir() if each.suffix != UNFINISHED]
    assert kit.health()["books"]["calls"]["balanced"]
