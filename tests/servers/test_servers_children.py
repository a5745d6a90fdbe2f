"""Celery and multiprocessing, whose children end without most exit hooks: all they counted is billed, once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from figures import note_figure
from guard import GUARD
from served_billing import Billing
from served_server import PYTHONPATH
from thorough import some

pytestmark = [pytest.mark.long, pytest.mark.thorough]

TASKS = 14


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    """Three children of 20 uses, a pool with four tasks of 20; and the parent counts before and after it forks."""
    with Billing(tmp_path) as billing:
        program = Path(__file__).with_name("served_children.py")
        ended = subprocess.run(
            [sys.executable, program, method, billing.company, billing.early],
            env={**os.environ, **billing.environment, "PYTHONPATH": PYTHONPATH},
            timeout=GUARD,
            check=False,
        )

        assert 0 == ended.returncode
        assert 7 * 20 == billing.settle()
        assert 2 == billing.billed(billing.early)


@pytest.mark.parametrize("options", some([["--max-tasks-per-child", "3"]], among=[[], ["--max-tasks-per-child", "3"]]))
def test_celery(options, tmp_path):
    """A prefork worker, also one whose children end after a few tasks; and SIGTERM amidst tasks, which they finish."""
    broker = tmp_path / "broker"
    (broker / "control").mkdir(parents=True)
    with Billing(tmp_path) as billing, socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(GUARD)
        environment = {
            **os.environ,
            **billing.environment,
            "PYTHONPATH": PYTHONPATH,
            "SERVED_AT_IMPORT": billing.early,
            "SERVED_BROKER": str(broker),
        }
        command = [sys.executable, "-m", "celery", "-A", "served_celery"]
        port = gate.getsockname()[1]
        sends = f"import served_celery as s; [s.work.delay({billing.company!r}, {port}) for _ in range({TASKS})]"
        no_count = {name: value for name, value in environment.items() if name != "SERVED_AT_IMPORT"}
        subprocess.run([sys.executable, "-c", sends], env=no_count, cwd=tmp_path, timeout=GUARD, check=True)
        worker = subprocess.Popen(
            [*command, "worker", "--pool", "prefork", "--concurrency", "2", *options],
            env=environment,
            cwd=tmp_path,
            start_new_session=True,
        )
        try:
            for _ in range(TASKS - 2):
                gate.accept()[0].close()
            last = [gate.accept()[0] for _ in range(2)]
            begun = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            for each in last:
                each.close()
            assert 0 == worker.wait(GUARD)
            note_figure("exit: celery", signal="SIGTERM", seconds=round(time.monotonic() - begun, 3))
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()

        assert TASKS == billing.settle()
        assert 1 == billing.billed(billing.early)
