"""``meterkit margin``, as a shell sees it."""

from __future__ import annotations

import csv
import io

import pytest
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

BILLING = f"""
from meterkit import Cost, Meter, MeterKit, Price

meter = Meter("credit_scores")
kit = MeterKit(
    meters=[meter],
    prices=[Price.per_unit(meter, "0.50")],
    costs=[Cost.per_unit(meter, "COST")],
    clock=lambda: {NOON + 600},
)
"""


@pytest.fixture
def sold(shop, make_kit):
    """A shop that has sold 1,500 to acme, and 80 to globex."""
    from meterkit import Meter

    (shop / "billing.py").write_text(BILLING.replace("COST", "0.20"))
    kit = make_kit(Meter("credit_scores"), customer_ids=False)
    kit.record("credit_scores", "acme", 1_500)
    kit.record("credit_scores", "globex", 80)
    kit.flush()
    return shop


def test_the_month(sold):
    """The worst first, and the total; the exit code says that all is well."""
    code, out, err = meterkit("margin", "billing:kit")

    assert (0, "") == (code, err)
    assert [
        ["company", "currency", "revenue", "cost", "margin", "margin %", "to be noted"],
        [
            "globex",
            "usd",
            "40.00",
            "16.00",
            "24.00",
            "60.0%",
            "no running subscription: priced as if it had the kit's prices",
        ],
        [
            "acme",
            "usd",
            "750.00",
            "300.00",
            "450.00",
            "60.0%",
            "no running subscription: priced as if it had the kit's prices",
        ],
        ["in all", "usd", "790.00", "316.00", "474.00", "60.0%", ""],
    ] == cells(out)
    assert "Revenue is what the usage of the month costs at the prices that hold now" in out


@pytest.mark.long
def test_data(sold):
    """As JSON, and as CSV; of one company, by meter."""
    code, data = data_of("margin", "billing:kit", "--company", "acme")
    csv_code, out, _ = meterkit("margin", "billing:kit", "--month", "2026-03", "--csv")

    assert (0, 0) == (code, csv_code)
    assert [("credit_scores", 750, 300, 450, 60)] == [
        tuple(row[name] for name in ("meter", "revenue", "cost", "margin", "percent")) for row in data["rows"]
    ]
    assert [("globex", "24.00", "usd"), ("acme", "450.00", "usd")] == [
        (row["company"], row["margin"], row["margin currency"]) for row in csv.DictReader(io.StringIO(out))
    ]


@pytest.mark.long
def test_a_loss(sold):
    """It stands out, and the exit code says so."""
    (sold / "billing.py").write_text(BILLING.replace("COST", "0.60"))
    code, out, _ = meterkit("margin", "billing:kit")

    assert 1 == code
    assert "2 companies lose money: acme (-150.00 usd), globex (-8.00 usd)" in out
    assert "LOSES MONEY" in out


@pytest.mark.long
def test_mistakes(sold):
    """Each says what could be written instead."""
    assert 2 == meterkit("margin", "billing:kit", "--month", "March")[0]
    code, _, err = meterkit("margin", "billing:kit", "--by", "model")
    assert (2, "meterkit: by= must be 'company', 'meter', not 'model'\n") == (code, err)
    (sold / "billing.py").write_text(BILLING.replace('[Cost.per_unit(meter, "COST")]', "()"))
    assert "this kit has no costs=" in meterkit("margin", "billing:kit")[2]
