"""Plans: what they consist of in Stripe, and what is refused while a kit is built."""

from __future__ import annotations

from decimal import Decimal

import pytest

from meterkit import Amounts, ConfigurationError, Meter, MeterKit, Plan, Price, Tier

CALLS, EGRESS = Meter("calls"), Meter("egress")
PER_CALL = Price.per_unit(CALLS, "0.01")


def costs(plan, units, currency=None):
    """What a billing interval costs, without the fee."""
    return sum((price.amount(units) for price in plan.prices_in(currency)), Decimal(0))


@pytest.mark.parametrize(("units", "cost"), [(0, 0), (10_000, 0), (10_001, "0.01"), (10_500, 5)])
def test_included_units_come_in_front(units, cost):
    """They are free, and the price begins after them."""
    plan = Plan("pro", prices=[PER_CALL], includes={CALLS: 10_000})

    assert Decimal(cost) == costs(plan, units)


@pytest.mark.parametrize(("units", "cost"), [(50, 0), (51, 5), (150, 500), (151, 503)])
def test_the_tiers_begin_after_the_included_units(units, cost):
    """A tier of 100 units has 100 units that cost something."""
    price = Price.graduated(CALLS, Tier(up_to=100, unit_price="5.00"), Tier(unit_price="3.00"))
    plan = Plan("pro", prices=[price], includes={CALLS: 50})

    assert Decimal(cost) == costs(plan, units)


def test_a_plan_takes_currency_and_interval_from_its_prices():
    """They need not be said twice."""
    plan = Plan("pro", fee="20.00", prices=[Price.per_unit(CALLS, "0.01", currency="eur", interval="year")])

    assert ("eur", "year", ("eur",)) == (plan.currency, plan.interval, plan.sold_in)


def test_a_plan_in_two_currencies():
    """Each has its own amounts; what is included is included in both."""
    euros = Amounts(fee="18.00", prices=[Price.per_unit(CALLS, "0.02", currency="eur")])
    plan = Plan("pro", fee="20.00", prices=[PER_CALL], includes={CALLS: 10}, currencies={"EUR": euros})

    assert ("usd", "eur") == plan.sold_in
    assert [Decimal(20), Decimal(18)] == [plan.fee_in(currency).amount for currency in plan.sold_in]
    assert [Decimal("0.9"), Decimal("1.8")] == [costs(plan, 100, currency) for currency in plan.sold_in]


def test_the_version_follows_what_it_costs():
    """A trial, a limit or a feature can change without a new price in Stripe."""
    plan = Plan("pro", fee="20.00", prices=[PER_CALL])
    same = Plan("pro", fee="20", prices=[Price.per_unit(CALLS, "0.0100")], trial_days=14, features={"export"})
    others = [
        Plan("pro", fee="21.00", prices=[PER_CALL]),
        Plan("pro", fee="20.00", prices=[Price.per_unit(CALLS, "0.02")]),
        Plan("pro", fee="20.00", prices=[PER_CALL], includes={CALLS: 1}),
        Plan("pro", fee="20.00", prices=[PER_CALL], interval="year"),
        Plan("basic", fee="20.00", prices=[PER_CALL]),
    ]

    assert plan.version == same.version
    assert len({plan.version, *(other.version for other in others)}) == 1 + len(others)


def test_an_amount_that_stays_keeps_its_lookup_key():
    """So that only the prices that change are new in Stripe."""
    fee, usage = Plan("pro", fee="20.00", prices=[PER_CALL]).lookup_keys()
    other_fee, same_usage = Plan("pro", fee="25.00", prices=[PER_CALL]).lookup_keys()

    assert (True, True) == (fee != other_fee, usage == same_usage)


