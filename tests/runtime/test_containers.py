"""Containers whose disk goes with them: the log says what that costs, and a graceful stop can report the open hour."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from guard import GUARD, UNHURRIED

from meterkit import ConfigurationError, Meter, MeterKit
from meterkit.core import filesystem, threads
from meterkit.ledger import lease
from meterkit.runtime import process, stripe_jobs

ROOT = "25 1 8:1 / / rw,relatime shared:1 - {kind} /dev/vda1 rw"
VOLUME = "36 25 8:2 {root} {place} rw,relatime - {kind} /dev/vdb1 rw"
EMPTY_DIR = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/data"


@pytest.fixture
def make_host(make_kit, stripe, tmp_path):
    """A function that makes kits which report to the sandbox, and report the open hour when they are closed."""

    def make(**options):
        return make_kit(**{"report_on_close": True, "stripe_key": stripe.api_key, "stripe_base": stripe.url, **options})

    return make


@pytest.mark.parametrize("is_on", [True, False])
def test_a_graceful_stop_at_half_past(make_host, stripe, customer, clock, tmp_path, is_on):
    """Stripe has what was counted, although the disk is gone; without it, nothing."""
    kit = make_host(report_on_close=is_on)
    for _ in range(30):
        kit.record("calls", customer, 10)
        clock.advance(60)

    kit.close()
    shutil.rmtree(tmp_path / "meterkit")

    assert (300 if is_on else 0) == stripe.usage("calls", customer)


def test_the_rest_of_the_hour_follows(make_host, stripe, customer, clock):
    """On a disk that stays, nothing is sent twice."""
    kit = make_host()
    kit.record("calls", customer, 3)
    kit.close()
    kit.record("calls", customer, 4)
    kit.close()
    kit.close()
    clock.advance(3600)
    kit.report()

    assert 7 == stripe.usage("calls", customer)


def test_a_command_that_only_looks_reports_nothing(make_host, make_kit, stripe, customer):
    """As each command of the command line does."""
    other = make_kit()
    other.record("calls", customer, 3)
    other.flush()

    kit = make_host()
    kit.usage()
    kit.close()

    assert 0 == stripe.usage("calls", customer)


def test_it_does_not_wait_for_stripe_for_ever(make_host, stripe, customer, monkeypatch):
    """While Stripe does not answer, close() comes back, says so, and the usage is in the ledger."""
    held = stripe.fail("timeout_before")

    class Impatient(threads.DaemonThread):
        def join(self, timeout):
            assert process.LAST_REPORT_SECONDS == timeout
            assert held.wait(GUARD)
            return super().join(0)

    monkeypatch.setattr(process, "DaemonThread", Impatient)
    kit = make_host()
    kit.record("calls", customer, 3)

    kit.close()

    assert "could not be reported" in kit.health()["problems"]["report_failed"]["message"]
    assert [3] == [each.quantity for each in kit.usage()]
    held.release()


def test_it_waits_for_another_process_that_reports(make_host, stripe, customer, clock, monkeypatch):
    """Workers end at the same time, and each has usage of its own."""
    kit = make_host()
    kit.record("calls", customer, 3)
    database = kit.process().database()
    other = lease.acquire(database, "reporter", "another", clock=clock)
    waited = []
    wait = stripe_jobs.Event.wait

    def wait_until_released(event, timeout):
        if timeout == stripe_jobs._BUSY_SECONDS:
            waited.append(timeout)
            lease.release(database, other)
        return wait(event, timeout)

    monkeypatch.setattr(stripe_jobs.Event, "wait", wait_until_released)
    kit.close()

    assert waited
    assert 3 == stripe.usage("calls", customer)


def test_a_process_that_ends_reports(stripe, customer, tmp_path):
    """At its exit, if nobody has closed the kit."""
    script = UNHURRIED + (
        "import sys; from meterkit import Meter, MeterKit\n"
        "kit = MeterKit(meters=[Meter('calls')], data_dir=sys.argv[1], stripe_key=sys.argv[2], stripe_base=sys.argv[3],"
        " customer_ids=True,"
        " report_on_close=True, clock=lambda: 1_772_367_000)\n"
        "kit.record('calls', sys.argv[4], 5)"
    )

    subprocess.run([sys.executable, "-c", script, tmp_path / "data", stripe.api_key, stripe.url, customer], check=True)

    assert 5 == stripe.usage("calls", customer)


def test_what_is_no_flag():
    """The message names the values."""
    with pytest.raises(ConfigurationError, match="report_on_close= must be True or False"):
        MeterKit(meters=[Meter("calls")], report_on_close="yes")


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A function that says what is mounted, and which variables the platform sets."""
    monkeypatch.undo()

    def mounted(kind, *volumes, **variables):
        table = tmp_path / "mountinfo"
        lines = [VOLUME.format(root=root, place=tmp_path, kind=of) for root, of in volumes]
        table.write_text("\n".join([ROOT.format(kind=kind), *lines, ""]))
        monkeypatch.setattr(filesystem, "MOUNTS", table)
        for name in filesystem.PLATFORMS:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return mounted


KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("mounts", "variables", "said"),
    [
        (["ext4"], {}, None),
        (["overlay"], {}, "(overlay)"),
        (["overlay", ("/", "tmpfs")], {}, "(tmpfs)"),
        (["overlay", ("/", "ext4")], KUBERNETES, None),
        (["overlay", (EMPTY_DIR, "ext4")], KUBERNETES, "emptyDir"),
        (["ext4"], {"DYNO": "web.1"}, "DYNO is set"),
        (["ext4", ("/", "ext4")], {"RENDER": "true"}, None),
        (["xfs"], {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4"}, "ECS_CONTAINER_METADATA_URI_V4 is set"),
    ],
)
def test_a_disk_that_goes_with_the_container(make_kit, mounted, caplog, mounts, variables, said):
    """It is said once, at the first count; a volume is none, nor is a ledger elsewhere."""
    mounted(*mounts, **variables)
    kit = make_kit()
    kit.usage()
    before = _warnings(caplog)
    for _ in range(3):
        kit.record("calls", "acme")
    warnings = _warnings(caplog)

    assert [] == before
    assert (1 if said else 0) == len(warnings)
    assert all(said in each and "ledger= to PostgreSQL" in each for each in warnings)
    assert not any("volume that outlives" in each for each in kit.health()["attention"])


def test_a_ledger_elsewhere_is_not_warned_of(make_kit, mounted, caplog, tmp_path):
    """Whoever has set ledger= has chosen where it is."""
    mounted("overlay")
    kit = make_kit(ledger=f"sqlite:///{tmp_path}/elsewhere.sqlite")
    kit.record("calls", "acme")

    assert [] == _warnings(caplog)


def _warnings(caplog):
    return [each.getMessage() for each in caplog.records if "volume that outlives" in each.getMessage()]
