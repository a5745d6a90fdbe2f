"""Where a worker starts a process that flushes, and what it tells it."""

from __future__ import annotations

import builtins
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from meterkit import Meter, Webhook
from meterkit.core import live_key
from meterkit.flusher import launch, role


@pytest.fixture
def serving(monkeypatch):
    """A process that serves: no test run, no command."""
    monkeypatch.setattr(live_key, "test_runs", 0)
    monkeypatch.setattr(role, "is_command", False)
    monkeypatch.setattr(sys, "argv", ["/srv/app/.venv/bin/gunicorn", "app:app"])


@pytest.mark.usefixtures("serving")
def test_a_server_may():
    """Nothing is against it."""
    assert launch.reason_against() is None


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    "argv",
    [
        ["uvicorn", "app:app", "--reload"],
        ["manage.py", "runserver"],
        ["/srv/bin/fastapi", "dev", "app.py"],
    ],
    ids=" ".join,
)
def test_a_server_that_reloads_may_not(argv, monkeypatch):
    """It would start one after each change of the code."""
    monkeypatch.setattr(sys, "argv", argv)

    assert "change of the code" in launch.reason_against()


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("name", ["RUN_MAIN", "WERKZEUG_RUN_MAIN"])
def test_nor_what_a_reloader_started(name, monkeypatch):
    """Django's and Werkzeug's say so in the environment."""
    monkeypatch.setenv(name, "true")

    assert "change of the code" in launch.reason_against()


@pytest.mark.usefixtures("serving")
def test_nor_an_interactive_session(monkeypatch):
    """Its user expects one process."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert "interactive" in launch.reason_against()
    monkeypatch.delattr(sys, "ps1")
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    assert "interactive" in launch.reason_against()


def test_nor_a_test_run():
    """Which this is."""
    assert "a test run" in launch.reason_against()


@pytest.mark.usefixtures("serving")
def test_nor_one_of_unittest(monkeypatch):
    """As ``python -m unittest`` starts it."""
    program = ModuleType("__main__")
    program.__spec__ = ModuleSpec("unittest.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", program)

    assert "a test run" in launch.reason_against()


@pytest.mark.usefixtures("serving")
def test_nor_a_command(monkeypatch):
    """The flusher's own process is one."""
    monkeypatch.setattr(role, "is_command", True)

    assert "a command of meterkit" in launch.reason_against()


def test_the_interpreter_is_this_one():
    """As named by itself."""
    assert sys.executable == launch.python()


@pytest.mark.parametrize("executable", ["", None, "/usr/bin/uwsgi"])
def test_an_embedded_python_may_have_its_interpreter_beside_it(executable, monkeypatch, tmp_path):
    """In the environment's directory of programs; where there is none either, there is none."""
    monkeypatch.setattr(sys, "executable", executable)
    beside = tmp_path / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("exec_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    assert launch.python() is None

    beside.parent.mkdir()
    beside.touch(mode=0o700)

    assert str(beside) == launch.python()


def describe(kit):
    return launch.launch(kit.process().settings, names=[*kit.meters, *kit.plans])


def test_what_a_kit_took_from_its_project_is_passed_on(make_kit, tmp_path):
    """And the whole path of modules, also the one that stands for the working directory."""
    kit = make_kit(webhook=Webhook("/stripe", secret=["whsec_1", "whsec_2"]), stripe_key="sk_test_1")

    told = describe(kit)

    assert {
        "DATA_DIR": str(tmp_path / "meterkit"),
        "LEDGER": f"sqlite:///{tmp_path}/meterkit/ledger.sqlite",
        "STRIPE_KEY": "sk_test_1",
        "WEBHOOK_SECRET": ["whsec_1", "whsec_2"],
    } == told.settings
    assert all(Path(path).is_absolute() for path in told.sys_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("data_dir", {"data_dir": "/elsewhere"}),
        ("ledger", {"ledger": "postgresql://db/another"}),
        ("stripe_key", {"stripe_key": "sk_test_2"}),
        ("stripe_account", {"stripe_account": "acct_1"}),
        ("keep_days", {"keep_days": 90}),
        ("late", {"late": "next_invoice"}),
    ],
)
def test_another_kit_is_told_from_the_first(make_kit, name, options):
    """By the argument that differs, of which no value is told."""
    one, other = make_kit(), make_kit(**options)

    assert launch.difference(describe(one).identity, describe(one).identity) is None
    assert name == launch.difference(describe(one).identity, describe(other).identity)


def test_other_meters_are_another_kit(make_kit):
    """An old process and a new one, in the middle of a deployment."""
    one, other = make_kit(Meter("calls")), make_kit(Meter("calls"), Meter("egress"))

    assert "meters, plans or wallets" == launch.difference(describe(one).identity, describe(other).identity)
