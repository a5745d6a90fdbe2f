"""``METERKIT`` in the settings: the kit, and what differs between environments."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from meterkit import ConfigurationError, Meter, MeterKit, Webhook

CALLS = Meter("calls", path="/v1/*")


@pytest.fixture
def billing(with_settings, monkeypatch):
    """A function that sets ``METERKIT``, and builds the kit of the module ``billing`` as an import of it does."""
    kits = []

    def build(given, **arguments):
        with_settings(METERKIT=given, MIDDLEWARE=["meterkit.django.MeterMiddleware"], ROOT_URLCONF="billing")
        module = ModuleType("billing")
        module.urlpatterns = []
        module.kit = MeterKit(meters=[CALLS], **arguments)
        monkeypatch.setitem(sys.modules, "billing", module)
        kits.append(module.kit)
        return module.kit

    yield build
    for kit in kits:
        kit.close()


def test_a_kit_takes_what_the_settings_say(billing, tmp_path, monkeypatch):
    """Rather than what the environment says: the settings know it, and may ask it themselves."""
    monkeypatch.setenv("METERKIT_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_environment")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_environment")
    given = {"KIT": "billing.kit", "DATA_DIR": tmp_path, "STRIPE_KEY": "sk_test_settings", "WEBHOOK_SECRET": "whsec_s"}
    kit = billing(given)

    assert f"MeterKit(meters=['calls'], stripe_key='sk_test_...', data_dir='{tmp_path}')" == repr(kit)
    assert ("whsec_s",) == Webhook("/stripe").secrets
    assert 404 == Client().get("/v1/x").status_code


def test_what_the_settings_leave_out_is_the_environments(billing, tmp_path, monkeypatch):
    """As for any kit; an empty value is none."""
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path))
    kit = billing({"KIT": "billing.kit", "DATA_DIR": "", "STRIPE_KEY": None})

    assert str(tmp_path) in repr(kit)


@pytest.mark.parametrize("key", ["DATADIR", "data_dir", "OPTIONS", 5])
def test_an_unknown_key(billing, key):
    """It is an error wherever a kit is built, not only where requests are served; and the known ones are named."""
    with pytest.raises(ConfigurationError, match="the keys are KIT, LEDGER, DATA_DIR, STRIPE_KEY, STRIPE_BASE, WEB"):
        billing({"KIT": "billing.kit", key: "var"})


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, 'METERKIT has no "KIT"; add the dotted path of your kit'),
        ({"KIT": ""}, 'METERKIT has no "KIT"'),
        ({"KIT": "billing.kot"}, "METERKIT = {'KIT': 'billing.kot', ...}: Module \"billing\" does not define"),
        ({"KIT": "billing.urlpatterns"}, "the middleware needs a MeterKit"),
        ({"KIT": 5}, "the middleware needs a MeterKit, such as billing.kit, not 5"),
    ],
)
def test_no_kit(billing, given, complaint):
    """The project does not start, and no value of the dictionary is shown: there may be keys and passwords in it."""
    billing({**given, "STRIPE_KEY": "sk_test_hush", "LEDGER": "postgresql://me:hush@host/db"})

    with pytest.raises(ImproperlyConfigured) as caught:
        Client().get("/")

    assert complaint in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "arguments", "named"),
    [
        ({"DATA_DIR": "/var/lib/one"}, {"data_dir": "/var/lib/two"}, "data_dir="),
        ({"LEDGER": "sqlite:////var/one.sqlite"}, {"ledger": "sqlite:////var/two.sqlite"}, "ledger="),
        ({"STRIPE_KEY": "sk_test_1"}, {"stripe_key": "sk_test_2"}, "stripe_key="),
        ({"STRIPE_BASE": "http://127.0.0.1:1"}, {"stripe_base": "http://127.0.0.1:2"}, "stripe_base="),
        ({"WEBHOOK_SECRET": "whsec_1"}, {"webhook": Webhook("/stripe", secret="whsec_2")}, "Webhook(secret=...)"),
    ],
)
def test_what_the_kit_says_otherwise(billing, given, arguments, named):
    """Two places that contradict each other are an error: usage would be where nobody looks for it."""
    billing({"KIT": "billing.kit", **given}, **arguments)

    with pytest.raises(ImproperlyConfigured) as caught:
        Client().get("/")

    assert (
        f"METERKIT has {next(iter(given))!r}, but the kit was built without it: MeterKit() itself has {named}"
        in str(caught.value)
    )


def test_the_same_in_both(billing, tmp_path):
    """Is no contradiction, and neither is a secret for a kit without a webhook."""
    billing({"KIT": "billing.kit", "DATA_DIR": str(tmp_path), "WEBHOOK_SECRET": "whsec_1"}, data_dir=tmp_path)

    assert 404 == Client().get("/").status_code


def test_a_kit_in_the_dictionary(billing):
    """As everywhere else in Django, the thing itself may stand in place of its path."""
    kit = billing(None)
    billing({"KIT": kit})

    assert 404 == Client().get("/").status_code


SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "db"}}}}
{early}
METERKIT = {{"KIT": {kit}, "DATA_DIR": "/var/lib/billing"}}
"""

BILLING = """
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls", path="/v1/*")], {arguments})
"""


def started(directory, *, program="import django; django.setup()", early="", kit="'billing.kit'", arguments=""):
    """Run a program in a project; the last line of what it prints."""
    (directory / "project_settings.py").write_text(SETTINGS.format(early=early, kit=kit))
    (directory / "billing.py").write_text(BILLING.format(arguments=arguments))
    program += "; from meterkit.django.configuration import kit_of_settings; print(kit_of_settings())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=directory,
        env={"DJANGO_SETTINGS_MODULE": "project_settings", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout or done.stderr).splitlines()[-1]


def test_a_kit_that_is_imported_before_the_settings_are_loaded(tmp_path):
    """As in a Celery module: it loads them, as all else in Django does that asks for a setting."""
    printed = started(tmp_path, program="import django.conf, billing")

    assert "data_dir='/var/lib/billing'" in printed


@pytest.mark.long
def test_a_kit_that_the_settings_module_imports(tmp_path):
    """It cannot know what comes below it, and counts nowhere else in silence."""
    printed = started(tmp_path, early="import billing", kit="billing.kit")

    assert "METERKIT has 'DATA_DIR', but the kit was built without it" in printed
    assert "the settings module imports the kit" in printed


@pytest.mark.long
def test_databases_are_not_known_either(tmp_path):
    """A ledger of DATABASES in a kit that the settings module imports."""
    printed = started(tmp_path, early="import billing", kit="billing.kit", arguments="ledger='django:default'")

    assert "the settings module imports the kit, before DATABASES is known: name the kit by its dotted path" in printed
