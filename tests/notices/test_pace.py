"""Whoever will reach a limit at this pace is told so, once for each limit and period."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from meterkit import ConfigurationError, Governance, LedgerError, Meter, Notify, Plan, Price, Quota, unique
from meterkit.ledger import database
from meterkit.notices import pace_notices

DAY = 86_400
CALLS = Meter("calls", path="/calls")
SEATS = Meter("seats", path="/seats", value=unique("user"))
PRICE = Price.per_unit(CALLS, "0.10")


@pytest.fixture
def told():
    return []


@pytest.fixture
def warning(make_kit, told):
    """A function that makes kits which warn of the pace, without quotas unless they are given."""

    def make(*rules, meters=(CALLS,), **options):
        def tell(notice):
            told.append(notice)

        rules = [Notify.pace(to=tell, **each) for each in rules or ({},)]
        return make_kit(*meters, **{"notify": rules, "identify": lambda exchange: None, **options})

    return make


def look(kit):
    """One flush interval: flush, look, and deliver."""
    kit.flush()
    kit.process().dispatcher.evaluate()
    for rule in kit.notify:
        for channel in rule.to:
            kit.process().dispatcher.deliver(channel.name)


def use(kit, days, quantity=100, company="acme", meter="calls"):
    """Use so much each day at ten past twelve, and look; it starts on the first of March."""
    for _ in range(days):
        kit.record(meter, company, quantity)
        look(kit)
        kit.clock.advance(DAY)


def test_a_quota_that_will_be_reached(warning, told):
    """After eight days, when the first week is whole: with what is used, expected, and the day."""
    kit = warning(governance=Governance(quotas=[Quota(CALLS, 2000)]))
    use(kit, 8)
    before = list(told)
    use(kit, 1)
    (notice,) = told

    assert [] == before
    assert "At this pace, acme reaches its quota of calls on 2026-03-20" == notice.title
    assert "acme has used 900 calls of 2,000 this billing period." in notice.text
    assert "2026-03-31" in notice.text
    assert {"meter": "calls", "used": 900, "limit": 2000, "expected": 3149}.items() <= notice.fields.items()
    assert "pace" == notice.kind


def test_once_for_each_period_and_limit(warning, told):
    """However the pace changes; from a tenth of the limit on."""
    kit = warning(governance=Governance(quotas=[Quota(CALLS, 2000)]))
    use(kit, 10)
    use(kit, 5, 80)
    use(kit, 4, 120)
    use(kit, 12)
    in_march = len(told)
    use(kit, 2, 99)
    in_two_days = len(told)
    use(kit, 1, 99)

    assert (1, 1, 2) == (in_march, in_two_days, len(told))
    assert 2 == len({notice.key for notice in told})


def test_a_limit_that_is_not_reached(warning, told):
    """Nor one that is reached already: others tell of that."""
    kit = warning(governance=Governance(quotas=[Quota(CALLS, 4000), Quota(CALLS, 500, per="month")]))
    use(kit, 20)

    assert [] == told


def test_what_may_as_well_not_be_reached(warning, told):
    """While only a week is known, a limit near to what is expected is none to warn of; after two weeks, it is."""
    kit = warning({"meter": CALLS, "units": 3000})
    use(kit, 9)
    before, expected = list(told), kit.forecast("acme").usage[0].expected
    use(kit, 8)

    assert ([], 1) == (before, len(told))
    assert expected > 3000


def test_a_new_limit_is_another(warning, told):
    """As of a customer that has paid for more."""
    limits = {"acme": 2000}
    kit = warning(governance=Governance(quotas=[Quota(CALLS, limits.get)]))
    use(kit, 10)
    limits["acme"] = 2100
    use(kit, 2)

    assert [2000, 2100] == [notice.fields["limit"] for notice in told]


def test_quotas_of_months_and_of_plans(warning, told):
    """And none of a day, which is over before there is a pace."""
    plan = Plan("free", limits=[Quota(CALLS, 2100)])
    governance = Governance(quotas=[Quota(CALLS, 2000, per="month"), Quota(CALLS, 101, per="day")])
    kit = warning(governance=governance, plans=[plan], default_plan="free")
    use(kit, 12)

    assert [2000, 2100] == sorted(notice.fields["limit"] for notice in told)
    assert any(" this month." in notice.text for notice in told)


def test_the_spending_cap(warning, told):
    """By what the usage will cost."""
    kit = warning(prices=[PRICE], governance=Governance(spending_cap="200.00"))
    use(kit, 9)
    (notice,) = told

    assert "At this pace, acme reaches the spending cap of 200.00 USD on 2026-03-20" == notice.title
    assert "acme has spent 90.00 USD of 200.00 USD this billing period." in notice.text
    assert {"amount": "90.00", "limit": "200.00", "expected": "314.90", "currency": "usd"}.items() <= (
        notice.fields.items()
    )


def test_budgets(warning, told):
    """In units and in money, of each company."""
    rules = [{"meter": CALLS, "units": 1500}, {"amount": "120"}, {"amount": "500"}, {"amount": "9", "currency": "eur"}]
    kit = warning(*rules, prices=[PRICE])
    use(kit, 9)

    assert [
        "At this pace, acme reaches 1,500 calls on 2026-03-15",
        "At this pace, acme reaches its budget of 120 USD on 2026-03-12",
    ] == sorted(notice.title for notice in told)


def test_what_is_counted_once_has_no_pace(warning, told):
    """Most seats of a month are there in its first days."""
    kit = warning({"meter": SEATS, "units": 300}, meters=(SEATS,))
    for day in range(20):
        for number in range(10):
            kit.record("seats", "acme", value=f"{day} {number}")
        look(kit)
        kit.clock.advance(DAY)

    assert [] == told


def test_many_companies_are_looked_at_by_and_by(warning, told, monkeypatch):
    """Some after each flush, until it was everybody's turn; each once an hour."""
    monkeypatch.setattr(pace_notices, "AT_ONCE", 2)
    kit = warning({"meter": CALLS, "units": 1500})
    companies = [f"company-{number}" for number in range(7)]
    for _ in range(8):
        for company in companies:
            kit.record("calls", company, 100)
        kit.clock.advance(DAY)
    kit.flush()
    told_after = []
    for _ in range(5):
        look(kit)
        told_after.append(len(told))

    assert [2, 4, 6, 7, 7] == told_after
    assert companies == [notice.company for notice in told]


