"""``meterkit collect``: runs until SIGTERM, waits for what is not there, and says what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guard import tries
from real_nats import RealNats, used
from thorough import first

from meterkit import JetStream

COLLECT = [str(Path(sys.executable).with_name("meterkit")), "collect", "billing:kit"]


@pytest.fixture
def host(make_kit, jetstream):
    """A kit that publishes, and has the time that the command has."""
    return make_kit(jetstream=jetstream, clock=time.time)


@pytest.fixture
def run_collect(tmp_path):
    """A function that starts the command for a kit in a module of its own."""
    processes = []

    def run(jetstream, *arguments):
        names = "" if jetstream is None else f"stream={jetstream.stream!r}, subject={jetstream.subject!r}, replicas=1"
        shown = "None" if jetstream is None else f"JetStream({list(jetstream.urls)!r}, {names})"
        (tmp_path / "billing.py").write_text(
            "from meterkit import JetStream, Meter, MeterKit\n"
            f"kit = MeterKit(meters=[Meter('calls')], data_dir={str(tmp_path / 'collector')!r}, customer_ids=True,\n"
            f"    ledger='sqlite:///{tmp_path}/meterkit/ledger.sqlite', jetstream={shown})\n"
        )
        process = subprocess.Popen(
            [*COLLECT, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV
        )
        processes.append(process)
        return process

    yield run
    for each in processes:
        each.kill()
        each.communicate()


ENV = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("number", first([signal.SIGTERM], among=[signal.SIGTERM, signal.SIGINT]))
def test_until_sigterm(host, run_collect, jetstream, number):
    """It makes the stream, folds what comes, and ends in order."""
    process = run_collect(jetstream)

    assert process.stdout.readline().startswith(f"Collecting from the stream {jetstream.stream} at nats://127.0.0.1")
    host.record("calls", "acme", 3)
    host.flush()
    for _ in tries():
        if used(host):
            break
    process.send_signal(number)

    assert ("Stopped.\n", 0) == (process.communicate()[0], process.returncode)
    assert {"acme": 3} == used(host)


@pytest.mark.long
def test_once(host, run_collect, jetstream):
    """``--once`` ends when nothing waits, for cron."""
    assert "0 generations were new to the ledger.\n" == run_collect(jetstream, "--once").communicate()[0]
    for _ in range(3):
        host.record("calls", "acme", 3)
        host.flush()
    process = run_collect(jetstream, "--once", "--batch", "2")

    assert ("3 generations were new to the ledger.\n", 0) == (process.communicate()[0], process.wait())
    assert {"acme": 9} == used(host)


@pytest.mark.long
def test_a_server_that_comes_later(run_collect):
    """It says once what is missing, and starts when it is there."""
    with RealNats() as server:
        server.kill()
        process = run_collect(JetStream(server.urls, replicas=1))

        assert process.stdout.readline().startswith("meterkit: JetStream at nats://127.0.0.1")
        server.start()
        assert process.stdout.readline().startswith("Collecting from the stream METERKIT")


def test_a_kit_without_jetstream(run_collect):
    """There is nothing to collect; the message says what is missing."""
    process = run_collect(None)

    assert "this kit has no jetstream=, so its hosts publish nothing" in process.communicate()[1]
    assert 2 == process.returncode


@pytest.mark.parametrize("batch", first(["0"], among=["0", "10001", "many", "-1"]))
def test_a_wrong_batch(run_collect, jetstream, batch):
    """The size of a batch has limits."""
    process = run_collect(jetstream, f"--batch={batch}")

    assert "must be 1 to 10,000" in process.communicate()[1]
    assert 2 == process.returncode
