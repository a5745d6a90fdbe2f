"""A quota for which four workers count: exactly, through kills; or as fast as flushes tell of each other."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing, suppress

import pytest
from figures import note_figure
from guard import tries
from served_billing import Billing
from served_server import GUNICORN, Server

from meterkit import Meter, MeterKit

pytestmark = pytest.mark.thorough

COMMAND = [*GUNICORN[:-1], "served_governed:wsgi", "--workers", "4"]
QUOTA = 300
REFUSALS = 500
"""In a row: then each of the workers has refused, and has flushed in the meantime."""


def used(billing):
    with closing(MeterKit(meters=[Meter("calls")], data_dir=billing.data_dir)) as kit:
        kit.flush()
        return sum(row.quantity for row in kit.usage())


def ask_until_refused(server):
    """How many seconds after the first refusal the last request passed."""
    first = last = time.monotonic()
    refused = 0
    while refused < REFUSALS:
        if server.ask() is not None:
            refused, last = 0, time.monotonic()
        else:
            first = first if refused or last > first else time.monotonic()
            refused += 1
    return max(0.0, last - first)


@pytest.mark.long
def test_an_exact_quota_through_kills(tmp_path):
    """What killed workers had taken and did not count is given back, and nobody passes too many."""
    chance = random.Random(11)
    with (
        Billing(tmp_path) as billing,
        Server(COMMAND, billing, tmp_path, SERVED_QUOTA=str(QUOTA), SERVED_EXACT="") as server,
    ):
        with server.load():
            while server.complete < QUOTA - 60:
                server.wait_for(chance.randrange(20, 50))
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(sorted(server.workers)), signal.SIGKILL)
        for _ in tries():
            if used(billing) == QUOTA:
                break
            ask_until_refused(server)
        ask_until_refused(server)
        server.stop(figure="gunicorn with an exact quota")

        assert used(billing) == QUOTA >= server.complete


@pytest.mark.long
def test_a_quota_reaches_all_workers(tmp_path):
    """Within a flush interval, or hardly later where the machine is busy: the time is noted, as is the overrun."""
    with Billing(tmp_path) as billing, Server(COMMAND, billing, tmp_path, SERVED_QUOTA=str(QUOTA)) as server:
        with server.load():
            server.wait_for(QUOTA)
        seconds = ask_until_refused(server)
        server.stop(figure="gunicorn with a quota")
        overrun = used(billing) - QUOTA
        note_figure("a quota reaches all workers", seconds=round(seconds, 3), flush_interval=0.2, overrun=overrun)

        assert used(billing) == server.complete
