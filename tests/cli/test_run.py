"""``meterkit run``: one process flushes for all of a host, until it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from cli_shell import COMMAND, meterkit
from fake_clock import NOON
from guard import GUARD, tries

from meterkit import Meter

KIT = f"""
import os

from meterkit import Meter, MeterKit


def clock():
    return {NOON + 600} + 3600 * int(os.environ.get("HOURS_LATER", "0"))


kit = MeterKit(meters=[Meter("credit_scores"), Meter("egress")], customer_ids=True, clock=clock, flush_interval=0.05)
"""


@pytest.fixture
def shop(shop):
    """One whose kit has the machine's clock, and flushes all the time."""
    (shop / "billing.py").write_text(KIT)
    return shop


class Running:
    """``meterkit run``, and what it says."""

    def __init__(self, process):
        self.process = process
        self.said = []

    def wait_for(self, event):
        """Until it has said so."""
        for line in self.process.stderr:
            self.said.append(line)
            if f"({event}" in line:
                return line
        raise AssertionError(f"no {event} in {self.said}")

    def stop(self, number=signal.SIGTERM):
        """Signal it; its exit code."""
        self.process.send_signal(number)
        self.said.extend(self.process.stderr)
        return self.process.wait(GUARD)


@contextmanager
def running(*words, command=COMMAND):
    with subprocess.Popen([*command, "run", *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def record(quantity, *, meter="egress", company="acme"):
    """Count in a process of its own, which is then killed."""
    code = f"import billing, os; billing.kit.record({meter!r}, {company!r}, {quantity}); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def usage_of(make_kit):
    """A function that returns what is in the ledger, without flushing."""
    kit = make_kit(Meter("credit_scores"), Meter("egress"))
    return lambda: sum(row.quantity for row in kit.usage())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_flushes_until_it_is_stopped(shop, usage_of, number):
    """It says when it is ready and that it ended, and exits with 0; what was counted before is in the ledger."""
    with running("billing:kit") as flusher:
        ready = flusher.wait_for("flusher_ready")
        record(5)
        code = flusher.stop(number)

    assert 0 == code
    assert 5 == usage_of()
    assert "every 0.05 seconds" in ready
    assert "(flusher_stopped" in flusher.said[-1]


def test_it_reports(shop, stripe, monkeypatch):
    """Hours that have ended go to Stripe, without anybody's asking."""
    record(9, company=stripe.customer)
    monkeypatch.setenv("HOURS_LATER", "1")

    with running("billing:kit") as flusher:
        for _ in tries(lambda: "".join(flusher.said)):
            if stripe.usage("egress", stripe.customer):
                break
        assert 0 == flusher.stop()

    assert 9 == stripe.usage("egress", stripe.customer)


def test_what_is_counted_by_the_import_is_the_servers(shop, usage_of):
    """Who serves has counted it; the flusher, which imports the same module, does not count it again."""
    (shop / "billing.py").write_text(KIT + "kit.record('egress', 'acme', 3)\n")
    record(5)

    with running("billing:kit") as flusher:
        flusher.wait_for("flusher_ready")
        assert 0 == flusher.stop()

    assert 3 + 5 == usage_of()


def test_a_second_one_waits(shop, usage_of):
    """It says for whom, and takes over when that one ends."""
    with running("billing:kit") as first:
        first.wait_for("flusher_ready")
        with running("billing:kit") as second:
            waits = second.wait_for("flusher_waits")
            assert f"process {first.process.pid}" in waits

            first.process.kill()

            second.wait_for("flusher_ready")
            record(7)
            assert 0 == second.stop()
    assert 7 == usage_of()


def test_one_that_waits_can_be_stopped(shop):
    """It has nothing to flush, and exits with 0."""
    with running("billing:kit") as first:
        first.wait_for("flusher_ready")
        with running("billing:kit") as second:
            second.wait_for("flusher_waits")

            assert 0 == second.stop()
        assert 0 == first.stop()


def test_it_does_not_end_with_its_terminal(shop):
    """SIGHUP does nothing."""
    with running("billing:kit") as flusher:
        flusher.wait_for("flusher_ready")
        flusher.process.send_signal(signal.SIGHUP)

        assert 0 == flusher.stop()


def test_a_last_flush_that_fails_is_an_exit_code(shop, tmp_path):
    """The usage stays in the journal, for the next one."""
    with running("billing:kit") as flusher:
        flusher.wait_for("flusher_ready")
        (tmp_path / "meterkit" / "ledger.sqlite").write_bytes(b"no database" * 1000)
        record(5)

        assert 1 == flusher.stop()


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("kit = None", "billing contains no MeterKit"),
        ("import nowhere_1", "No module named 'nowhere_1'"),
        (KIT.replace("flush_interval", "ledger='sqlite://', flush_interval"), "'sqlite:///path', 'postgresql://...'"),
        (
            KIT.replace("flush_interval", "data_dir='/proc/billing', flush_interval"),
            "run the command as the user of the app",
        ),
    ],
)
def test_what_cannot_work_is_refused(shop, code, cure):
    """In one line with the cure, and with exit code 2, at which no supervisor needs to start it again."""
    (shop / "billing.py").write_text(code)

    found, out, err = meterkit("run", "billing:kit")

    assert (2, "") == (found, out)
    assert cure in err
    assert 1 == err.count("\n")


def test_a_network_file_system_is_refused(shop, monkeypatch):
    """Locks do not work there, nor shared memory."""
    hook = (
        "from meterkit.core import filesystem; filesystem.NETWORK = {filesystem.file_system_type('.').split('.')[-1]}"
    )
    (shop / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(shop), prepend=os.pathsep)

    code, _, err = meterkit("run", "billing:kit")

    assert 2 == code
    assert "a data_dir on a local disk" in err
