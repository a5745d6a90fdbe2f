"""A price that changes in the code: what takes its place, what becomes of the old one, and what nobody touches."""

from __future__ import annotations

from decimal import Decimal

import pytest
from test_provisioner import CALLS, KEY, kinds, price_of

from meterkit import Price, StripeFailedError

CHEAP, DEAR = Price.per_unit(CALLS, "1"), Price.per_unit(CALLS, "2")
UNCHANGED = [("unchanged", "meter"), ("unchanged", "price")]


@pytest.fixture
def meter(api):
    """A meter that somebody has made."""
    return api.billing.meters.create(
        {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )


def by_hand(api, meter, *, interval_count=1, interval="month", **how):
    """A price that somebody has made, for a dollar a unit unless told otherwise."""
    recurring = {"interval": interval, "interval_count": interval_count}
    if meter is not None:
        recurring |= {"usage_type": "metered", "meter": meter.id}
    product = api.products.create({"name": "Credit score", "unit_label": "query"})
    return api.prices.create(
        {"currency": "usd", "unit_amount": 100, "product": product.id, "recurring": recurring, **how}
    )


def subscribe(api, price):
    customer = api.customers.create({"name": "Acme"})
    return api.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})


def test_who_has_subscribed_keeps_the_old_price(provision, plan, api):
    """It stays for sale, which the plan says, and a second run changes nothing."""
    provision(CHEAP)
    old = price_of(api)
    subscribe(api, old)
    changed = provision(DEAR)
    (again,) = [step for step in plan(DEAR).steps if step.what == "price"]

    assert [
        (
            f"subscriptions on {old.id} keep it until you move them",
            f"{old.id} stays active, because subscriptions use it",
        )
    ] == [step.choices for step in changed.steps if step.choices]
    assert (True, None) == (api.prices.retrieve(old.id).active, api.prices.retrieve(old.id).lookup_key)
    assert ("unchanged", f"{old.id} stays active, because subscriptions use it") == (again.kind, again.why)


def test_when_the_last_one_has_left(provision, plan, api):
    """The next run archives the old price, and the one before that."""
    provision(CHEAP)
    olds = [price_of(api)]
    subscriptions = [subscribe(api, olds[0])]
    provision(DEAR)
    olds.append(price_of(api))
    subscriptions.append(subscribe(api, olds[1]))
    provision(Price.per_unit(CALLS, "3"))
    for subscription in subscriptions:
        api.subscriptions.cancel(subscription.id)
    provision(Price.per_unit(CALLS, "3"))

    assert [False, False, True] == [api.prices.retrieve(each.id).active for each in [*olds, price_of(api)]]
    assert UNCHANGED == kinds(plan(Price.per_unit(CALLS, "3")))


def test_a_change_that_is_broken_off(stripe, provision, plan, api):
    """The new price is made, the old one is not archived: the next run does that."""
    provision(CHEAP)
    old = price_of(api)
    stripe.fail("reset_before", path=f"/v1/prices/{old.id}")
    with pytest.raises(StripeFailedError, match="run it again"):
        provision(DEAR)
    changed = provision(DEAR)

    assert [("change", "price")] == [kind for kind in kinds(changed) if kind[0] != "unchanged"]
    assert ([200], [old.id]) == (
        [each.unit_amount for each in api.prices.list({"active": True}).data],
        [each.id for each in api.prices.list({"active": False}).data],
    )
    assert UNCHANGED == kinds(plan(DEAR))


def test_a_replaced_price_that_a_human_sells_again(provision, plan, api):
    """That was meant: it is not archived again."""
    provision(CHEAP)
    old = price_of(api)
    provision(DEAR)
    api.prices.update(old.id, {"active": True})

    assert UNCHANGED == kinds(plan(DEAR))


def test_a_default_price_stays_for_sale(provision, plan, meter, api):
    """Stripe archives no price that is its product's default."""
    old = by_hand(api, meter, lookup_key=KEY)
    api.products.update(old.product, {"default_price": old.id})
    provision(DEAR)

    assert api.prices.retrieve(old.id).active
    assert f"{old.id} stays active, because it is the default price of {old.product}" == plan(DEAR).steps[1].why


def test_what_was_said_of_the_old_price_is_said_of_the_new(provision, meter, api):
    """Its product, how it is taxed, and what somebody wrote on it."""
    about = {"nickname": "Basic", "tax_behavior": "exclusive", "metadata": {"plan": "basic"}}
    old = by_hand(api, meter, lookup_key=KEY, **about)
    provision(DEAR)
    new = price_of(api)

    assert (200, old.product, "Basic", "exclusive", "basic") == (
        new.unit_amount,
        new.product,
        new.nickname,
        new.tax_behavior,
        new.metadata["plan"],
    )
    assert [old.product] == [product.id for product in api.products.list().data]


