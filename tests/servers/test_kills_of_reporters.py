"""
Reporters that are killed in the midst of it: before Stripe has the event, after, and at any other instant.

``METERKIT_TEST_KILLS`` sets how often (the default is a short run), ``METERKIT_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import stripe as stripe_python
from fake_clock import Clock
from figures import note_figure
from guard import GUARD
from served_server import PYTHONPATH

from meterkit.sandbox import Sandbox

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("METERKIT_TEST_KILLS", "6"))
SEED = int(os.environ.get("METERKIT_TEST_SEED", random.randrange(2**32)))
AFTER_A_LEASE = 61
"""Seconds after which another may report."""


class DeadlyStripe(Sandbox):
    """A sandbox that kills who sends it an event, at a moment of the test's choice."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._moment = ("", 0, 0)
        self.killed = threading.Event()

    def arm(self, when: str, events: int, pid: int) -> None:
        """Kill *pid* ``before`` or ``after`` the work on its event number *events*, from now."""
        self.killed.clear()
        self._moment = (when, events, pid)

    def _respond(self, request):
        when, events, pid = self._moment
        if request.path != "/v1/billing/meter_events" or not when:
            return super()._respond(request)
        self._moment = (when if events > 1 else "", events - 1, pid)
        if events > 1:
            return super()._respond(request)
        if when == "before":
            self._kill(pid)
        answer = super()._respond(request)
        if when == "after":
            self._kill(pid)
        return answer

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.killed.set()


@pytest.fixture
def clock():
    """Stands still while a reporter works, and passes over its lease when it is dead."""
    return Clock()


@pytest.fixture
def stripe(clock):
    """A Stripe account in which the meter ``calls`` exists."""
    with DeadlyStripe(now=clock) as sandbox:
        api(sandbox).billing.meters.create(
            {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        yield sandbox


def api(sandbox):
    return stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1


@pytest.fixture
def acknowledged():
    """A pipe, by its two ends, into which the reporters write what they have certainly counted."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


@pytest.fixture
def nursery(tmp_path, stripe, acknowledged):
    """A process that starts reporters."""
    command = [sys.executable, str(Path(__file__).with_name("kills_nursery.py")), str(tmp_path / "meterkit")]
    nursery = subprocess.Popen(
        [*command, stripe.api_key, stripe.url, str(acknowledged[1].fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        pass_fds=[acknowledged[1].fileno()],
    )
    yield nursery
    nursery.communicate()


def start_reporter(nursery, now: float, companies: list[str]) -> int:
    """Its pid. The one before is gone by then."""
    nursery.stdin.write(f"{now} {','.join(companies)}\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


class Count(threading.Thread):
    """Reads what was acknowledged, for as long as somebody can write it."""

    def __init__(self, pipe: io.RawIOBase) -> None:
        super().__init__()
        self._pipe = pipe
        self._more = threading.Condition()
        self.counts = 0

    def run(self) -> None:
        """Count bytes."""
        while read := self._pipe.read(4096):
            with self._more:
                self.counts += len(read)
                self._more.notify_all()

    def wait_for(self, more: int) -> None:
        """Until so many more counts have returned."""
        with self._more:
            goal = self.counts + more
            assert self._more.wait_for(lambda: self.counts >= goal, timeout=GUARD), "the reporter counts no more"


def test_kills_in_mid_send_neither_lose_nor_double(nursery, stripe, clock, acknowledged, make_kit):
    """What was counted is what Stripe has in the end, to the unit."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    customers = [api(stripe).customers.create({}).id for _ in range(5)]
    count = Count(acknowledged[0])
    count.start()
    for _ in range(KILLS):
        clock.advance(AFTER_A_LEASE)
        pid = start_reporter(nursery, clock.now, chance.sample(customers, chance.randint(1, 5)))
        when = chance.choice(["before", "after", "whenever"])
        if when == "whenever":
            count.wait_for(chance.randint(1, 20))
            stripe._kill(pid)
        else:
            stripe.arm(when, chance.randint(1, 20), pid)
            assert stripe.killed.wait(GUARD), "nothing was reported"
    clock.advance(AFTER_A_LEASE)
    nursery.communicate()  # the last reporter is gone, too
    acknowledged[1].close()
    count.join()

    kit = make_kit(stripe_key=stripe.api_key, stripe_base=stripe.url)
    kit.report(include_open=True)

    billed = int(sum(stripe.usage("calls", customer) for customer in customers))
    books = kit.health()["books"]["calls"]
    note_figure(
        "kills of reporters",
        kills=KILLS,
        seed=SEED,
        acknowledged=count.counts,
        billed=billed,
        begun=count.counts + KILLS,
    )
    print(f"{KILLS} kills, {count.counts} acknowledged <= {billed} billed <= {count.counts + KILLS} begun")
    assert count.counts <= billed <= count.counts + KILLS, f"seed {SEED}"
    assert (billed, billed, True) == (books["counted"], books["sent"], books["balanced"])