WRONG = {
    "name": (lambda: Plan("pro plan"), "letters, digits"),
    "price": (lambda: Plan("pro", prices=["0.01"]), "is not a Price"),
    "lookup key": (lambda: Plan("pro", prices=[Price.per_unit(CALLS, "1", lookup_key="a")]), "remove it"),
    "two of a meter": (lambda: Plan("pro", prices=[PER_CALL, Price.per_unit(CALLS, "2")]), "billed twice"),
    "currencies": (
        lambda: Plan("pro", prices=[PER_CALL, Price.per_unit(EGRESS, "1", currency="eur")]),
        "currencies={'eur': Amounts",
    ),
    "fee in another": (lambda: Plan("pro", fee="1.00", currency="eur", prices=[PER_CALL]), "a subscription has one"),
    "intervals": (lambda: Plan("pro", fee="1", interval="week", prices=[PER_CALL]), "only month and year"),
    "interval": (lambda: Plan("pro", fee="1", interval="quarter"), "must be one of"),
    "fee": (lambda: Plan("pro", fee=20.0), "with quotes"),
    "fee in parts": (lambda: Plan("pro", fee="0.005"), "round it"),
    "endless trial": (lambda: Plan("pro", trial_days=731), "1 to 730 days"),
    "no trial": (lambda: Plan("pro", trial_days=0), "left out for no trial"),
    "for ever": (lambda: Plan("pro", trial_days=float("inf")), "costs nothing for ever"),
    "feature": (lambda: Plan("pro", features={"bulk export"}), "must be a name such as 'export'"),
    "features": (lambda: Plan("pro", features="export"), "must be a set of names"),
    "included without a price": (lambda: Plan("pro", includes={CALLS: 5}), "has no price in the plan"),
    "included": (lambda: Plan("pro", prices=[PER_CALL], includes={CALLS: -1}), "positive int"),
    "included in packages": (
        lambda: Plan("pro", prices=[Price.package(CALLS, "1", size=10)], includes={CALLS: 5}),
        "package price",
    ),
    "twenty-one": (
        lambda: Plan("pro", fee="1", prices=[Price.per_unit(Meter(f"m{number}"), "1") for number in range(20)]),
        "21 prices and fees",
    ),
    "amounts": (lambda: Plan("pro", fee="1", currencies={"eur": "1"}), "must be Amounts"),
    "amounts without fee": (lambda: Plan("pro", fee="1", currencies={"eur": Amounts()}), "exactly if"),
    "amounts without a price": (lambda: Plan("pro", prices=[PER_CALL], currencies={"eur": Amounts()}), "each meter"),
    "own currency": (lambda: Plan("pro", fee="1", currencies={"usd": Amounts(fee="1")}), "there twice"),
    "limits": (lambda: Plan("pro", limits=5), "must be a list of Quota"),
}


@pytest.mark.parametrize("make", WRONG)
def test_what_a_plan_cannot_be(make):
    """Each is refused while it is built, and the message names the cure."""
    build, message = WRONG[make]
    with pytest.raises(ConfigurationError) as caught:
        build()

    assert message in str(caught.value)


WRONG_KITS = {
    "two of a name": ({"plans": [Plan("pro"), Plan("pro", fee="1")]}, "two plans named 'pro'; rename"),
    "no list": ({"plans": Plan("pro")}, "must be a list of Plan"),
    "no plan": ({"plans": ["pro"]}, "is not a Plan"),
    "unknown meter": ({"plans": [Plan("pro", prices=[Price.per_unit(EGRESS, "1")])]}, "not in meters=; add it"),
    "prices beside": ({"plans": [Plan("pro")], "prices": [PER_CALL]}, "exclude each other"),
    "unknown default": ({"plans": [Plan("pro")], "default_plan": "free"}, "one of 'pro'"),
    "default alone": ({"default_plan": "free"}, "plans= is empty"),
}


@pytest.mark.parametrize("options", WRONG_KITS)
def test_what_a_kit_refuses(options):
    """Before it is built, so that no request meets it."""
    given, message = WRONG_KITS[options]
    with pytest.raises(ConfigurationError) as caught:
        MeterKit(meters=[CALLS], **given)

    assert message in str(caught.value)


def test_a_price_of_a_meter_that_is_never_reported():
    """Stripe would bill nothing."""
    meter = Meter("cost", billable=False)
    with pytest.raises(ConfigurationError, match="billable=False"):
        MeterKit(meters=[meter], plans=[Plan("pro", prices=[Price.per_unit(meter, "1")])])
