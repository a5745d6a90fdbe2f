"""The demo's parts: what is sent, what is killed, and that a wrong figure is found and named."""

from __future__ import annotations

import collections
import dataclasses
import json
import signal
import uuid
from decimal import Decimal

import pytest

from meterkit import demo
from meterkit.cli import main
from meterkit.demo import Kill, Month, _examples, _report, traffic
from meterkit.demo.expectations import BOOKS, as_data, differences
from meterkit.demo.server import Server, ServerError
from meterkit.demo.stripe_account import Invoice, Line
from meterkit.demo.traffic import PLAN, Tally, calls
from meterkit.journal.generation import Generation
from meterkit.ledger.books import Books
from meterkit.reporting.reporter import Summary

pytestmark = pytest.mark.long


def line(quantity, amount):
    return Line("a line", quantity, Decimal(amount))


RIGHT = Month(
    framework="flask",
    meter="credit_scores",
    requests=dict(PLAN),
    kill=Kill(pid=1, after=915, held=400),
    reported={"sent": 2, "rejected": 0, "postponed": 0, "error": ""},
    books={**dataclasses.asdict(Books()), **BOOKS},
    invoices={
        "acme": Invoice(
            "A-1", "paid", Decimal("4200.00"), (line(100, "500.00"), line(900, "2700.00"), line(500, "1000.00"))
        ),
        "globex": Invoice("G-1", "paid", Decimal("400.00"), (line(80, "400.00"),)),
    },
)


# figures


def test_all_figures_are_right():
    """Then there is nothing to say."""
    assert [] == differences(RIGHT)
    assert as_data(RIGHT)["ok"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"requests": {**PLAN, ("acme", "succeeded"): 1_499}},
            "requests (acme, succeeded): expected 1,500, got 1,499",
        ),
        (
            {"requests": {**PLAN, (None, "no response"): 1}},
            "requests (no company, no response): expected 0, got 1",
        ),
        ({"kill": None}, "workers killed: expected 1, got 0"),
        ({"books": {**RIGHT.books, "sent": 1_579}}, "sent in the books: expected 1,580, got 1,579"),
        ({"books": {**RIGHT.books, "unattributed": 49}}, "unattributed in the books: expected 50, got 49"),
        ({"books": {**RIGHT.books, "journal": 1}}, "journal in the books: expected 0, got 1"),
        ({"books": {**RIGHT.books, "balanced": False}}, "balanced in the books: expected True, got False"),
        ({"reported": {**RIGHT.reported, "error": "no"}}, "the report's error: expected '', got 'no'"),
        (
            {"invoices": {**RIGHT.invoices, "acme": RIGHT.invoices["globex"]}},
            "the total of acme's invoice: expected 4,200.00, got 400.00",
        ),
    ],
)
def test_a_wrong_figure_is_named(changes, difference):
    """Each that is wrong, with what it should be."""
    assert difference in " · ".join(differences(dataclasses.replace(RIGHT, **changes)))


@pytest.mark.parametrize("words", [["demo"], ["demo", "--json"]])
def test_a_wrong_figure_is_an_exit_code(words, monkeypatch, capsys):
    """1, and the figure is in the output."""
    wrong = dataclasses.replace(RIGHT, kill=None)
    monkeypatch.setattr(demo, "bill_a_month", lambda *_, **__: wrong)
    before = signal.getsignal(signal.SIGTERM)

    try:
        assert 1 == main(words)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "workers killed: expected 1, got 0" in capsys.readouterr().out


def test_a_month_is_data():
    """Ready for JSON; money is a string, because a float is not exact."""
    data = json.loads(json.dumps(as_data(RIGHT)))

    assert ("4200.00", "500.00") == (data["invoices"]["acme"]["total"], data["invoices"]["acme"]["lines"][0]["amount"])


# traffic


def test_the_requests_are_those_of_the_plan():
    """As many of each kind as the plan says, evenly mixed, and always in the same order."""
    kinds = [(call.company, call.outcome) for call in calls()]
    half = collections.Counter(kinds[: traffic.TOTAL // 2])

    assert PLAN == collections.Counter(kinds)
    assert {kind: number // 2 for kind, number in PLAN.items()} == half
    assert calls() == calls()


def test_failures_are_of_all_kinds():
    """Of the client's making, and of the server's."""
    failures = collections.Counter(call.statuses for call in calls() if call.outcome == "failed")

    assert {(404,): 67, (400, 422): 67, (503,): 66} == failures


def test_an_answer_that_was_not_expected():
    """It is an outcome of its own, so the figures differ."""
    tally = Tally()
    for status in (200, 500, 0):
        tally.enter(calls()[0], status)

    assert {("acme", "succeeded"): 1, ("acme", "status 500"): 1, ("acme", "no response"): 1} == tally.counts


# the report


def test_a_worker_that_died_while_it_reported(monkeypatch):
    """Its lease has to run out first; what was sent before and after is added up."""
    summaries = [Summary(sent=1, postponed=1, error="held up"), Summary(error="another process"), Summary(sent=1)]
    monkeypatch.setattr(demo.time, "sleep", lambda _: None)

    class Kit:
        def report(self, *, include_open):
            assert include_open
            return summaries.pop(0)

    assert {"sent": 2, "rejected": 0, "postponed": 0, "error": ""} == _report(Kit())


# the server


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The example under gunicorn."""
    monkeypatch.setenv("METERKIT_DATA_DIR", str(tmp_path / "data"))
    with Server("flask", examples=_examples(), directory=tmp_path) as server:
        yield server


def test_only_its_own_processes_are_killed(started, tmp_path):
    """A journal of somebody else's, here of this very process, is no reason to kill its owner."""
    ours = Generation.create(tmp_path / "journal")
    ours.count(("calls", "calls", "acme", "", 0), 1, 0)

    with pytest.raises(ServerError, match="no worker has a journal"):
        started.kill_worker(tmp_path / "journal")
    ours.discard()


@pytest.mark.parametrize("data", [b"", b"x" * 4096])
def test_files_that_are_no_journals_are_passed_over(started, tmp_path, data):
    """They name no worker."""
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / f"{uuid.uuid4().hex}.journal").write_bytes(data)

    with pytest.raises(ServerError, match="no worker has a journal"):
        started.kill_worker(directory)


def test_a_server_that_does_not_start(tmp_path):
    """What it said is in the message."""
    (tmp_path / "flask_app.py").write_text("raise ImportError('no such thing')")

    with (
        pytest.raises(ServerError, match=r"gunicorn ended with \d+: .*"),
        Server("flask", examples=tmp_path, directory=tmp_path),
    ):
        pass
