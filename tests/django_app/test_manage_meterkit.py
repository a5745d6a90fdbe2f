"""``manage.py meterkit``: the commands of ``meterkit``, with the kit of the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand

from meterkit import Meter, MeterKit, cli
from meterkit.django.management.commands.meterkit import Command

BILLING = """
from django.contrib.auth.models import User  # which needs the apps
from meterkit import Meter, MeterKit
print("imported")
kit = MeterKit(meters=[Meter("jobs", http=False)])
"""

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "meterkit.django"]
MIDDLEWARE = ["nothing.of.the.kind"]  # an error, for the checks
METERKIT = {"KIT": "billing.kit", "DATA_DIR": os.path.join(os.path.dirname(__file__), "var")}
"""


@pytest.fixture
def kit(with_settings, tmp_path):
    """The kit of the project, with three jobs of acme's."""
    kit = MeterKit(meters=[Meter("jobs", http=False)], data_dir=tmp_path)
    with_settings(METERKIT=kit)
    kit.record("jobs", "acme", 3)
    yield kit
    kit.close()


def called(*words, **options):
    """What a command prints, for a caller within the process."""
    out = StringIO()
    call_command("meterkit", *words, stdout=out, **options)
    return out.getvalue()


def test_it_has_the_commands_of_meterkit():
    """All of them, from one parser, with the same words but for the kit's path."""

    def commands(parser):
        [action] = [action for action in parser._actions if action.choices and action.metavar == "command"]
        return action.choices

    ours, djangos = commands(cli.parser()), commands(Command().create_parser("manage.py", "meterkit"))

    assert list(ours) == list(djangos)
    for name, parser in ours.items():
        words = {action.dest for action in parser._actions} - {"kit"}
        more = {action.dest for action in djangos[name]._actions} - words
        assert {"settings", "pythonpath", "traceback", "no_color", "force_color", "verbosity"} == more


def test_within_the_process(kit):
    """``call_command`` has the output where it wants it."""
    assert {"jobs": {"quantity": 3, "reported": 0}} == json.loads(called("usage", "--json"))["totals"]
    assert "acme" in called("usage")
    assert "" == called("usage", verbosity=0)


def test_something_needs_attention(kit):
    """It is an error within the process, too; the output says what."""
    out = StringIO()
    with pytest.raises(CommandError, match="something needs attention") as caught:
        call_command("meterkit", "health", stdout=out)

    assert 1 == caught.value.returncode
    assert "no Stripe key" in out.getvalue()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["decide", "mk_1", "arrived"], 2, "no Stripe key"),
        (["usage", "--meter", "other"], 2, "this kit has no meter 'other'; choose from jobs"),
        (["link", "", "cus_1"], 1, "company"),
    ],
)
def test_a_command_that_fails(kit, words, code, said):
    """With the exit code that ``meterkit`` has for it."""
    with pytest.raises(CommandError, match=said) as caught:
        called(*words)

    assert code == caught.value.returncode


def test_no_kit(with_settings):
    """One line, and 2."""
    with_settings(METERKIT="no_billing.kit")
    with pytest.raises(CommandError, match="No module named 'no_billing'") as caught:
        called("usage")

    assert 2 == caught.value.returncode


def test_words_that_are_wrong(kit):
    """Are Django's own error."""
    with pytest.raises(CommandError, match="unrecognized arguments: billing:kit"):
        called("usage", "billing:kit")


def test_a_page_of_help(kit, capsys):
    """It has Django's options, and no path of a kit."""
    with pytest.raises(SystemExit):
        Command().create_parser("manage.py", "meterkit").parse_args(["usage", "--help"])

    printed = capsys.readouterr().out
    assert "usage: manage.py meterkit usage [-h]" in printed
    assert "--verbosity" in printed
    assert "module:attribute" not in printed
    assert isinstance(Command(), BaseCommand)


@pytest.fixture
def run(tmp_path):
    """A function that runs Python in a project: its exit code, stdout and stderr."""
    (tmp_path / "billing.py").write_text(BILLING)
    (tmp_path / "project_settings.py").write_text(SETTINGS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*words, here=tmp_path, **variables):
        environment = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "project_settings", **variables}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", *words],
            cwd=here,
            env={**os.environ, **{name: value for name, value in environment.items() if value is not None}},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    run.elsewhere = elsewhere
    return run


@pytest.mark.long
def test_from_a_shell(run, tmp_path):
    """The checks do not come first: on a bad day, it is what tells more. Django's options stand where one puts them."""
    code, out, err = run("django", "meterkit", "usage", "--json", "--settings=project_settings", "-v", "1")
    assert (0, "imported\n") == (code, err)
    assert {"usage": [], "totals": {}} == json.loads(out)

    code, out, err = run("django", "meterkit", "health", "--no-color")
    assert 1 == code
    assert "no Stripe key" in out
    assert "CommandError: something needs attention; the output says what" in err

    code, out, err = run("django", "meterkit", "usage", "--meter", "other", "--traceback")
    assert 1 == code  # as Django has it: the exception goes its way
    assert "Traceback" in err


@pytest.mark.long
def test_the_plain_command_sets_the_project_up(run, tmp_path):
    """So it finds the same usage, from whatever directory, in a kit whose module imports models."""
    run("django", "meterkit", "backfill", str(tmp_path / "usage.csv"))
    code, out, err = run("meterkit", "health", "billing:kit", "--json", here=run.elsewhere)
    assert (1, "imported\n") == (code, err)
    assert ["no Stripe key" in each for each in json.loads(out)["attention"]] == [True]

    assert (tmp_path / "var").exists()
    assert [] == list(run.elsewhere.iterdir())


@pytest.mark.long
def test_a_project_that_cannot_be_set_up(run, tmp_path):
    """One line, with both cures: the variable may be of another project."""
    code, out, err = run("meterkit", "usage", "billing:kit", DJANGO_SETTINGS_MODULE="other.settings")

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert "DJANGO_SETTINGS_MODULE=other.settings cannot be imported: ModuleNotFoundError: No module named" in err
    assert "or unset the variable if the kit needs no Django" in err


@pytest.mark.long
def test_a_project_that_is_left_aside(run, tmp_path):
    """Without the variable, the settings are unknown, and the ledger may be another one: that is said."""
    (tmp_path / "plain.py").write_text("from meterkit import Meter, MeterKit\nkit = MeterKit(meters=[Meter('calls')])")
    code, _, err = run("meterkit", "usage", "plain:kit", "--json", DJANGO_SETTINGS_MODULE="")
    assert (0, "") == (code, err)
    (tmp_path / "manage.py").write_text("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'project_settings')")

    code, _, err = run("meterkit", "usage", "plain:kit", "--json", DJANGO_SETTINGS_MODULE="")

    assert 0 == code
    assert "so METERKIT is ignored: run python manage.py meterkit instead, or set DJANGO_SETTINGS_MODULE" in err


def test_it_flushes_until_it_is_stopped(tmp_path):
    """``manage.py meterkit run``, with the directory of the settings."""
    (tmp_path / "billing.py").write_text(BILLING)
    (tmp_path / "project_settings.py").write_text(SETTINGS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "project_settings"}
    command = [sys.executable, "-m", "django", "meterkit", "run"]

    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as flusher:
        said = next(line for line in flusher.stderr if "(flusher_ready)" in line)
        flusher.terminate()
        said += flusher.stderr.read()

    assert 0 == flusher.returncode
    assert f"flushes {tmp_path / 'var'} every 5 seconds" in said
    assert "(flusher_stopped)" in said
