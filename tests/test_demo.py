"""The demo: one command bills a month, and says so only if every figure is right."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from meterkit.demo import Invoice, Kill, Month, traffic
from meterkit.demo.figures import differences
from meterkit.demo.stripe_account import Line


def demo(directory, *words):
    """Run the demo as a user does, with *directory* for its temporary files."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "meterkit", "demo", *words],
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("framework", "kill_after"), [("flask", traffic.TOTAL // 2), ("django", 1), ("fastapi", traffic.TOTAL - 1)]
)
def test_a_month_is_billed_to_the_cent(tmp_path, framework, kill_after):
    """Whichever framework, and whenever the worker is killed; nothing is left behind."""
    ended = demo(tmp_path, "--framework", framework, "--kill-after", str(kill_after), "--json")

    assert 0 == ended.returncode, ended.stderr
    data = json.loads(ended.stdout)
    assert {
        "acme": ([(100, "500.00"), (900, "2700.00"), (500, "1000.00")], "4200.00"),
        "globex": ([(80, "400.00")], "400.00"),
    } == {
        company: ([(line["quantity"], line["amount"]) for line in invoice["lines"]], invoice["total"])
        for company, invoice in data["invoices"].items()
    }
    (books,) = data["books"].values()
    assert (1630, 1580, 50, True) == tuple(books[place] for place in ("counted", "sent", "unattributed", "balanced"))
    assert kill_after == data["killed"]["after"]
    assert not Path(f"/proc/{data['killed']['pid']}").exists()
    assert [] == list(tmp_path.iterdir())


def test_it_is_told_to_people(tmp_path):
    """Both invoices, line by line, and the books."""
    ended = demo(tmp_path)

    assert (0, "") == (ended.returncode, ended.stderr)
    for part in ("$500.00", "$2,700.00", "$1,000.00", "$4,200.00", "$400.00", "kill -9", "balanced"):
        assert part in ended.stdout


def a_month():
    """A month as it has to be."""
    acme = [Line(f"tier {n}", quantity, Decimal(amount)) for n, (quantity, amount) in enumerate(ACME)]
    return Month(
        framework="flask",
        meter="credit_scores",
        requests={(company, str(outcome)): number for (company, outcome), number in traffic.PLAN.items()},
        kill=Kill(pid=1, after=1, held=0),
        reported={"sent": 2, "rejected": 0, "postponed": 0, "error": ""},
        books={"counted": 1630, "sent": 1580, "unattributed": 50, "pending": 0, "balanced": True},
        invoices={
            "acme": Invoice("1", "paid", Decimal("4200.00"), acme),
            "globex": Invoice("2", "paid", Decimal("400.00"), [Line("tier 1", 80, Decimal("400.00"))]),
        },
    )


ACME = [(100, "500.00"), (900, "2700.00"), (500, "1000.00")]


def test_a_month_as_it_has_to_be():
    """Nothing differs."""
    assert [] == differences(a_month())


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("acme's invoice", {"invoices": {"acme": {"total": Decimal("4199.99")}}}),
        ("globex's invoice", {"invoices": {"globex": {"lines": []}}}),
        ("sent in the books", {"books": {"sent": 1579}}),
        ("pending in the books", {"books": {"pending": 1}}),
        ("balanced in the books", {"books": {"balanced": False}}),
        ("requests of acme", {"requests": {("acme", "succeeded"): 1499}}),
        ("requests of nobody", {"requests": {(None, "answered 500"): 1}}),
        ("report's error", {"reported": {"error": "another process is reporting now"}}),
    ],
)
def test_each_figure_that_differs_is_named(part, change):
    """And makes the exit code 1."""
    month = copy.deepcopy(a_month())
    for field, changes in change.items():
        for key, value in changes.items():
            if field == "invoices":
                month.invoices[key] = dataclasses.replace(month.invoices[key], **value)
            else:
                getattr(month, field)[key] = value

    (difference,) = differences(month)

    assert part in difference


def test_a_wrong_word_is_one_line(tmp_path):
    """A worker cannot be killed after more requests than there are."""
    ended = demo(tmp_path, "--kill-after", "999999")

    assert (2, 1) == (ended.returncode, len(ended.stderr.splitlines()))
