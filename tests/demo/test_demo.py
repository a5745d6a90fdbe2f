"""The demo, from the shell: each framework, a worker killed at another moment each, and nothing left behind."""
# ruff: noqa: RUF001 - Stripe puts a multiplication sign between quantity and product

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import httpx
import pytest
from thorough import first

pytestmark = [pytest.mark.long, pytest.mark.thorough]

COMMAND = [sys.executable, "-W", "error", "-m", "meterkit", "demo"]

ACME = [("100", "500.00"), ("900", "2700.00"), ("500", "1000.00")]
GLOBEX = [("80", "400.00")]


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """
    A directory for all that is temporary, and a user with settings of their own.

    The demo must not reach for the user's ledger, Stripe account, proxy or web server's options.
    """
    directory = tmp_path / "scratch"
    directory.mkdir()
    for name, value in {
        "TMPDIR": str(directory),
        "METERKIT_LEDGER": "postgresql+psycopg://production/ledger",
        "METERKIT_STRIPE_BASE": "http://127.0.0.1:1",
        "STRIPE_SECRET_KEY": "sk_live_own",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "WEB_CONCURRENCY": "7",
        "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return directory


MONTHS = [("flask", 915), ("django", 1), ("fastapi", 1_829)]
"""A framework, and the request after which a worker is killed."""


@pytest.mark.parametrize("month", first(MONTHS[:1], among=MONTHS), ids=lambda month: month[0])
def test_a_month_is_billed(month, scratch):
    """Every figure is right, whenever the worker dies."""
    framework, kill_after = month
    done = subprocess.run(
        [*COMMAND, "--framework", framework, "--kill-after", str(kill_after), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)

    assert ([], 0, "") == (found["differences"], done.returncode, done.stderr)
    assert (framework, kill_after) == (found["framework"], found["killed"]["after"])
    assert {
        ("acme", "succeeded"): 1_500,
        ("acme", "failed"): 200,
        ("globex", "succeeded"): 80,
        (None, "succeeded"): 50,
    } == {(each["company"], each["outcome"]): each["number"] for each in found["requests"]}
    assert {"acme": (ACME, "4200.00", "paid"), "globex": (GLOBEX, "400.00", "paid")} == {
        company: (
            [(str(line["quantity"]), line["amount"]) for line in invoice["lines"]],
            invoice["total"],
            invoice["status"],
        )
        for company, invoice in found["invoices"].items()
    }
    books = found["books"]["credit_scores"]
    assert (1_630, 1_580, 50, True) == (books["counted"], books["sent"], books["unattributed"], books["balanced"])
    assert [] == list(scratch.iterdir())


@pytest.mark.long
def test_it_is_told_to_people():
    """As it goes; then the invoices line by line, the books, and the verdict."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    story = re.sub(r"\d+\.\d+\.\d+\.\d+:\d+", "HOST", done.stdout)
    for line in (
        "gunicorn serves flask_app.py on http://HOST, with 2 workers.",
        "1830/1830",
        "│ 100 query × Credit score (Tier 1 at $5.00 / month) │      100 │   $500.00 │",
        "│ 900 query × Credit score (Tier 2 at $3.00 / month) │      900 │ $2,700.00 │",
        "│ 500 query × Credit score (Tier 3 at $2.00 / month) │      500 │ $1,000.00 │",
        "│ total                                              │          │ $4,200.00 │",
        "│ 80 query × Credit score (Tier 1 at $5.00 / month) │       80 │ $400.00 │",
        "│ balanced     │           yes │",
        "Every figure is as expected: nothing was lost, and nothing was billed twice.",
    ):
        assert line in story
    assert re.search(r"kill -9 \d+: worker killed after 915 requests, with \d+ units in its journal only\.", story)


@pytest.mark.parametrize("sign", first([signal.SIGTERM], among=[signal.SIGINT, signal.SIGTERM]))
def test_it_can_be_stopped(sign, scratch):
    """In the midst of it: the server is gone, and so is the directory."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = next(line for line in process.stdout if "serves" in line)
        process.send_signal(sign)
        _, err = process.communicate()

    assert (130, "") == (process.returncode, err)
    with pytest.raises(httpx.ConnectError):
        httpx.get(re.search(r"http://[\d.:]+", said)[0], trust_env=False)
    assert [] == list(scratch.iterdir())
