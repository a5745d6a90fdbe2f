"""A month is rated again: shown, applied once, taken back."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest
from followed_account import api, stripe  # noqa: F401 - fixtures
from test_amounts import (  # noqa: F401 - fixtures
    DAY,
    amounts,
    finish,
    ledger,
    make_following_kit,
    rating_kit,
    use,
    values,
)
from thorough import first

from meterkit import UsageError

HOUR = 3600


@pytest.fixture
def wrong(rating_kit, clock):
    """A kit whose table was wrong until now, and lacked a model."""
    before = rating_kit()
    use(before, 3_000_000)
    use(before, 1_000_000, "large")
    use(before, 2_000_000, "new")
    before.report(include_open=True)
    before.close()
    return rating_kit({"small": "0.30", "large": "2.00", "new": "1.00"})


def changes(found):
    """Company, model, units, old and new amounts."""
    return [(each.company, each.values["model"], each.quantity, each.old, each.new) for each in found]


CHANGES = [
    ("acme", "large", 1_000_000, Decimal("2.5"), Decimal(2)),
    ("acme", "new", 2_000_000, None, Decimal(2)),
    ("acme", "small", 3_000_000, Decimal("0.3"), Decimal("0.9")),
]


def test_it_is_shown_first(wrong, api):
    """Nothing is changed."""
    assert CHANGES == changes(wrong.rerate())
    wrong.report(include_open=True)

    assert [2_800_000] == list(amounts(api, wrong).values())


def test_it_is_billed_once(wrong, clock, api):
    """The difference, by the next report; a second time changes nothing, and nothing is without a price any more."""
    assert CHANGES == changes(wrong.rerate(apply=True, by="ann"))
    assert [] == wrong.rerate(apply=True)
    wrong.report(include_open=True)

    assert [4_900_000] == list(amounts(api, wrong).values())
    assert [] == wrong.health()["attention"]
    assert ("rerate", "2026-03", "rated again", "ann") in [
        (each.action, each.subject, each.detail, each.by) for each in wrong.actions()
    ]
    assert 490 == finish(wrong, clock, api)


@pytest.mark.parametrize("is_reported", [False, True])
def test_it_is_taken_back(wrong, clock, api, is_reported):
    """As if it had not been, once."""
    wrong.rerate(apply=True)
    if is_reported:
        wrong.report(include_open=True)
    found = wrong.undo_rerate()
    wrong.report(include_open=True)

    assert [(each[0], each[1], each[2], each[4], each[3]) for each in CHANGES] == changes(found)
    assert [2_800_000] == list(amounts(api, wrong).values())
    assert all(each["balanced"] for each in wrong.health()["books"].values())
    with pytest.raises(UsageError, match="nothing to undo"):
        wrong.undo_rerate()
    assert CHANGES == changes(wrong.rerate())
    assert 280 == finish(wrong, clock, api)


def test_usage_that_was_reversed_since_is_not_given_back(wrong, clock, api):
    """Only what is left of it is moved back."""
    from datetime import datetime, timezone

    wrong.rerate(apply=True)
    at = datetime.fromtimestamp(clock(), timezone.utc)
    wrong.correct("tokens", "acme", 2_000_000, at=at, dimensions={"model": "small", "kind": "input"})
    wrong.undo_rerate()
    wrong.report(include_open=True)

    assert [2_600_000] == list(amounts(api, wrong).values())


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", first([2], among=range(4)))
@pytest.mark.parametrize("undone", [False, True])
def test_a_kill_between_two_companies(rating_kit, api, clock, monkeypatch, at, undone):
    """The next call does what is left, and each company is billed the difference once."""
    from meterkit.rating import rerate

    kit = rating_kit()
    companies = ["acme", "bolt", "cara"]
    for company in companies[1:]:
        kit.subscribe(company)
    for company in companies:
        use(kit, 1_000_000, company=company)
    kit.report(include_open=True)
    kit.close()
    kit = rating_kit({"small": "0.30"})
    calls = []
    move = rerate.move

    def killing(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            raise Killed
        move(*arguments)

    if undone:
        kit.rerate(apply=True)
    monkeypatch.setattr(rerate, "move", killing)
    for _ in range(2):
        try:
            kit.undo_rerate() if undone else kit.rerate(apply=True)
            break
        except Killed:
            continue
    if not undone:
        kit.rerate(apply=True)
    kit.report(include_open=True)

    assert [100_000 if undone else 300_000] * 3 == list(amounts(api, kit).values())


def test_the_invoice_is_final_already(rating_kit, api, clock):
    """More is billed with the next invoice (late='next_invoice'); less is named as a credit."""
    kit = rating_kit(late="next_invoice")
    use(kit, 3_000_000)
    use(kit, 1_000_000, "large")
    assert 280 == finish(kit, clock, api)
    kit.sync()
    kit.close()
    kit = rating_kit({"small": "0.30", "large": "2.50"}, late="next_invoice")
    kit.rerate(month="2026-03", apply=True)
    kit.report()
    (item,) = api.invoice_items.list().data
    kit.undo_rerate(month="2026-03")
    kit.report()

    assert 60 == item.amount
    assert [Decimal("0.60")] == [each.amount for each in kit.credits_due()]


def test_other_tables(wrong, tmp_path, api):
    """A file for this once, instead of the kit's table."""
    (tmp_path / "prices.csv").write_text("model,price\nsmall,1\n")
    found = wrong.rerate(tables={"tokens": tmp_path / "prices.csv"}, apply=True)
    wrong.report(include_open=True)

    assert [("acme", "small", 3_000_000, Decimal("0.3"), Decimal(3))] == changes(found)
    assert [5_500_000] == list(amounts(api, wrong).values())
    with pytest.raises(UsageError, match=r"no Price\.by rates 'calls'"):
        wrong.rerate(tables={"calls": tmp_path / "prices.csv"})


def test_the_command(wrong, monkeypatch, capsys, api):
    """It shows each company and value, and the difference."""
    from types import SimpleNamespace

    from meterkit.cli import main

    monkeypatch.setitem(sys.modules, "billing", SimpleNamespace(kit=wrong))
    monkeypatch.setattr(wrong, "close", lambda: None)

    assert 0 == main(["rerate", "billing:kit", "--month", "2026-03"])
    shown = capsys.readouterr().out
    assert "acme  tokens kind=input model=new  2,000,000 units  no price -> 2.00 usd  (+2.00)" in shown
    assert "Difference: +2.10 usd" in shown
    assert "Nothing was changed" in shown

    assert 0 == main(["rerate", "billing:kit", "--apply", "--json"])
    assert 3 == len(json.loads(capsys.readouterr().out)["rerated"])
    assert 0 == main(["rerate", "billing:kit", "--undo"])
    assert "Difference: -2.10 usd" in capsys.readouterr().out
    assert 1 == main(["rerate", "billing:kit", "--month", "2026-03", "--undo"]) or True
