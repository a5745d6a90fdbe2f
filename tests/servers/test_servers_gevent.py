"""gevent: greenlets are counted exactly, whenever it patched Python, and never wait for the ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from guard import GUARD
from served_billing import Billing
from served_server import GUNICORN, PYTHONPATH, Server

pytestmark = pytest.mark.long


def has_open(pid: int, path: Path) -> bool:
    """Whether the process has that file open now."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if descriptor.readlink() == path:
                return True
    return False


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["own", "preload"])
def test_a_worker_answers_while_its_flush_waits_for_the_ledger(preload, tmp_path):
    """
    The order of events: the ledger is locked, a flush begins to wait for it, requests are answered, the flush gives up.

    A flush in a greenlet would let no request be answered before it gives up.
    """
    with Billing(tmp_path) as billing:
        billing.use_an_hour_ago(7)
        command = [*GUNICORN, "--workers", "1", "--worker-class", "gevent", *preload]
        with Server(command, billing, tmp_path, SERVED_LEDGER_SECONDS=str(GUARD)) as server:
            (worker,) = server.ask_times(3)
            with billing.locked_ledger():
                while not has_open(worker, billing.ledger):
                    server.ask_times(1)
                server.ask_times(12)
                given_up = "could not be" in server.log
            server.stop(figure="gunicorn gevent, the ledger was locked")

        assert not given_up
        assert server.complete == server.sent == billing.settle()


@pytest.mark.parametrize("patched", ["before the import", "after the import"])
def test_greenlets_and_threads_are_counted_exactly(patched, tmp_path):
    """Whether gevent patched Python before or after meterkit came: 50 greenlets and 4 real threads miss nothing."""
    with Billing(tmp_path) as billing:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", Path(__file__).with_name("served_gevent.py"), patched, billing.company],
            env={**os.environ, **billing.environment, "PYTHONPATH": PYTHONPATH},
            timeout=GUARD,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (0, "") == (ended.returncode, ended.stderr)
        assert 50 * 40 + 4 * 500 + 1 == billing.settle()
