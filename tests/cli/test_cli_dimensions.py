"""``meterkit usage --by``, ``correct --dimension`` and what ``explain`` shows of values."""

from __future__ import annotations

import pytest
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

from meterkit import Meter

pytestmark = pytest.mark.long

BILLING = f"""
from meterkit import Meter, MeterKit

meters = [Meter("credit_scores", value="scores", by=("model", "kind")), Meter("egress", path="*")]
kit = MeterKit(meters=meters, customer_ids=True, clock=lambda: {NOON + 600})
"""
AT = "2026-03-01T12:10Z"


@pytest.fixture
def used(shop, make_kit):
    """A kit of the shop, with some usage in its journal."""
    (shop / "billing.py").write_text(BILLING)
    kit = make_kit(Meter("credit_scores", value="scores", by=("model", "kind")), Meter("egress", path="*"))
    kit.record("credit_scores", "acme", 50, dimensions={"model": "small", "kind": "input"})
    kit.record("credit_scores", "acme", 30, dimensions={"model": "large", "kind": "input"})
    kit.record("credit_scores", "acme", 4)
    kit.record("egress", "acme", 7)
    kit.flush()
    return kit


@pytest.mark.usefixtures("used")
def test_usage_by():
    """As data, and for people."""
    code, data = data_of("usage", "billing:kit", "--by", "model,kind", "--meter", "credit_scores")
    _, out, _ = meterkit("usage", "billing:kit", "--by", "model")

    assert 0 == code
    assert [
        ({"model": "", "kind": ""}, 4),
        ({"model": "large", "kind": "input"}, 30),
        ({"model": "small", "kind": "input"}, 50),
    ] == [(each["values"], each["quantity"]) for each in data["totals"]]
    assert ["credit_scores", "acme", "(unknown)", "2026-03-01T12:00Z", "4"] in cells(out)
    assert ["egress", "total", "(unknown)", "", "7"] in cells(out)


@pytest.mark.usefixtures("used")
def test_a_dimension_that_no_meter_has():
    """It is a mistake in the command."""
    code, _, err = meterkit("usage", "billing:kit", "--by", "plan")

    assert (2, "meterkit: no meter has the dimension 'plan'; choose from model, kind\n") == (code, err)


def test_correct_and_explain(used, stripe):
    """A correction names the values; what is behind a meter event is shown by values."""
    used.link("acme", stripe.customer)
    used.flush()
    data_of("report", "billing:kit", "--open")
    words = ("correct", "billing:kit", "acme", "credit_scores", "--at", AT, "--reason", "a test", "--quantity", "20")
    refused = meterkit(*words)
    code, data = data_of(*words, "--dimension", "model=small", "--dimension", "kind=input")
    _, out, _ = meterkit("explain", "billing:kit", "acme", "credit_scores")
    _, reversed_, _ = meterkit("corrections", "billing:kit")

    assert 1 == refused[0]
    assert "say of which ones 20 units are to be reversed" in refused[2]
    assert (0, "done") == (code, data["state"])
    assert ["", "model=small kind=input", "30", "", "", ""] in cells(out)
    assert '{"kind":"input","model":"small"}' in reversed_
