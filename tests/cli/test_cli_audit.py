"""The commands that reconcile, correct, retry and decide, as a shell sees them."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe as stripe_python
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

from meterkit.cli.tables.audit import show_corrections
from meterkit.stripe_api.transport import HTTPXClient

pytestmark = pytest.mark.long


@pytest.fixture
def api(stripe):
    """The API of the Stripe account."""
    http = HTTPXClient()
    yield stripe_python.StripeClient(stripe.api_key, base_addresses={"api": stripe.url}, http_client=http).v1
    http.close()


@pytest.fixture
def reported(used, stripe):
    """Both meters' usage of acme is at Stripe; globex has no customer."""
    used.link("acme", stripe.customer)
    used.flush()
    data_of("report", "billing:kit", "--open")


def reads(stripe):
    return len([request for request in stripe.requests if request.method == "GET"])


@pytest.mark.usefixtures("reported")
def test_both_agree(stripe):
    """One read for each customer and meter, and one for the meters."""
    before = reads(stripe)
    code, data = data_of("reconcile", "billing:kit")

    assert (0, 3) == (code, reads(stripe) - before)
    assert [("credit_scores", 1500, 1500, True), ("egress", 7, 7, True)] == [
        (each["meter"], each["ledger"], each["stripe"], each["agree"]) for each in data
    ]


@pytest.mark.usefixtures("reported")
def test_they_differ(stripe, api):
    """The hour is named, and the exit code says so."""
    payload = {"stripe_customer_id": stripe.customer, "value": "5"}
    api.billing.meter_events.create({"event_name": "egress", "payload": payload, "timestamp": NOON - 3600})
    code, out, err = meterkit("reconcile", "billing:kit", "--month", "2026-03")

    assert (1, "") == (code, err)
    assert [
        ["company", "customer", "meter", "ledger", "Stripe", "waiting", "rejected", "agree"],
        ["acme", stripe.customer, "credit_scores", "1,500", "1,500", "0", "0", "yes"],
        ["acme", stripe.customer, "egress", "7", "12", "0", "0", "NO"],
        ["customer", "meter", "hour", "ledger", "Stripe"],
        [stripe.customer, "egress", "2026-03-01T11:00Z", "0", "5"],
    ] == cells(out)


def test_what_was_rejected_is_shown(used, stripe):
    """Stripe cannot be asked about a customer that it does not have, and that is said."""
    used.link("acme", "cus_unknown")
    used.link("globex", stripe.customer)
    used.flush()
    data_of("report", "billing:kit", "--open")
    code, data = data_of("reconcile", "billing:kit")

    known = [each for each in data if each["customer"] == stripe.customer]
    unknown = [each for each in data if each["customer"] == "cus_unknown"]
    assert (1, [(80, 80, 0)]) == (code, [(each["ledger"], each["stripe"], each["rejected"]) for each in known])
    assert [(0, None, 1500), (0, None, 7)] == [(each["ledger"], each["stripe"], each["rejected"]) for each in unknown]
    assert all("No such customer" in each["error"] for each in unknown)


@pytest.mark.parametrize(
    ("month", "complaint"),
    [("2026-13", "is not a month; write it as 2026-03"), ("2026-04", "2026-04 has not begun yet")],
)
def test_a_month_that_is_none(used, stripe, month, complaint):
    """The message says what is."""
    code, out, err = meterkit("reconcile", "billing:kit", "--month", month)

    assert (2, "") == (code, out)
    assert complaint in err


@pytest.mark.usefixtures("reported")
def test_a_correction(stripe):
    """A part is offset by the next report, a whole event is cancelled."""
    place = ("billing:kit", "acme")
    how = ("--at", "2026-03-01T12:05Z", "--reason", "a load test")
    part = meterkit("correct", *place, "credit_scores", "--quantity", "500", *how)
    whole = meterkit("correct", *place, "egress", "--quantity", "7", *how)
    data_of("report", "billing:kit", "--open")
    too_much = meterkit("correct", *place, "egress", "--quantity", "1", *how)

    assert (0, "500 reversed. Units already reported to Stripe will be offset in the next report.\n", "") == part
    assert (0, "7 reversed: Stripe has cancelled the meter event mk_") == (whole[0], whole[1][:52])
    assert (1000, 0) == (stripe.usage("credit_scores", stripe.customer), stripe.usage("egress", stripe.customer))
    assert (1, "", "meterkit: only 0 of 1 units can be reversed\n") == too_much


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("acme", "calls", "--quantity", "1", "--at", "2026-03-01T12:05Z"), "no meter 'calls'"),
        (("acme", "egress", "--quantity", "0", "--at", "2026-03-01T12:05Z"), "1 or more"),
        (("acme", "egress", "--quantity", "1", "--at", "noon"), "--at must be a time with a time zone"),
    ],
)
def test_a_correction_that_makes_no_sense(used, stripe, words, complaint):
    """The message says what would."""
    code, out, err = meterkit("correct", "billing:kit", *words, "--reason", "x")

    assert (2, "") == (code, out)
    assert complaint in err


