"""A shop with a kit, in a directory that is the current one, and a Stripe account that it is pointed at."""

from __future__ import annotations

import os

import pytest
import stripe as stripe_python
from fake_clock import NOON
from stripe_types import wrong_requests

from meterkit import Meter
from meterkit.sandbox import Sandbox
from meterkit.stripe_api.transport import HTTPXClient

METERS = [Meter("credit_scores"), Meter("egress")]

BILLING = f"""
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("credit_scores"), Meter("egress")], customer_ids=True, clock=lambda: {NOON + 600})
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A directory with a ``billing.py``, which is the current one."""
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "billing.py").write_text(BILLING)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "meterkit"))
    monkeypatch.setenv("COLUMNS", "200")
    return directory


@pytest.fixture
def used(shop, make_kit):
    """A kit of the shop, with some usage in its journal."""
    kit = make_kit(*METERS)
    kit.record("credit_scores", "acme", 1_500)
    kit.record("credit_scores", "globex", 80, user="ada")
    kit.record("egress", "acme", 7)
    return kit


@pytest.fixture
def stripe(monkeypatch):
    """A Stripe account with both meters, that the command line is pointed at."""
    with Sandbox(now=NOON + 600) as sandbox:
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        http = HTTPXClient()
        api = stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}, http_client=http).v1
        for meter in METERS:
            api.billing.meters.create(
                {"display_name": meter.name, "event_name": meter.name, "default_aggregation": {"formula": "sum"}}
            )
        sandbox.customer = api.customers.create({"name": "Acme"}).id
        yield sandbox
        assert [] == wrong_requests(sandbox)
        http.close()


@pytest.fixture
def without_rich(shop, monkeypatch):
    """An interpreter in which rich cannot be imported."""
    hook = "import sys; sys.modules['rich'] = None"
    (shop / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(shop), prepend=os.pathsep)
