"""The command line: what it prints, where, and the exit code; always as a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import stripe as stripe_python

from meterkit.cli import parser
from meterkit.sandbox import Sandbox

BILLING = """
from meterkit import Meter, MeterKit
kit = MeterKit(meters=[Meter("calls"), Meter("egress", value="response_bytes")])
"""


class Shell:
    """A directory with a ``billing.py``, in which commands are run."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.environment = {**os.environ, "METERKIT_DATA_DIR": str(directory / "data"), **environment}
        self.write(BILLING)

    def write(self, billing: str) -> None:
        (self.directory / "billing.py").write_text(billing)

    def python(self, code: str) -> None:
        """Run *code* with the kit in reach."""
        command = [sys.executable, "-c", f"from billing import kit\n{code}"]
        subprocess.run(command, cwd=self.directory, env=self.environment, check=False)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``meterkit`` with *words*."""
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "meterkit", *words],
            cwd=self.directory,
            env={**self.environment, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def shell(tmp_path):
    """A shell in an empty directory."""
    return Shell(tmp_path)


@pytest.fixture
def stripe():
    """A Stripe account in which both meters and a customer exist, in real time."""
    with Sandbox() as sandbox:
        api = stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
        for name in ("calls", "egress"):
            api.billing.meters.create(
                {"display_name": name, "event_name": name, "default_aggregation": {"formula": "sum"}}
            )
        sandbox.customer = api.customers.create({"name": "Acme"}).id
        yield sandbox


@pytest.fixture
def paying_shell(tmp_path, stripe):
    """A shell whose kit reports to the sandbox."""
    return Shell(tmp_path, STRIPE_SECRET_KEY=stripe.api_key, METERKIT_STRIPE_BASE=stripe.url)


def test_usage_shows_who_used_what(shell):
    """Meter, company and quantity, also what a killed process left; who has no customer waits."""
    shell.python("import os; kit.record('calls', 'acme', 1234, user='anna'); os.kill(os.getpid(), 9)")

    shown = shell.run("usage", "billing:kit")

    assert (0, "") == (shown.returncode, shown.stderr)
    for part in ("calls", "acme / anna", "1,234", "waits for kit.link()"):
        assert part in shown.stdout


def test_usage_as_data(shell):
    """The same for programs, and only a part of it on request."""
    shell.python("kit.record('calls', 'acme', 5); kit.record('egress', 'acme', 7); kit.record('calls', 'globex', 1)")

    data = json.loads(shell.run("usage", "billing:kit", "--company", "acme", "--meter", "calls", "--json").stdout)

    (row,) = data["usage"]
    assert ("calls", "acme", None, 5, 0) == tuple(
        row[key] for key in ("meter", "company", "user", "quantity", "reported")
    )
    assert {"calls": {"quantity": 5, "reported": 0}} == data["totals"]


def test_usage_of_a_meter_that_there_is_not(shell):
    """A typo is told, and not answered with an empty table."""
    shown = shell.run("usage", "billing:kit", "--meter", "cals")

    assert (2, 1) == (shown.returncode, len(shown.stderr.splitlines()))
    assert "calls" in shown.stderr


def test_flush_adopts_what_a_killed_process_left(shell):
    """It is in the ledger then, and the journal is empty."""
    shell.python("import os; kit.record('calls', 'acme', 3); os.kill(os.getpid(), 9)")

    flushed = shell.run("flush", "billing:kit", "--json")

    assert (0, {"counted": 3, "ledger": 3, "journal": 0}) == (flushed.returncode, json.loads(flushed.stdout))
    assert "3 of 3" in shell.run("flush", "billing:kit").stdout


def test_report_sends_the_open_hour_on_request(paying_shell, stripe):
    """Without --open it waits; its later usage becomes a further event."""
    paying_shell.python(f"kit.record('calls', '{stripe.customer}', 3)")
    waiting = paying_shell.run("report", "billing:kit", "--json")
    sent = paying_shell.run("report", "billing:kit", "--open", "--json")
    paying_shell.python(f"kit.record('calls', '{stripe.customer}', 4)")

    shown = paying_shell.run("report", "billing:kit", "--open")

    assert [0, 0, 0] == [waiting.returncode, sent.returncode, shown.returncode]
    assert [0, 1] == [json.loads(each.stdout)["sent"] for each in (waiting, sent)]
    assert "sent" in shown.stdout
    assert [3, 4] == [event.value for event in stripe.meter_events]


def test_report_says_what_was_rejected(paying_shell, stripe):
    """With exit code 1, and health names it too."""
    paying_shell.python("kit.record('calls', 'cus_gone', 3)")

    reported = paying_shell.run("report", "billing:kit", "--open")
    health = paying_shell.run("health", "billing:kit")

    assert [1, 1] == [reported.returncode, health.returncode]
    assert "No such customer" in reported.stdout
    assert "No such customer" in health.stdout


def test_report_without_a_key(shell):
    """Nothing was reported, and that is not success."""
    reported = shell.run("report", "billing:kit")

    assert 1 == reported.returncode
    assert "STRIPE_SECRET_KEY" in reported.stdout + reported.stderr


def test_health(paying_shell, stripe):
    """All is well, for people and for programs."""
    paying_shell.python(f"kit.record('calls', '{stripe.customer}', 3)")
    paying_shell.run("report", "billing:kit", "--open")

    shown, data = paying_shell.run("health", "billing:kit"), paying_shell.run("health", "billing:kit", "--json")

    assert [0, 0] == [shown.returncode, data.returncode]
    assert json.loads(data.stdout)["ok"]
    assert "balanced" in shown.stdout


def test_health_names_what_needs_attention(shell):
    """With exit code 1."""
    shell.python("kit.record('calls', 'acme', 3)")

    shown = shell.run("health", "billing:kit")

    assert 1 == shown.returncode
    assert "kit.link" in shown.stdout


@pytest.mark.parametrize(
    ("path", "billing", "cure"),
    [
        ("nowhere:kit", BILLING, "no module 'nowhere'"),
        ("billing:kid", BILLING, "did you mean billing:kit?"),
        ("billing:Meter", BILLING, "did you mean billing:kit?"),
        ("billing", BILLING, "write module:attribute"),
        ("billing.kit", BILLING, "write module:attribute"),
        ("billing:kit", "1 / 0", "ZeroDivisionError"),
        ("billing:kit", "import no_such_thing", "no_such_thing"),
        ("billing:kit", "def", "SyntaxError"),
        ("billing:kit", "import sys; sys.exit(3)", "SystemExit"),
        ("billing:kit", "from meterkit import Meter\nkit = Meter('a', path='x')", "begins with '/'"),
    ],
)
@pytest.mark.parametrize("command", ["usage", "flush", "report", "health"])
def test_a_wrong_import_path_is_one_line(shell, command, path, billing, cure):
    """Exit code 2 and the cure; no traceback."""
    shell.write(billing)

    ended = shell.run(command, path, "--json")

    assert (2, "", 1) == (ended.returncode, ended.stdout, len(ended.stderr.splitlines()))
    assert cure in ended.stderr


def test_a_broken_ledger_is_one_line(shell):
    """Nothing can be shown, nothing is lost."""
    (shell.directory / "data").mkdir()
    (shell.directory / "data" / "ledger.sqlite").write_text("no database, but long enough to look like one" * 50)

    ended = shell.run("usage", "billing:kit")

    assert (1, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert "ledger" in ended.stderr


def test_tables_need_rich_and_data_does_not(shell):
    """Without it, the cure is one line."""
    (shell.directory / "rich").mkdir()
    (shell.directory / "rich" / "__init__.py").write_text("raise ModuleNotFoundError('no rich', name='rich')")
    shell.python("kit.record('calls', 'acme', 3)")

    tables = shell.run("usage", "billing:kit")
    data = shell.run("usage", "billing:kit", "--json")

    assert (2, "", 1) == (tables.returncode, tables.stdout, len(tables.stderr.splitlines()))
    assert "pip install 'meterkit[cli]'" in tables.stderr
    assert 0 == data.returncode


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_sandbox_serves_until_it_is_stopped(shell, ending):
    """It says its address and key, answers there, and leaves with 0."""
    command = [sys.executable, "-W", "error", "-m", "meterkit", "sandbox", "--port", "0"]
    with subprocess.Popen(command, env=shell.environment, stdout=subprocess.PIPE, text=True) as process:
        said = {}
        for line in process.stdout:
            if "=" in line and "export" in line:
                name, _, value = line.strip().removeprefix("export ").partition("=")
                said[name] = value
            if "To stop it" in line:
                break
        headers = {"Authorization": f"Bearer {said['STRIPE_SECRET_KEY']}"}
        answer = httpx.get(f"{said['METERKIT_STRIPE_BASE']}/v1/customers", headers=headers, trust_env=False)

        process.send_signal(ending)

        assert (200, 0) == (answer.status_code, process.wait())


def test_a_closed_pipe_is_quiet(shell):
    """``meterkit usage ... | head`` ends without a traceback."""
    shell.python("[kit.record('calls', f'company-{n}') for n in range(3000)]")
    command = [sys.executable, "-m", "meterkit", "usage", "billing:kit", "--json"]
    with subprocess.Popen(
        command, cwd=shell.directory, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.stdout.close()

        assert b"" == process.stderr.read()


def commands():
    """The commands, and the options of each."""
    (verbs,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {
        name: [option for action in verb._actions for option in action.option_strings]
        for name, verb in verbs.choices.items()
    }


@pytest.mark.parametrize(("name", "options"), commands().items())
def test_every_command_has_help_and_is_documented(shell, name, options):
    """In the terminal, and in docs/cli.md."""
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    section = page.partition(f"## meterkit {name}\n")[2].partition("\n## ")[0]

    assert 0 == shell.run(name, "--help").returncode
    assert [] == [option for option in options if option not in ("-h", "--help") and f"`{option}" not in section]


def test_the_version(shell):
    """That of the package."""
    assert shell.run("--version").stdout.startswith("meterkit 0.")


def test_no_command_is_an_error(shell):
    """With exit code 2, and a line on how to use it."""
    assert 2 == shell.run().returncode
