"""The command ``forecast``, as a shell sees it."""

from __future__ import annotations

import pytest
from cli_shell import cells, data_of, meterkit

DAY = 86_400

LIMITED = """
from pathlib import Path

from meterkit import Governance, Meter, MeterKit, Price, Quota

calls = Meter("credit_scores", path="/scores")
kit = MeterKit(
    meters=[calls],
    prices=[Price.per_unit(calls, "0.10")],
    identify=lambda exchange: None,
    governance=Governance(quotas=[Quota(calls, {"acme": 2000}.get)], spending_cap="1000"),
    clock=lambda: float(Path("now").read_text()),
)
"""


@pytest.fixture
def limited(shop, make_kit, clock):
    """A shop in the middle of a month, and a kit of it."""
    from meterkit import Meter

    kit = make_kit(Meter("credit_scores"))
    for _ in range(14):
        kit.record("credit_scores", "acme", 100)
        kit.record("credit_scores", "globex", 10)
        clock.advance(DAY)
    kit.record("credit_scores", "initech", 5)
    kit.flush()
    (shop / "limited.py").write_text(LIMITED)
    (shop / "now").write_text(str(clock()))
    return kit


@pytest.mark.usefixtures("limited")
def test_all_companies():
    """What they will use and owe, and when a limit is reached."""
    code, data = data_of("forecast", "limited:kit")
    table = meterkit("forecast", "limited:kit")[1]

    assert 0 == code
    assert ["acme", "globex", "initech"] == [each["company"] for each in data]
    acme, _, initech = data
    assert (1400, 3049) == (acme["usage"][0]["used"], acme["usage"][0]["expected"])
    assert ("usd", "140.00", "304.90") == tuple(acme["cost"][name] for name in ("currency", "so_far", "expected"))
    assert [("quota", "2026-03-21"), ("spending_cap", None)] == [
        (each["kind"], each["reached_at"] and each["reached_at"][:10]) for each in acme["limits"]
    ]
    assert "forecast needs 7" in initech["usage"][0]["unknown"]
    rows = cells(table)
    assert ["acme", "credit_scores", "1,400", "3,049"] in [row[:4] for row in rows]
    assert ["acme", "quota of credit_scores per period", "1,400", "2,000", "2026-03-21"] in rows
    assert ["initech", "credit_scores", "5", "unknown"] in [row[:4] for row in rows]


@pytest.mark.usefixtures("limited")
def test_one_company_and_who_reaches_a_limit():
    """Only these."""
    assert ["globex"] == [each["company"] for each in data_of("forecast", "limited:kit", "--company", "globex")[1]]
    assert ["acme"] == [each["company"] for each in data_of("forecast", "limited:kit", "--reached")[1]]
    assert "Nothing is expected" in meterkit("forecast", "limited:kit", "--company", "globex", "--reached")[1]
    assert 1 == meterkit("forecast", "limited:kit", "--company", "")[0]
