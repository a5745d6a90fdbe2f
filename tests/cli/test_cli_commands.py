"""The commands that look after usage: what they print, for people and for programs, and their exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from cli_shell import COMMAND, cells, data_of, meterkit
from thorough import first

from meterkit import Meter

NAMES = ["[red]acme[/]", "[/nonsense]", "Ünïcode 株式会社", "a" * 255, ":smile:"]


def test_usage_is_a_table(shop, used):
    """A row for each company, user and hour; a total for each meter; who has no Stripe customer waits."""
    used.link("globex", "cus_globex")
    used.flush()

    code, out, err = meterkit("usage", "billing:kit")

    assert (0, "") == (code, err)
    assert [
        ["meter", "company", "customer", "hour", "quantity", "reported"],
        ["credit_scores", "acme", "unlinked: call kit.link()", "2026-03-01T12:00Z", "1,500", "0"],
        ["credit_scores", "globex / ada", "cus_globex", "2026-03-01T12:00Z", "80", "0"],
        ["egress", "acme", "unlinked: call kit.link()", "2026-03-01T12:00Z", "7", "0"],
        ["credit_scores", "total", "", "", "1,580", "0"],
        ["egress", "total", "", "", "7", "0"],
    ] == cells(out)


def test_usage_is_data(shop, used):
    """The same, for programs."""
    used.flush()

    code, data = data_of("usage", "billing:kit", "--meter", "egress", "--company", "acme")

    assert 0 == code
    assert {
        "usage": [
            {
                "meter": "egress",
                "company": "acme",
                "user": None,
                "window": "2026-03-01T12:00Z",
                "quantity": 7,
                "reported": 0,
                "customer": None,
            }
        ],
        "totals": {"egress": {"quantity": 7, "reported": 0}},
    } == data


def test_usage_includes_what_a_dead_process_left(shop):
    """It takes in the journal of a process that was killed."""
    killed = "import billing, os; billing.kit.record('egress', 'acme', 3); os.kill(os.getpid(), 9)"
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", killed], check=False, stderr=-3).returncode

    assert 3 == data_of("usage", "billing:kit")[1]["totals"]["egress"]["quantity"]


def test_no_usage(shop):
    """Nothing is all well, too."""
    assert (0, "No usage.\n", "") == meterkit("usage", "billing:kit")


@pytest.mark.parametrize("company", first(["[red]acme[/]"], among=NAMES))
def test_a_name_is_only_a_name(shop, used, company, monkeypatch):
    """What a customer is called is neither markup nor trouble for a terminal that cannot show it."""
    used.record("egress", company)
    used.flush()
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")

    code, out, err = meterkit("usage", "billing:kit")

    assert (0, "") == (code, err)
    assert company.encode("ascii", "backslashreplace").decode() in out


def test_a_meter_that_there_is_not(shop):
    """A typo is not an empty table."""
    assert (2, "", "meterkit: this kit has no meter 'egres'; choose from credit_scores, egress\n") == meterkit(
        "usage", "billing:kit", "--meter", "egres"
    )


def test_a_meter_that_has_left_the_code(shop, make_kit):
    """As long as there is usage of it, it can be asked for."""
    kit = make_kit(Meter("retired"))
    kit.record("retired", "acme", 5)
    kit.flush()

    assert 5 == data_of("usage", "billing:kit", "--meter", "retired")[1]["totals"]["retired"]["quantity"]


@pytest.mark.parametrize("unbuffered", first([""], among=["", "1"]))
@pytest.mark.parametrize("words", [["usage", "billing:kit"], ["usage", "billing:kit", "--json"], ["--version"]])
def test_a_reader_that_goes_away(shop, used, monkeypatch, words, unbuffered):
    """``| head -1`` ends it quietly, whenever what was printed is written."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    used.flush()
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen([*COMMAND, *words], stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, err = process.communicate()

    assert (141, b"") == (process.returncode, err)


def test_flush(shop, used):
    """It says what is in the ledger, and what a running process will flush in a moment."""
    used.flush()
    used.record("egress", "acme", 3)

    code, out, err = meterkit("flush", "billing:kit")

    assert (0, "") == (code, err)
    assert [
        "1,587 of 1,590 counted units are in the ledger.",
        "3 are in the journals of running processes, which flush every few seconds.",
    ] == out.splitlines()
    assert (0, {"counted": 1_590, "ledger": 1_587, "journal": 3}) == data_of("flush", "billing:kit")


def test_flush_adopts_what_a_dead_process_left(shop):
    """The journal of a process that was killed is in the ledger then."""
    killed = "import billing, os; billing.kit.record('egress', 'acme', 3); os.kill(os.getpid(), 9)"
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", killed], check=False, stderr=-3).returncode

    assert (0, {"counted": 3, "ledger": 3, "journal": 0}) == data_of("flush", "billing:kit")


def test_later_usage_of_a_reported_hour(shop, used, stripe):
    """It becomes a further meter event."""
    used.link("acme", stripe.customer)
    used.flush()
    data_of("report", "billing:kit", "--open")
    used.record("egress", "acme", 3)
    used.flush()

    code, data = data_of("report", "billing:kit", "--open")

    assert (0, 1) == (code, data["sent"])
    assert [3, 7] == sorted(event.value for event in stripe.meter_events if event.event_name == "egress")


def test_usage_of_one_company(shop, used):
    """It has no rows and no totals of others."""
    used.flush()

    code, data = data_of("usage", "billing:kit", "--company", "globex")

    assert (0, ["globex"]) == (code, [row["company"] for row in data["usage"]])
    assert {"credit_scores": {"quantity": 80, "reported": 0}} == data["totals"]


def test_report_sends_hours_that_have_ended(shop, used, stripe):
    """The open hour is not among them, unless it is asked for."""
    used.link("acme", stripe.customer)
    used.flush()

    assert (0, 0) == (data_of("report", "billing:kit")[0], len(stripe.meter_events))
    code, out, err = meterkit("report", "billing:kit", "--open")

    assert (0, "") == (code, err)
    assert [["written", "sent", "rejected", "uncertain", "postponed"], ["2", "2", "0", "0", "0"]] == cells(out)
    assert {"credit_scores": 1_500, "egress": 7} == {
        name: stripe.usage(name, stripe.customer) for name in ("credit_scores", "egress")
    }


def test_a_report_that_cannot_look_up_a_customer(shop, used, stripe):
    """The others are reported; that one waits, and the exit code says so."""
    code = (shop / "billing.py").read_text().replace("customer_ids=True", "find_customer=lambda company: 1 / 0")
    (shop / "billing.py").write_text(code)
    used.link("acme", stripe.customer)
    used.flush()

    code, out, _ = meterkit("report", "billing:kit", "--open")

    assert 1 == code
    assert ["2", "2", "0", "0", "0"] == cells(out)[1]
    assert "find_customer('globex') failed: ZeroDivisionError" in out


def test_a_report_that_stripe_rejects(shop, used, stripe):
    """It is said, and the exit code says so."""
    used.link("acme", "cus_unknown")
    used.flush()

    code, data = data_of("report", "billing:kit", "--open")

    assert (1, 2, 0) == (code, data["rejected"], data["sent"])
    assert "No such customer" in data["error"]


def test_a_report_without_a_key(shop, used):
    """The output says what is missing."""
    code, out, _ = meterkit("report", "billing:kit")

    assert 1 == code
    assert "no Stripe key: set STRIPE_SECRET_KEY or pass stripe_key=" in out


def test_all_is_well(shop, used, stripe):
    """The books, and 0."""
    used.link("acme", stripe.customer)
    used.link("globex", stripe.customer)
    used.flush()

    code, out, err = meterkit("health", "billing:kit")

    assert (0, "") == (code, err)
    assert "All is well.\n" in out
    assert [["counted", "1,580", "7"], ["journal", "0", "0"], ["unreported", "1,580", "7"]] == cells(out)[1:4]
    assert ["balanced", "yes", "yes"] == cells(out)[-1]


def test_something_needs_attention(shop, used):
    """Each sentence, and 1."""
    used.flush()

    code, out, _ = meterkit("health", "billing:kit")

    assert 1 == code
    assert "* 2 companies, such as 'acme', are not linked to a Stripe customer: use kit.link(company, customer)" in out
    assert "* no Stripe key: set STRIPE_SECRET_KEY" in out


def test_successes_that_no_meter_matched(shop):
    """What the kit's process has served without a meter is a table."""
    (shop / "served.py").write_text(
        "import meterkit.wsgi\n"
        "kit = meterkit.MeterKit(meters=[meterkit.Meter('calls', path='/v1/*')])\n"
        "app = lambda environ, start_response: start_response('200 OK', []) and [b'']\n"
        "environ = {'REQUEST_METHOD': 'GET', 'SCRIPT_NAME': '', 'PATH_INFO': '/docs'}\n"
        "meterkit.wsgi.MeterMiddleware(app, kit)(environ, lambda status, headers: bytes)\n"
    )

    _, out, _ = meterkit("health", "served:kit")

    assert "success that no meter matched" in out
    assert ["GET /docs", "1"] in cells(out)


def test_health_is_data(shop, used):
    """It is what ``kit.health()`` returns."""
    used.flush()

    code, data = data_of("health", "billing:kit")

    assert (1, False, True) == (code, data["ok"], data["books"]["egress"]["balanced"])
    assert data.keys() == used.health().keys()
