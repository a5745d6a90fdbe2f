"""The pytest plugin that other people's tests use: isolation, and the fixture ``stripe_sandbox``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stripe_account import api, make_meter

from meterkit.sandbox import Sandbox

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
    kit = MeterKit(meters=[Meter("calls")], customer_ids=True, data_dir=tmp_path)
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

BILLING = """
from meterkit import Meter, MeterKit

kit = MeterKit(meters=[Meter("calls")], customer_ids=True, flush_interval=0.01, report_interval=1.0)
"""

COUNTED = """
from billing import kit


def used():
    kit.flush()
    return sum(row.quantity for row in kit.usage())


def test_one():
    kit.record("calls", "CUSTOMER", 50)
    assert used() == 50


def test_another():
    kit.record("calls", "CUSTOMER", 3)
    assert used() == 3
    assert set(kit.health()["problems"]) <= {"no_stripe_key", "live_key_in_tests"}
"""


def run(directory, *options, **environment):
    """Run the tests in *directory*: the last lines of what pytest prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [*command, *options],
        cwd=directory,
        env={**inherited, "TMPDIR": str(directory.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path):
    """A directory for a project, which is itself in a temporary directory, as in many a container."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "billing.py").write_text(BILLING)
    (directory / "conftest.py").write_text("")  # so that the tests import billing
    return directory


@pytest.fixture
def live():
    """A sandbox that plays the live account, and the environment of somebody who has its key there."""
    with Sandbox(api_key="sk_live_51") as account:
        make_meter(account, "calls")
        account.who = api(account).customers.create({}).id
        account.at_start = len(account.requests)
        account.environment = {"STRIPE_SECRET_KEY": "sk_live_51", "METERKIT_STRIPE_BASE": account.url}
        yield account


def test_pytest_finds_it(tmp_path):
    """Without a plugin named anywhere, with warnings as errors and strict markers."""
    (tmp_path / "test_it.py").write_text(TESTS)

    printed = run(tmp_path, "test_it.py")

    assert "2 passed" in printed, printed


def test_it_loads_nothing_before_it_is_asked_for(tmp_path):
    """Not the sandbox, nor what a kit needs."""
    heavy = "('meterkit.sandbox', 'meterkit.kit', 'stripe', 'sqlalchemy')"
    code = f"import sys, meterkit.pytest_plugin; print([name for name in sys.modules if name.startswith({heavy})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


@pytest.mark.long
def test_each_test_begins_with_nothing(project):
    """The application's own kit counts into a fresh ledger for each test, in the second run as well."""
    (project / "test_it.py").write_text(COUNTED.replace("CUSTOMER", "acme"))

    first, second = run(project), run(project)

    assert "2 passed" in first, first
    assert "2 passed" in second, second
    assert ["billing.py", "conftest.py", "test_it.py"] == sorted(each.name for each in project.glob("[!_]*"))


@pytest.mark.long
def test_the_page_s_project(project):
    """The files that the page "In your tests" shows, all together."""
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (project / name).write_text(text)

    printed = run(project, "-p", "no:randomly")

    assert "2 passed" in printed, printed


@pytest.mark.long
def test_a_session_s_fixture_counts_elsewhere(project):
    """What is counted between two tests does not reach the application's ledger either."""
    (project / "test_it.py").write_text(
        "import pytest\nfrom billing import kit\n"
        "@pytest.fixture(scope='session')\ndef some():\n    kit.record('calls', 'acme', 2)\n    kit.flush()\n"
        "def test_it(some):\n    assert [] == kit.usage()\n"
    )

    printed = run(project)

    assert "1 passed" in printed, printed
    assert not (project / ".meterkit").exists()


@pytest.mark.long
def test_the_same_directory_is_the_same_ledger(project):
    """Kits that share a directory share it in a test; and a directory that a test made stays."""
    (project / "test_it.py").write_text(
        "from billing import kit\nfrom meterkit import Meter, MeterKit\n"
        "def test_it(tmp_path):\n"
        "    kit.record('calls', 'acme', 2)\n    kit.flush()\n"
        "    other = MeterKit(meters=[Meter('calls')])\n    assert kit.usage() == other.usage() != []\n"
        "    mine = MeterKit(meters=[Meter('calls')], data_dir=tmp_path)\n"
        "    mine.record('calls', 'acme')\n    mine.close()\n    assert (tmp_path / 'ledger.sqlite').exists()\n"
    )

    printed = run(project)

    assert "1 passed" in printed, printed


@pytest.mark.long
def test_a_live_account_receives_nothing(project, live):
    """Neither from the background, although a report is due, nor on demand; not from a process of the test's either."""
    (project / "test_it.py").write_text(
        COUNTED.replace("CUSTOMER", live.who)
        + """

import subprocess
import sys
import time

import pytest
from meterkit import ConfigurationError


@pytest.mark.parametrize("ask", [kit.report, kit.sync, kit.provision, kit.reconcile, lambda: kit.subscribe("acme")])
def test_it_is_refused(ask):
    with pytest.raises(ConfigurationError, match="stripe_sandbox or a test key"):
        ask()


def test_the_background_says_so():
    kit.record("calls", "acme")
    guard = time.monotonic() + 120
    while "live_key_in_tests" not in kit.health()["problems"] and time.monotonic() < guard:
        pass
    assert "live_key_in_tests" in kit.health()["problems"]


def test_a_process_is_refused(tmp_path):
    environment = {**__import__("os").environ, "METERKIT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "meterkit", "report", "billing:kit"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode and "stripe_sandbox" in done.stderr + done.stdout
"""
    )

    printed = run(project, **live.environment)

    assert "9 passed" in printed, printed
    assert [] == live.requests[live.at_start :]


@pytest.mark.long
def test_a_live_account_on_demand(project, live):
    """Who means it says so in the environment."""
    (project / "test_it.py").write_text(
        f"from billing import kit\ndef test_it():\n    kit.record('calls', '{live.who}', 7)\n"
        "    assert kit.report(include_open=True).sent == 1\n"
    )

    printed = run(project, METERKIT_LIVE_IN_TESTS="1", **live.environment)

    assert "1 passed" in printed, printed
    assert 7 == live.usage("calls", live.who)


@pytest.mark.long
def test_the_sandbox_takes_over_kits_that_exist(project, live):
    """The application's own kit reports to the fixture's sandbox, test by test; the live account sees nothing."""
    (project / "test_it.py").write_text(
        """
import pytest
from billing import kit

@pytest.mark.parametrize("again", [1, 2])
def test_it(stripe_sandbox, again):
    kit.provision()
    from stripe import StripeClient
    stripe = StripeClient(stripe_sandbox.api_key, base_addresses={"api": stripe_sandbox.url}).v1
    customer = stripe.customers.create({}).id
    kit.record("calls", customer, again)
    kit.report(include_open=True)
    assert stripe_sandbox.usage("calls", customer) == again

def test_after_it():
    from meterkit import ConfigurationError
    with pytest.raises(ConfigurationError, match="live"):
        kit.report()
"""
    )

    printed = run(project, **live.environment)

    assert "3 passed" in printed, printed
    assert [] == live.requests[live.at_start :]


DJANGO = """
import os
import sys

from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="urls", METERKIT="billing.kit",
    DATABASES={}, MIDDLEWARE=["meterkit.django.MeterMiddleware"],
)
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "test", *sys.argv[1:]])
"""

DJANGO_TESTS = """
import meterkit.testing
from billing import kit
from django.test import SimpleTestCase
from meterkit import ConfigurationError


class Counted(SimpleTestCase):
    def test_it(self):
        self.client.get("/")
        kit.flush()
        self.assertEqual(1, sum(row.quantity for row in kit.usage()))
        with self.assertRaisesRegex(ConfigurationError, "test run"):
            kit.report(include_open=True)


class Isolated(SimpleTestCase):
    def setUp(self):
        isolation = meterkit.testing.isolated()
        isolation.__enter__()
        self.addCleanup(isolation.__exit__, None, None, None)

    def test_one(self):
        kit.record("calls", "acme", 2)
        kit.flush()
        self.assertEqual(2, sum(row.quantity for row in kit.usage()))

    test_two = test_one
"""


@pytest.mark.long
def test_django_s_own_runner(project, live):
    """``manage.py test`` has a ledger of its own, which the next run does not see, and calls no live account."""
    (project / "billing.py").write_text(BILLING.replace("flush", "identify=lambda _: 'acme', flush"))
    (project / "urls.py").write_text(
        "from django.http import HttpResponse\nfrom django.urls import path\n"
        "urlpatterns = [path('', lambda request: HttpResponse())]\n"
    )
    (project / "manage.py").write_text(DJANGO)
    (project / "tests.py").write_text(DJANGO_TESTS)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "manage.py"],
            cwd=project,
            env={**inherited, **live.environment},
            capture_output=True,
            text=True,
            check=False,
        )

        assert "Ran 3 tests" in done.stderr, done.stderr
        assert "\nOK" in done.stderr, done.stderr
    assert not (project / ".meterkit").exists()
    assert [] == live.requests[live.at_start :]


@pytest.mark.long
def test_isolation_with_a_sandbox(tmp_path, monkeypatch):
    """`meterkit.testing.isolated(stripe=...)`, for other test runners: the kit reports there, and has its own back."""
    monkeypatch.chdir(tmp_path)
    code = """
import meterkit.testing
from billing import kit
from meterkit.sandbox import Sandbox
kit.record("calls", "acme", 5)
with Sandbox() as sandbox, meterkit.testing.isolated(stripe=sandbox):
    kit.flush()
    print(kit.usage(), kit.provision().steps != ())
kit.flush()
print([row.quantity for row in kit.usage()])
kit.close()
"""
    (tmp_path / "billing.py").write_text(BILLING)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )

    assert "[] True\n[5]\n" == done.stdout, done.stderr