def test_a_retry(used, stripe):
    """What was rejected goes out again when the cause is mended."""
    used.link("acme", "cus_unknown")
    used.link("globex", stripe.customer)
    used.flush()
    data_of("report", "billing:kit", "--open")
    used.link("acme", stripe.customer)
    retried = data_of("retry", "billing:kit")
    data_of("report", "billing:kit", "--open")

    assert (0, {"retried": 2}) == retried
    assert (1580, 7) == (stripe.usage("credit_scores", stripe.customer), stripe.usage("egress", stripe.customer))
    assert (2, "") == meterkit("retry", "billing:kit", "--identifier", "mk_unknown")[:2]


@pytest.mark.usefixtures("used", "stripe")
def test_nothing_to_decide():
    """Only what is uncertain."""
    code, out, err = meterkit("decide", "billing:kit", "mk_unknown", "lost")

    assert (2, "") == (code, out)
    assert "no uncertain event 'mk_unknown'; see meterkit health" in err


def test_who_did_it(used, monkeypatch):
    """By ``--by``, or the login name; ``actions`` shows it, without the user that was forgotten."""
    monkeypatch.setenv("LOGNAME", "root-of-host")
    used.flush()
    used.link("acme", "cus_1", by="kit")
    code, out, err = meterkit("forget-user", "billing:kit", "globex", "ada", "--by", "ann")
    assert (0, "1 rows named this user; none do now. What is billed has not changed.\n", "") == (code, out, err)
    assert (0, {"rows": 0}) == data_of("forget-user", "billing:kit", "globex", "ada")

    code, data = data_of("actions", "billing:kit", "--limit", "2")
    assert 0 == code
    assert [("forget_user", "root-of-host", "0 rows"), ("forget_user", "ann", "1 rows")] == [
        (each["action"], each["by"], each["detail"]) for each in data
    ]
    code, out, _ = meterkit("actions", "billing:kit")
    assert [
        ["at", "by", "action", "subject", "detail"],
        ["2026-03-01T12:10Z", "root-of-host", "forget_user", "globex", "0 rows"],
        ["2026-03-01T12:10Z", "ann", "forget_user", "globex", "1 rows"],
        ["2026-03-01T12:10Z", "kit", "link", "acme", "cus_1"],
    ] == cells(out)


def test_forget_mode(used, stripe):
    """What Stripe's test mode told is deleted, once."""
    data_of("sync", "billing:kit")
    code, out, err = meterkit("forget-mode", "billing:kit", "--by", "ann")

    assert (0, "What the test mode told is deleted. Usage is kept, and the next key decides where it goes.\n", "") == (
        code,
        out,
        err,
    )
    assert (0, {"forgotten": None}) == data_of("forget-mode", "billing:kit")
    assert "nothing was deleted" in meterkit("forget-mode", "billing:kit")[1]


def test_corrections(used, stripe):
    """What was reversed, oldest first."""
    used.flush()
    none = meterkit("corrections", "billing:kit")[1]
    reverse = ("--quantity", "30", "--at", "2026-03-01T12:05Z", "--reason", "load test")
    assert 0 == meterkit("correct", "billing:kit", "acme", "credit_scores", *reverse)[0]
    code, data = data_of("corrections", "billing:kit")
    _, out, _ = meterkit("corrections", "billing:kit")

    assert "Nothing was reversed yet." in none
    assert (0, []) == (code, data["credits"])
    assert [("acme", 30, "2026-03-01T12:00Z")] == [
        (each["company"], each["quantity"], each["window"]) for each in data["corrections"]
    ]
    assert ["2026-03-01T12:10Z", "acme", "credit_scores", "2026-03-01T12:00Z", "30", "load test", "done"] == cells(out)[
        1
    ]


def test_credits_are_shown(capsys, monkeypatch):
    """Beside what was reversed, with the invoice and the amount."""
    monkeypatch.setenv("COLUMNS", "200")
    about = {"company": "acme", "meter": "calls", "quantity": 4}
    reversed_ = {**about, "created_at": "now", "window": "then", "reason": "a test", "state": "done"}
    due = {**about, "customer": "cus_1", "number": "A-1", "amount": Decimal("20.00"), "currency": "usd"}
    show_corrections([reversed_], [due, {**due, "amount": None}])

    assert ["acme", "cus_1", "calls", "4", "A-1", "20.00 usd"] in cells(capsys.readouterr().out)
