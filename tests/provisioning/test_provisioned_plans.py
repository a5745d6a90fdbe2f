"""Plans become products and prices in Stripe, once, and an old version stays for who has it."""

from __future__ import annotations

import pytest

from meterkit import Amounts, Meter, MeterKit, Plan, Price, Tier

CALLS = Meter("calls")
PRO = Plan(
    "pro",
    fee="20.00",
    prices=[Price.per_unit(CALLS, "0.01")],
    includes={CALLS: 10_000},
    currencies={"eur": Amounts(fee="18.00", prices=[Price.per_unit(CALLS, "0.02", currency="eur")])},
)
BASIC = Plan("basic", prices=[Price.per_unit(CALLS, "0.05")])


@pytest.fixture
def provisioned(stripe, tmp_path):
    """A function that provisions some plans; answers the kinds of its steps."""

    def provisioned(*plans, dry_run=False):
        kit = MeterKit(
            meters=[CALLS],
            plans=plans,
            data_dir=tmp_path / "meterkit",
            stripe_key=stripe.api_key,
            stripe_base=stripe.url,
        )
        try:
            return [(step.kind, step.what) for step in kit.provision(dry_run=dry_run).steps]
        finally:
            kit.close()

    return provisioned


def prices(api, **about):
    """The prices of the account by lookup key."""
    found = api.prices.list({"limit": 100, "expand": ["data.tiers"], **about}).data
    return {price.lookup_key: price for price in found}


def test_a_plan_becomes_products_and_prices(provisioned, api):
    """Its fee is licensed, and its included units are a first tier that is free."""
    provisioned(PRO, BASIC)
    found = prices(api)
    fee, usage = (found[key] for key in PRO.lookup_keys("eur"))

    assert {*PRO.lookup_keys(), *PRO.lookup_keys("eur"), *BASIC.lookup_keys()} == set(found)
    assert ("licensed", 1_800, "eur", "meterkit_plan_pro") == (
        fee.recurring.usage_type,
        fee.unit_amount,
        fee.currency,
        fee.product,
    )
    assert [(10_000, "0"), (None, "2")] == [(tier.up_to, str(tier.unit_amount_decimal)) for tier in usage.tiers]
    assert "Pro" == api.products.retrieve("meterkit_plan_pro").name


def test_done_twice_it_changes_nothing(provisioned, writes):
    """All is found again by its lookup key."""
    provisioned(PRO, BASIC)
    before = writes()
    again = provisioned(PRO, BASIC)

    assert {"unchanged"} == {kind for kind, _ in again}
    assert before == writes()


def test_an_amount_that_changes_leaves_the_old_price_as_it_is(provisioned, api):
    """Subscriptions to it go on, and what has stayed the same is no new price."""
    provisioned(PRO)
    before = prices(api)
    dearer = Plan("pro", fee="25.00", prices=PRO.prices, includes=PRO.includes, currencies=PRO.currencies)
    provisioned(dearer)
    after = prices(api, active=True)

    assert before.keys() < after.keys()
    assert {dearer.fee_in().lookup_key} == after.keys() - before.keys()


def test_two_plans_that_cost_the_same(provisioned, api):
    """Each has a price of its own, even if the account has one already that either could adopt."""
    meter = api.billing.meters.create(
        {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    by_hand = api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            "product_data": {"name": "Calls"},
        }
    )
    team = Plan("team", prices=BASIC.prices)
    provisioned(BASIC, team)
    found = prices(api)

    assert {*BASIC.lookup_keys(), *team.lookup_keys()} == set(found)
    assert by_hand.id == found[BASIC.lookup_keys()[0]].id


def test_an_archived_fee_is_active_again(provisioned, api):
    """With its product."""
    provisioned(PRO)
    fee = prices(api)[PRO.fee_in().lookup_key]
    api.prices.update(fee.id, {"active": False})
    api.products.update(fee.product, {"active": False})
    provisioned(PRO)

    assert (True, True) == (api.prices.retrieve(fee.id).active, api.products.retrieve(fee.product).active)


def test_a_lookup_key_on_another_price_is_drift(provisioned, api, writes):
    """Somebody has given the fee's key to a price that costs something else."""
    product = api.products.create({"name": "Other"})
    api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 1,
            "recurring": {"interval": "month"},
            "product": product.id,
            "lookup_key": PRO.fee_in().lookup_key,
        }
    )
    steps = provisioned(PRO)

    assert ("drift", "price") in steps
    assert PRO.fee_in("eur").lookup_key not in prices(api)


def test_tiers_begin_after_the_included_units(provisioned, api):
    """As the preview computes them."""
    tiers = (Tier(up_to=100, unit_price="5.00", flat_price="10.00"), Tier(unit_price="3.00"))
    plan = Plan("pro", prices=[Price.graduated(CALLS, *tiers)], includes={CALLS: 50})
    provisioned(plan)
    (price,) = prices(api).values()

    assert [(50, 0, None), (150, 500, 1_000), (None, 300, None)] == [
        (tier.up_to, tier.unit_amount, tier.flat_amount) for tier in price.tiers
    ]
