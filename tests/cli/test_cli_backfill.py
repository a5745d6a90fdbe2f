"""Usage of the past, from a file: checked as a whole, counted once, and reported for the hours in which it was used."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli_shell import data_of, meterkit
from fake_clock import NOON

pytestmark = pytest.mark.long

HOUR = 3600
HEAD = "meter,company,quantity,at,user\n"
ROWS = (
    "credit_scores,acme,3,2026-03-01T10:30:00Z,ada\n"
    "credit_scores,acme,4,2026-03-01T11:30:00+01:00,ada\n"
    f"egress,acme,5,{NOON - 20 * 24 * HOUR},\n"
)


@pytest.fixture
def write(shop):
    """A function that writes ``usage.csv``."""
    return (shop / "usage.csv").write_text


def usage():
    _, data = data_of("usage", "billing:kit")
    return {(row["meter"], row["company"], row["user"], row["window"]): row["quantity"] for row in data["usage"]}


EXPECTED = {
    ("credit_scores", "acme", "ada", "2026-03-01T10:00Z"): 7,
    ("egress", "acme", None, "2026-02-09T12:00Z"): 5,
}


def test_a_file_is_counted_once(write):
    """However often it is given; the rows are in the hours of their usage."""
    write(HEAD + ROWS)
    first = data_of("backfill", "billing:kit", "usage.csv")
    again = data_of("backfill", "billing:kit", "usage.csv")

    assert (0, {"rows": 3, "counted": 3, "known": 0}) == first
    assert (0, {"rows": 3, "counted": 0, "known": 3}) == again
    assert EXPECTED == usage()


def test_the_words(write):
    """For people."""
    write(HEAD + ROWS)
    said = [meterkit("backfill", "billing:kit", "usage.csv")[1] for _ in range(2)]

    assert [
        "3 of 3 rows recorded.\n",
        "0 of 3 rows recorded. 3 had been recorded before.\n",
    ] == said


def test_what_was_broken_off_is_continued(shop, write):
    """A kill between two portions: the second run counts the rest, and the books balance."""
    write(HEAD + f"egress,acme,1,{NOON},\n" * 1_200)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import os, billing\n"
                "from pathlib import Path\n"
                "from meterkit.runtime.backfill import backfill\n"
                "def track(portions, total):\n"
                "    for number, portion in enumerate(portions):\n"
                "        number == 2 and os._exit(9)\n"
                "        yield portion\n"
                f"backfill(billing.kit.process(), billing.kit.meters, Path('usage.csv'), now={NOON + 600}, track=track)"
            ),
        ],
        check=False,
    ).returncode
    code, data = data_of("backfill", "billing:kit", "usage.csv")
    _, health = data_of("health", "billing:kit")

    assert (9, 0, {"rows": 1_200, "counted": 200, "known": 1_000}) == (killed, code, data)
    assert (1_200, True) == (health["books"]["egress"]["counted"], health["books"]["egress"]["balanced"])


def test_it_is_reported_at_its_time(write, stripe, make_kit, shop):
    """Stripe gets the moment of the usage."""
    write(HEAD + ROWS.replace("acme", stripe.customer))
    data_of("backfill", "billing:kit", "usage.csv")
    data_of("report", "billing:kit")

    assert [("credit_scores", 7, NOON - 90 * 60), ("egress", 5, NOON - 20 * 24 * HOUR)] == sorted(
        (event.event_name, event.value, event.timestamp) for event in stripe.meter_events
    )


def test_what_another_program_has_reported(write, stripe, shop):
    """It is counted, and never sent."""
    write(HEAD + ROWS.replace("acme", stripe.customer))
    given = data_of("backfill", "billing:kit", "usage.csv", "--already-reported")
    reported = data_of("report", "billing:kit")
    _, health = data_of("health", "billing:kit")

    assert (0, {"rows": 3, "counted": 3, "known": 0}) == given
    assert (0, 0) == (reported[0], reported[1]["sent"])
    assert [] == stripe.meter_events
    assert (7, 5) == tuple(health["books"][meter]["sent"] for meter in ("credit_scores", "egress"))


def test_what_another_program_has_reported_for_nobody_known(write, shop):
    """The message says what to do, and nothing is counted."""
    write(HEAD + ROWS)
    code, out, err = meterkit("backfill", "billing:kit", "usage.csv", "--already-reported")

    assert (1, "") == (code, out)
    assert "which Stripe customer the usage of acme was reported for; link it first, with meterkit link" in err
    assert {} == usage()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the first line must name the columns"),
        ("meter,company,quantity\n", "missing: at"),
        ("meter,company,quantity,at,compny\n", "unknown: compny"),
        (
            HEAD + "calls,acme,1,2026-03-01T10:00:00Z,\n",
            "line 2: unknown meter 'calls'; available: credit_scores, egress",
        ),
        (HEAD + "egress,,1,2026-03-01T10:00:00Z,\n", "line 2: company id must not be empty"),
        (HEAD + "egress,acme,1.5,2026-03-01T10:00:00Z,\n", "line 2: quantity must be a whole number, not '1.5'"),
        (HEAD + "egress,acme,-1,2026-03-01T10:00:00Z,\n", "line 2: quantity must be a whole number, not '-1'"),
        (HEAD + "egress,acme,1,2026-03-01T10:00:00,\n", "line 2: at= must be a datetime with a time zone"),
        (HEAD + "egress,acme,1,yesterday,\n", "line 2: at must be a time with a time zone"),
        (HEAD + "egress,acme,1,2026-01-01T10:00:00Z,\n", "line 2: 2026-01-01 10:00 is more than 35 days ago"),
        (HEAD + "egress,acme,1,2026-03-02T10:00:00Z,\n", "line 2: 2026-03-02 10:00 is in the future"),
        (HEAD + "egress,acme\n", "line 2: it has more or fewer columns"),
        (HEAD + "egress,acme,1,2026-03-01T10:00:00Z,,,\n", "line 2: it has more or fewer columns"),
        (HEAD + ROWS + "egress,acme,x,y,\n" * 12, "line 5: at must be a time with a time zone"),
        (HEAD + ROWS + "egress,acme,x,y,\n" * 12, "; and 2 more"),
        (HEAD + '"egress,acme', "is not CSV"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_counted(write, text, complaint):
    """Also where others are right."""
    write(text)
    code, out, err = meterkit("backfill", "billing:kit", "usage.csv")

    assert (1, "") == (code, out)
    assert complaint in err
    assert {} == usage()


def test_a_file_that_is_not_there(shop):
    """The message says what is wanted."""
    complaint = "meterkit: no such file: usage.csv; give a CSV with the columns meter,company,quantity,at\n"

    assert (2, "", complaint) == meterkit("backfill", "billing:kit", "usage.csv")
