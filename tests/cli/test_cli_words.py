"""The command line itself: its words, its extras, how it is stopped, and that all of it is documented."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from cli_shell import COMMAND, data_of, meterkit
from guard import GUARD

from meterkit.cli import parser
from meterkit.ledger import actions, schema
from meterkit.ledger.database import Database, put

pytestmark = pytest.mark.long


@pytest.mark.usefixtures("without_rich")
@pytest.mark.parametrize("verb", ["usage", "report", "health"])
def test_tables_need_rich(used, verb):
    """The complaint says how to install it, or what to do without."""
    assert (2, "", "meterkit: tables need rich: pip install 'meterkit[cli]', or use --json\n") == meterkit(
        verb, "billing:kit"
    )


@pytest.mark.usefixtures("without_rich")
@pytest.mark.parametrize("verb", ["usage", "flush", "report", "health"])
def test_data_needs_no_rich(shop, stripe, verb):
    """``--json`` works without it."""
    assert 0 == data_of(verb, "billing:kit")[0]


@pytest.mark.usefixtures("without_rich")
def test_the_demo_needs_its_extra():
    """What is missing is said before anything is started."""
    assert (2, "", "meterkit: the demo needs rich: pip install 'meterkit[demo]'\n") == meterkit("demo")


@pytest.fixture
def served(shop):
    """A sandbox that was started from the shell."""
    command = [*COMMAND, "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_sandbox_is_served_until_it_is_stopped(served, sign):
    """It says how to use it; what it says works."""
    said = "".join(iter(served.stdout.readline, "Stop:            Ctrl-C\n"))
    variables = dict(re.findall(r"export (\w+)=(\S+)", said))
    answer = httpx.get(
        f"{variables['METERKIT_STRIPE_BASE']}/v1/customers",
        headers={"Authorization": f"Bearer {variables['STRIPE_SECRET_KEY']}"},
        timeout=GUARD,
    )
    served.send_signal(sign)
    out, err = served.communicate()

    assert 200 == answer.status_code
    assert (0, "", "") == (served.returncode, out, err)


@pytest.mark.parametrize("port", ["taken", "70000"])
def test_a_port_that_cannot_be_had(shop, stripe, port):
    """One line, and 2."""
    port = stripe.url.rpartition(":")[2] if port == "taken" else port

    code, out, err = meterkit("sandbox", "--port", port)

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith(f"meterkit: port {port} is not available (")
    assert "choose another with --port" in err


def test_interrupted(shop):
    """Ctrl-C is 130, and says nothing."""
    (shop / "patient.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfrom billing import kit")

    assert (130, "", "") == meterkit("usage", "patient:kit")


def test_the_version(shop):
    """It is the installed one."""
    assert (0, f"meterkit {version('meterkit')}\n", "") == meterkit("--version")


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["usage"], ["demo", "--kill-after", "0"], ["demo", "--open"]])
def test_wrong_words(shop, words):
    """2, and what is wrong is on stderr."""
    code, out, err = meterkit(*words)

    assert (2, "") == (code, out)
    assert "meterkit" in err


def test_the_help_says_what_the_codes_mean(shop):
    """``--help`` is 0, and short."""
    code, out, _ = meterkit("--help")

    assert 0 == code
    assert "Exit codes: 0 all is well, 1 something needs attention, 2" in " ".join(out.split())


def verbs():
    """Each command's own grammar."""
    (action,) = [each for each in parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return action.choices


def actions_of(command):
    """What a command takes, and, if it has words of its own, what these take."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word in action.choices.values():
                yield from actions_of(word)
        else:
            yield action


@pytest.mark.parametrize("verb", verbs())
def test_every_word_is_documented(verb):
    """Each command has its heading, and each of its options stands below that."""
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    (section,) = re.findall(rf"^## `meterkit {verb}`$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    shown = [action for action in actions_of(verbs()[verb]) if action.help != argparse.SUPPRESS]
    options = {word for action in shown for word in action.option_strings} - {"-h", "--help"}

    assert [] == [option for option in options if f"| `{option}" not in section]
    assert options == set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))


EVIL = "Acme\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.mark.parametrize("command", [["customers"], ["actions"], ["usage", "--meter", EVIL], ["decide", EVIL, "lost"]])
def test_no_control_character_reaches_the_terminal(used, stripe, command):
    """Neither from Stripe, nor from the ledger, nor from an argument that an error repeats."""
    used.link("acme", stripe.customer)
    used.flush()
    with Database(f"sqlite:///{used._settings.data_dir}/ledger.sqlite").transaction() as connection:
        row = {"id": stripe.customer, "name": EVIL, "company": None, "deleted": False, "checked_at": 0}
        put(schema.customers, connection, row)
        actions.note(connection, "link", EVIL, EVIL, by=EVIL, at=0)
    name, *arguments = command
    _, out, err = meterkit(name, "billing:kit", *arguments)

    assert "owned" in out + err
    assert [] == [each for each in out + err if each in "\x1b\x07\u202e"]


@pytest.mark.parametrize("command", ["actions", "notices", "webhook-events"])
@pytest.mark.parametrize("limit", ["99999999999999999999", "-1", "x", ""])
def test_limits(shop, command, limit):
    """One that no database takes is refused in words."""
    code, _, err = meterkit(command, "billing:kit", "--limit", limit)

    assert 2 == code
    assert "must be a whole number of at most 9 digits" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("quantity", "at", "complaint"),
    [("9" * 5_000, "2026-03-01T10:00Z", "at most 15 digits"), ("1", "9" * 5_000, "in the future")],
)
def test_a_file_with_thousands_of_digits(shop, quantity, at, complaint):
    """It is refused with its line, as any other wrong quantity or time."""
    (shop / "usage.csv").write_text(f"meter,company,quantity,at\negress,acme,{quantity},{at}\n")
    code, _, err = meterkit("backfill", "billing:kit", "usage.csv")

    assert 1 == code
    assert "line 2" in err
    assert complaint in err


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no safe path yet")
def test_python_s_safe_path(shop, monkeypatch):
    """Nothing is imported from the current directory when Python was told not to; the message says so."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    (shop / "sqlalchemy.py").write_text("print('hello from the current directory')")
    words = [*COMMAND, "usage", "billing:kit", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert "PYTHONSAFEPATH keeps Python from searching" in done.stderr
    assert "hello" not in done.stderr

    (shop / "sqlalchemy.py").unlink()
    monkeypatch.setenv("PYTHONPATH", str(shop))
    assert 0 == subprocess.run(words, capture_output=True, check=False).returncode
