"""A project's own tests: under Django's runner and pytest-django, none counts into a ledger of another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).parent
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "meterkit.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
    "meterkit.django.MeterMiddleware",
]
METERKIT = {"KIT": "billing.kit", "DATA_DIR": BASE_DIR / "var"}
"""

FILES = {
    "settings.py": SETTINGS,
    "urls.py": """
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("v1/hello", lambda request: HttpResponse("hello"))]
""",
    "billing.py": """
from meterkit import Meter, MeterKit, Price
from meterkit.django import company_of

calls = Meter("calls", path="/v1/*")
kit = MeterKit(meters=[calls], prices=[Price.per_unit(calls, "1.00")], identify=company_of("pk"))
""",
    "manage.py": """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
}

COUNTED = """
def used():
    kit.flush()
    return {(row.company, row.quantity) for row in kit.usage()}

"""

DJANGO_TESTS = f"""
import meterkit.testing
from billing import calls, kit
from django.contrib.auth.models import User
from django.test import Client, TestCase, override_settings
from meterkit import MeterKit
from meterkit.sandbox import Sandbox
{COUNTED}
class Calls(TestCase):
    def setUp(self):
        self.user = User.objects.create_user("ada")
        self.client.force_login(self.user)

    @meterkit.testing.isolated()
    def test_one(self):
        self.client.get("/v1/hello")
        self.assertEqual({{(str(self.user.pk), 1)}}, used())

    @meterkit.testing.isolated()
    def test_two(self):
        self.client.get("/v1/hello")
        self.client.get("/v1/hello")
        self.assertEqual({{(str(self.user.pk), 2)}}, used())

    def test_another_kit(self):
        other = MeterKit(meters=[calls], identify=lambda exchange: "other")
        with meterkit.testing.isolated(), override_settings(METERKIT=other):
            Client().get("/v1/hello")
            other.flush()
            self.assertEqual([("other", 1)], [(row.company, row.quantity) for row in other.usage()])

    def test_a_month(self):
        with Sandbox() as sandbox, meterkit.testing.isolated(stripe=sandbox):
            kit.provision()
            customer = kit.subscribe(str(self.user.pk)).customer
            self.client.get("/v1/hello")
            kit.report(include_open=True)
            self.assertEqual(1, sandbox.usage("calls", customer))
"""

PARALLEL = "".join(
    f"""
class Calls{number}(TestCase):
    def test_it(self):
        kit.record(calls, "{number}")
        kit.flush()
        self.assertEqual(["{number}"], [row.company for row in kit.usage()])
        directory = str(kit._supervisor.settings.data_dir)
        self.assertIn("meterkit-test-", directory)
"""
    for number in range(2)
)

PYTEST_TESTS = f"""
import pytest
from billing import calls, kit
from meterkit import MeterKit
{COUNTED}
@pytest.mark.parametrize("number", [1, 2])
def test_calls(client, django_user_model, number):
    user = django_user_model.objects.create_user("ada")
    client.force_login(user)
    for _ in range(number):
        client.get("/v1/hello")
    assert used() == {{(str(user.pk), number)}}

test_calls = pytest.mark.django_db(test_calls)

def test_another_kit(client, settings):
    settings.METERKIT = other = MeterKit(meters=[calls], identify=lambda exchange: "other")
    client.get("/v1/hello")
    other.flush()
    assert [("other", 1)] == [(row.company, row.quantity) for row in other.usage()]

def test_a_month(admin_client, admin_user, stripe_sandbox):
    kit.provision()
    customer = kit.subscribe(admin_user.pk).customer
    admin_client.get("/v1/hello")
    kit.report(include_open=True)
    assert stripe_sandbox.usage("calls", customer) == 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in the working directory of its own, as people have it; not below a directory that is temporary."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *command: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "METERKIT"))}
    done = subprocess.run(
        [sys.executable, *command], check=False, capture_output=True, text=True, cwd=project, env=inherited
    )
    return f"{done.stdout}{done.stderr}"


def test_django_s_runner(project: Path) -> None:
    """Each test that asks for it has an empty ledger, twice over; the project's own directory is not even made."""
    (project / "tests.py").write_text(DJANGO_TESTS)
    for _ in range(2):
        printed = run(project, "manage.py", "test")

        assert "Ran 4 tests" in printed, printed
        assert "\nOK" in printed, printed
    assert not (project / "var").exists()


def test_in_parallel(project: Path) -> None:
    """Each process has a ledger of its own, although a check has looked at one before they were forked."""
    (project / "checks.py").write_text(
        "from django.core import checks\nfrom billing import kit\n"
        "@checks.register\ndef looks(**_):\n    kit.flush()\n    kit.usage()\n    return []\n"
    )
    (project / "urls.py").write_text(FILES["urls.py"] + "import checks\n")
    (project / "tests.py").write_text(f"from billing import calls, kit\nfrom django.test import TestCase\n{PARALLEL}")
    temporary = project / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"], before = str(temporary), os.environ.get("TMPDIR")
    try:
        printed = run(project, "manage.py", "test", "--parallel", "2")
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)

    assert "Ran 2 tests" in printed, printed
    assert "\nOK" in printed, printed
    assert not (project / "var").exists()
    assert [] == list(temporary.glob("meterkit-test-*"))


def test_pytest_django(project: Path) -> None:
    """Each test has an empty ledger, and the fixture `stripe_sandbox` reaches the project's kit."""
    (project / "test_it.py").write_text(PYTEST_TESTS)
    (project / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = settings\npythonpath = .\n")
    for _ in range(2):
        printed = run(project, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")

        assert "4 passed" in printed, printed
    assert not (project / "var").exists()