def test_an_hour_later_again(warning, told):
    """Who was not on the way then may be now."""
    kit = warning({"meter": CALLS, "units": 4000})
    use(kit, 14)
    kit.record("calls", "acme", 1000)
    look(kit)
    kit.record("calls", "acme", 1000)
    look(kit)
    before = len(told)
    kit.clock.advance(3600)
    look(kit)

    assert (0, 1) == (before, len(told))


def test_a_locked_ledger_loses_no_notice(warning, told, monkeypatch, tmp_path):
    """The look fails while another process writes; the next finds all again."""
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    kit = warning({"meter": CALLS, "units": 1500})
    for _ in range(8):
        kit.record("calls", "acme", 100)
        kit.clock.advance(DAY)
    kit.flush()
    with closing(sqlite3.connect(tmp_path / "meterkit" / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            kit.process().dispatcher.evaluate()
        other.execute("ROLLBACK")
    look(kit)

    assert 1 == len(told)


def test_no_notice_after_a_restart_that_was_there_before(warning, told, make_kit):
    """The ledger knows."""
    kit = warning({"meter": CALLS, "units": 2000})
    use(kit, 9)
    kit.close()
    again = warning({"meter": CALLS, "units": 2000})
    use(again, 3)

    assert 1 == len(told)


@pytest.mark.parametrize(
    ("rule", "options", "says"),
    [
        ({}, {}, "needs a quota per month or billing period, or a spending cap"),
        ({}, {"governance": Governance(quotas=[Quota(CALLS, 9, per="day")])}, "needs a quota per month"),
        ({"meter": CALLS}, {"governance": Governance(spending_cap="9")}, "needs a quota per month"),
        ({"meter": SEATS, "units": 9}, {}, "not in meters="),
    ],
)
def test_rules_that_can_never_be_due(warning, rule, options, says):
    """Are refused when the kit is built."""
    with pytest.raises(ConfigurationError, match=says):
        warning(rule, **options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"units": 9}, "needs the meter="),
        ({"meter": CALLS, "amount": "9"}, "for all meters"),
        ({"units": 9, "amount": "9"}, "for all meters"),
        ({"meter": CALLS, "units": 0}, "must be 1 or more"),
        ({"meter": CALLS, "units": 1.5}, "must be a whole number"),
        ({"amount": 9.5}, "float"),
        ({"amount": "-9"}, "amount"),
        ({"amount": "0"}, "more than 0"),
        ({"meter": "calls", "units": 9}, "must be a Meter"),
    ],
)
def test_arguments_that_are_wrong(arguments, says):
    """Are refused, and the message says how to correct them."""
    with pytest.raises(ConfigurationError, match=says):
        Notify.pace(to=print, **arguments)
