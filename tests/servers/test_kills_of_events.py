"""
Workers that take usage events, killed at random instants: what was acknowledged is billed, once, with its values.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from figures import note_figure
from guard import GUARD, tries
from served_server import PYTHONPATH

from meterkit import Meter

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "6"))
SEED = int(os.environ.get("METERKIT_TEST_SEED", random.randrange(2**32)))
WORKERS, SENDERS = 2, 3
BETWEEN_KILLS = 10
"""Acknowledged batches between two kills, on the average."""


class Workers:
    """The workers: `port` is where they listen."""

    def __init__(self, data_dir, now) -> None:
        self._nursery = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kills_of_event_workers.py")), data_dir, str(now)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )
        self.port = int(self._nursery.stdout.readline())
        self.pids = [self._start() for _ in range(WORKERS)]

    def kill(self, pid) -> None:
        """Kill one, and start another in its place."""
        os.kill(pid, signal.SIGKILL)
        self.pids.remove(pid)
        self.pids.append(self._start())

    def end(self) -> None:
        """Kill all."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self._nursery.communicate()

    def _start(self) -> int:
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())


class Sender(threading.Thread):
    """Sends batches until it is told to stop, each again and again until it is acknowledged."""

    def __init__(self, name, port, company, told) -> None:
        super().__init__()
        self._name, self._url, self._company = name, f"http://127.0.0.1:{port}/v1/events", company
        self._told = told
        self._chance = random.Random(f"{SEED} {name}")
        self.stop = threading.Event()
        self.batches = self.again = 0
        self.acknowledged = Counter()  # by model
        self.error = ""

    def run(self) -> None:
        """Send."""
        with httpx.Client(timeout=GUARD, headers={"authorization": "Bearer the-secret-of-the-shop"}) as client:
            while not self.stop.is_set() and not self.error:
                events = [self._event(f"{self._name}-{self.batches}-{at}") for at in range(self._chance.randint(1, 60))]
                self._send(client, events)
                self.batches += 1
                for each in events:
                    self.acknowledged[each["data"]["model"]] += each["data"]["n"]
                self._told.release()

    def _event(self, event_id):
        data = {"n": self._chance.randint(1, 9), "model": self._chance.choice(["small", "large"])}
        made = {"specversion": "1.0", "source": "shop", "type": "call", "subject": self._company}
        return {**made, "id": event_id, "data": data}

    def _send(self, client, events) -> None:
        for _ in tries(lambda: "no batch is acknowledged"):
            try:
                response = client.post(
                    self._url, json=events, headers={"content-type": "application/cloudevents-batch+json"}
                )
            except httpx.TransportError:
                self.again += 1
                continue
            if response.status_code == 202:
                return
            if response.status_code != 503:
                self.error = response.text
                return
            self.again += 1


def test_what_was_acknowledged_is_billed(tmp_path, make_kit, stripe, customer, clock):
    """Through kills of the workers, the one that flushes among them: Stripe is sent each event once."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    workers = Workers(tmp_path / "meterkit", clock())
    told = threading.Semaphore(0)
    senders = [Sender(f"s{number}", workers.port, customer, told) for number in range(SENDERS)]
    for each in senders:
        each.start()
    try:
        for _ in range(KILLS):
            for _ in range(chance.randint(1, 2 * BETWEEN_KILLS)):
                assert told.acquire(timeout=GUARD), [each.error for each in senders]
            workers.kill(chance.choice(workers.pids))
    finally:
        for each in senders:
            each.stop.set()
        for each in senders:
            each.join()
        workers.end()

    assert [""] * SENDERS == [each.error for each in senders]
    by_model = sum((each.acknowledged for each in senders), Counter())
    acknowledged = sum(by_model.values())
    kit = make_kit(
        Meter("calls", event_type="call", value="$.n", by="model"), stripe_key=stripe.api_key, stripe_base=stripe.url
    )
    kit.report(include_open=True)
    billed = stripe.usage("calls", customer)
    note_figure(
        "kills of workers that take events",
        kills=KILLS,
        seed=SEED,
        acknowledged=acknowledged,
        billed=billed,
        sent=acknowledged,
    )
    print(f"{sum(each.again for each in senders)} batches sent again, {acknowledged} acknowledged == {billed} billed")
    assert acknowledged == sum(row.quantity for row in kit.usage())
    assert acknowledged == billed
    assert by_model == {row.values["model"]: row.quantity for row in kit.usage(by="model")}
    assert kit.health()["books"]["calls"]["balanced"]
