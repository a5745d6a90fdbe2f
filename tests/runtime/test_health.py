"""`kit.health()` on usage that cannot be sent: what every process says, out of the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import sqlalchemy as sa
from fake_clock import NOON
from stripe_account import api, make_meter

from meterkit import Meter
from meterkit.runtime import health
from meterkit.sandbox import Sandbox

HOUR = 3600

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def account(clock):
    """A Stripe account without any meter."""
    with Sandbox(now=clock) as sandbox:
        sandbox.customer = api(sandbox).customers.create({}).id
        yield sandbox


@pytest.fixture
def make_reporting_kit(make_kit, account):
    """A function that makes kits which report to the account."""

    def make(**options):
        return make_kit(Meter("calls"), **{"stripe_key": account.api_key, "stripe_base": account.url, **options})

    return make


@pytest.mark.parametrize(
    ("options", "reason"), [({}, "No active meter found"), ({"stripe_key": "sk_test_revoked"}, "401: ")]
)
def test_usage_that_cannot_be_sent(make_reporting_kit, account, clock, options, reason):
    """After two intervals, every process says so and why; it is quiet again once it could be sent."""
    kit, other = make_reporting_kit(**options), make_reporting_kit(**options)
    kit.record("calls", account.customer, 5_000)
    kit.report(include_open=True)
    assert [] == other.health()["attention"]

    clock.advance(2 * HOUR + 1)
    (said,) = other.health()["attention"]
    assert said.startswith("1 meter event could not be sent to Stripe for 2 hours: ")
    assert reason in said
    assert "35 days are left" in said

    make_meter(account, "calls")
    healthy = make_reporting_kit()
    healthy.report()
    assert [] == other.health()["attention"]
    assert 5_000 == account.usage("calls", account.customer)


def test_the_command_line(make_reporting_kit, account, clock, tmp_path):
    """``meterkit health`` exits with 1."""
    kit = make_reporting_kit()
    kit.record("calls", account.customer, 5_000)
    kit.report(include_open=True)
    code = f"from meterkit import *; kit = MeterKit(meters=[Meter('calls')], clock=lambda: {NOON + 600 + 3 * HOUR})"
    (tmp_path / "billing.py").write_text(code)
    environment = {
        **os.environ,
        "METERKIT_DATA_DIR": str(tmp_path / "meterkit"),
        "STRIPE_SECRET_KEY": account.api_key,
        "METERKIT_STRIPE_BASE": account.url,
    }
    command = [sys.executable, "-m", "meterkit", "health", "billing:kit", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert "No active meter found" in json.loads(done.stdout)["attention"][0]


def test_usage_that_nobody_flushes(make_kit, tmp_path, monkeypatch):
    """A process was killed, and none is there to flush what it counted; with the next flush, that is over."""
    monkeypatch.setattr(health, "WAITS_SECONDS", 0.0)
    code = "import sys, os, meterkit as m; k = m.MeterKit(meters=[m.Meter('calls')], data_dir=sys.argv[1]); "
    code += "k.record('calls', 'acme'); os.kill(os.getpid(), 9)"
    killed = [sys.executable, "-c", code, str(tmp_path / "meterkit")]
    subprocess.run(killed, check=False, stderr=subprocess.DEVNULL)
    kit = make_kit(stripe_key="sk_test_1", flush_interval=0.001)

    (said,) = kit.health()["attention"]
    assert said.startswith(
        f"usage has been waiting in {tmp_path / 'meterkit'} for 0 minutes, and no process flushes it"
    )
    assert "meterkit run" in said

    assert kit.process().lock.try_acquire()
    (said,) = make_kit(stripe_key="sk_test_1", flush_interval=0.001).health()["attention"]
    assert f"(process {os.getpid()}, since " in said

    kit.flush()
    kit.process().lock.release()
    assert not [each for each in kit.health()["attention"] if "waiting" in each]


def test_it_reads_nothing_twice(make_reporting_kit, account, clock):
    """A ledger may have ten million meter events, and each query of them takes its time."""
    kit = make_reporting_kit()
    kit.record("calls", account.customer, 5)
    kit.report(include_open=True)
    asked = []

    def note(_connection, _cursor, statement, parameters, *_):
        asked.append((statement, str(parameters)))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        kit.health()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    of_reports = [each for each in asked if "meterkit_reports" in each[0]]

    assert len(of_reports) > 5
    assert len(set(of_reports)) == len(of_reports)