def test_further_prices_join_the_product_that_is_there(provision, meter, api):
    """An account that was set up by hand gets no second product."""
    there = by_hand(api, meter)
    provision(CHEAP, Price.per_unit(CALLS, "1", currency="eur"))

    assert [there.product] == [product.id for product in api.products.list().data]
    assert there.product == price_of(api, "meterkit:calls:eur:month").product


def test_an_archived_product_is_sold_again(provision, plan, api):
    """Although its price is as it should be."""
    provision(CHEAP)
    api.products.update("meterkit_calls", {"active": False})
    changed = provision(CHEAP)

    assert [("unchanged", "meter"), ("change", "product"), ("unchanged", "price")] == kinds(changed)
    assert UNCHANGED == kinds(plan(CHEAP))


@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        ({"interval": "year"}, "is billed every 1 year, not every month"),
        ({"interval_count": 3}, "is billed every 3 month, not every month"),
        ({"currency": "eur"}, "is in eur, not usd"),
        ({"meter": None}, "is not metered"),
        ({"meter": "other"}, "belongs to the meter 'other'"),
        ({"currency_options": {"eur": {"unit_amount": 90}}}, "has amounts in other currencies"),
    ],
)
def test_a_price_that_cannot_be_changed_is_drift(provision, writes, meter, api, how, wrong):
    """Its lookup key is not taken from it, and nothing of its meter is touched."""
    if how.get("meter") == "other":
        how["meter"] = api.billing.meters.create(
            {"display_name": "x", "event_name": "other", "default_aggregation": {"formula": "sum"}}
        )
    held = by_hand(api, **{"meter": meter, "lookup_key": KEY, **how})
    before = len(writes())
    plan = provision(DEAR, Price.per_unit(CALLS, "1", currency="gbp"))

    (drift,) = plan.drift
    assert f"{held.id} has the lookup key, but {wrong}" in drift.why
    assert 2 == len(drift.choices)
    assert before == len(writes())


def test_a_price_in_further_currencies_that_costs_the_same(provision, meter, api):
    """It is as the code says, as far as that says anything."""
    by_hand(api, meter, lookup_key=KEY, currency_options={"eur": {"unit_amount": 90}})

    assert UNCHANGED == kinds(provision(CHEAP))


def test_a_meter_that_was_deactivated_for_its_formula(provision, plan, api):
    """It is history: a new one is made, and what is sold from now on is fed by that."""
    counted = api.billing.meters.create(
        {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "count"}}
    )
    old = by_hand(api, counted, lookup_key=KEY)
    api.billing.meters.deactivate(counted.id)
    changed = provision(CHEAP)

    assert [("create", "meter"), ("unchanged", "product"), ("change", "price"), ("change", "price")] == kinds(changed)
    assert "if Stripe says that the name is taken, give the meter another event_name=" in changed.steps[0].choices[0]
    assert f"they are billed by {counted.id}, which no longer receives usage" in changed.steps[2].choices[0]
    assert (False, "sum") == (
        api.prices.retrieve(old.id).active,
        api.billing.meters.retrieve(price_of(api).recurring.meter).default_aggregation.formula,
    )
    assert UNCHANGED == kinds(plan(CHEAP))


def test_a_price_with_a_lookup_key_of_somebodys(provision, meter, api):
    """It is not taken; the plan says how to sell that one."""
    there = by_hand(api, meter, lookup_key="gold")
    (step,) = [step for step in provision(CHEAP).steps if step.what == "price"]

    assert ("create", f"{there.id} costs the same; to use that one, set lookup_key='gold'") == (step.kind, step.why)
    assert "gold" == api.prices.retrieve(there.id).lookup_key


@pytest.mark.parametrize(
    ("currency", "amount", "sent"), [("ugx", "5", 500), ("isk", "5", 500), ("jpy", "5", 5), ("kwd", "0.05", 50)]
)
def test_currencies_with_a_minor_unit_of_their_own(provision, api, currency, amount, sent):
    """Stripe: amounts in UGX and ISK have two decimals, which must be 0 when they are charged."""
    price = Price.per_unit(CALLS, amount, currency=currency)
    provision(price)
    (there,) = api.prices.list().data

    assert (currency, sent) == (there.currency, Decimal(there.unit_amount_decimal))
    assert ["unchanged"] == sorted({step.kind for step in provision(price).steps})
