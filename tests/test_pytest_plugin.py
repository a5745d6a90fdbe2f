"""The fixture that other people's tests use."""

from __future__ import annotations

import subprocess
import sys

TESTS = """
import pytest
from stripe import StripeClient
from meterkit import Meter, MeterKit


def test_a_kit_reports_to_it(stripe_sandbox, tmp_path):
    stripe = StripeClient(stripe_sandbox.api_key, base_addresses={"api": stripe_sandbox.url}).v1
    stripe.billing.meters.create(
        {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    customer = stripe.customers.create({}).id
    kit = MeterKit(meters=[Meter("calls")], data_dir=tmp_path)
    kit.record("calls", customer, 3)
    kit.report(include_open=True)
    kit.close()
    assert stripe_sandbox.usage("calls", customer) == 3
    before = stripe_sandbox.now
    assert stripe_sandbox.advance(seconds=60) == before + 60


@pytest.mark.stripe_sandbox(now=1_772_323_200, livemode=True)
def test_its_switches(stripe_sandbox):
    assert (stripe_sandbox.now, stripe_sandbox.api_key) == (1_772_323_200, "sk_live_sandbox")


"""


def test_pytest_finds_it(tmp_path):
    """Without a plugin named anywhere, with warnings as errors and strict markers."""
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "test_it.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "2 passed" in done.stdout, done.stdout


def test_it_loads_nothing_before_it_is_asked_for(tmp_path):
    """Not the sandbox, nor what a kit needs."""
    heavy = "('meterkit.sandbox', 'stripe', 'sqlalchemy')"
    code = f"import sys, meterkit.pytest_plugin; print([name for name in sys.modules if name.startswith({heavy})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout
