"""The commands about notices, and the simulation of prices, as a shell sees them."""

from __future__ import annotations

import pytest
from cli_shell import cells, data_of, meterkit
from fake_clock import NOON

TELLING = f"""
from meterkit import Meter, MeterKit, Notify

calls = Meter("credit_scores")
told = []


def tell(notice):
    told.append(notice)


def fail(notice):
    raise OSError("the line is dead")


kit = MeterKit(
    meters=[calls, Meter("egress")],
    notify=[Notify.threshold(meter=calls, units=100, to=[tell, fail]), Notify.overdue(to=tell)],
    clock=lambda: {NOON + 600},
)
"""

PRICED = f"""
from meterkit import Meter, MeterKit, Price, Tier

calls = Meter("credit_scores")
tiers = [Tier(up_to=100, unit_price="5"), Tier(up_to=1000, unit_price="3"), Tier(unit_price="2")]
kit = MeterKit(
    meters=[calls, Meter("egress")],
    prices=[Price.graduated(calls, *tiers)],
    clock=lambda: {NOON + 600},
)
"""

CHEAPER = PRICED.replace('unit_price="2"', 'unit_price="1.50"')


@pytest.fixture
def telling(shop, used):
    """A kit that tells of something, and has usage that calls for it."""
    (shop / "telling.py").write_text(TELLING)
    used.flush()


@pytest.mark.usefixtures("telling")
def test_a_test_of_each_kind():
    """Through each channel that would get it; what fails is named."""
    code, data = data_of("notify", "telling:kit", "--test")

    assert 1 == code
    assert [
        ("threshold", "telling.tell", ""),
        ("threshold", "telling.fail", "OSError: the line is dead"),
        ("overdue", "telling.tell", ""),
        ("recovered", "telling.tell", ""),
    ] == [(each["kind"], each["channel"], each["error"]) for each in data]
    assert "threshold by telling.tell: delivered" in meterkit("notify", "telling:kit", "--test")[1]


@pytest.mark.usefixtures("used")
def test_a_kit_that_tells_nothing():
    """Is told so."""
    code, _, err = meterkit("notify", "billing:kit", "--test")

    assert (2, True) == (code, "has no notify=" in err)


def test_what_was_told(telling, shop, monkeypatch):
    """Of each channel."""
    monkeypatch.syspath_prepend(shop)
    import telling as module

    dispatcher = module.kit.process().dispatcher
    dispatcher.evaluate()
    for name in ("telling.tell", "telling.fail"):
        dispatcher.deliver(name)
    module.kit.close()
    code, out, _ = meterkit("notices", "telling:kit")
    _, rows = data_of("notices", "telling:kit", "--company", "globex")

    assert 1 == code
    assert [
        ["created", "kind", "company", "notice", "channel", "state", "error"],
        [
            "2026-03-01T12:10Z",
            "threshold",
            "acme",
            "acme has used 100 credit_scores",
            "telling.fail",
            "waiting",
            "OSError: the line is dead",
        ],
        ["2026-03-01T12:10Z", "threshold", "acme", "acme has used 100 credit_scores", "telling.tell", "delivered", ""],
    ] == cells(out)
    assert [] == rows


def test_other_prices(shop, used):
    """Company by company, and all together."""
    (shop / "priced.py").write_text(PRICED)
    (shop / "cheaper.py").write_text(CHEAPER)
    used.flush()
    _, out, _ = meterkit("simulate", "cheaper:kit", "--against", "priced:kit", "--month", "2026-03")
    _, rows = data_of("simulate", "cheaper:kit")

    assert [
        ["company", "used", "currency", "old", "new", "change"],
        ["acme", "1,500 credit_scores, 7 egress", "usd", "4,200.00", "3,950.00", "-250.00"],
        ["globex", "80 credit_scores", "usd", "400.00", "400.00", "0.00"],
        ["total, if both are known", "", "usd", "4,600.00", "4,350.00", "-250.00"],
    ] == cells(out)
    assert [("acme", None, "3950.00"), ("globex", None, "400.00")] == [
        (row["company"], row["old"], row["new"]) for row in rows
    ]
    assert (2, "") == meterkit("simulate", "billing:kit")[:2]
    assert (2, "") == meterkit("simulate", "priced:kit", "--month", "March")[:2]
