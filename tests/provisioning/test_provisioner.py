"""Stripe's meters, products and prices are made to match the code: once, in steps that can be repeated."""

from __future__ import annotations

import decimal

import pytest

from meterkit import ConfigurationError, Meter, Price, StripeFailedError, Tier

CALLS = Meter("calls")
GRADUATED = Price.graduated(
    CALLS,
    Tier(up_to=100, unit_price="5.00"),
    Tier(up_to=1_000, unit_price="3.00", flat_price="0"),
    Tier(unit_price="2.00", flat_price="10"),
)
PRICES = [
    GRADUATED,
    Price.per_unit(CALLS, "0.000000000001"),
    Price.per_unit(CALLS, "7", currency="jpy"),
    Price.per_unit(CALLS, "1.234", currency="kwd"),
    Price.volume(CALLS, Tier(up_to=10, unit_price="1"), Tier(unit_price="0.5"), interval="year"),
    Price.package(CALLS, "4.00", size=60, round="down", interval="week"),
]
KEY = "meterkit:calls:usd:month"


def kinds(plan):
    return [(step.kind, step.what) for step in plan.steps]


def price_of(api, key=KEY):
    (price,) = api.prices.list({"lookup_keys": [key], "expand": ["data.tiers"]}).data
    return price


@pytest.mark.parametrize("price", PRICES, ids=lambda price: f"{price.scheme}-{price.currency}")
def test_an_empty_account(provision, plan, writes, api, price):
    """Meter, product and price are made; after that there is nothing to do, and nothing is done."""
    made = provision(price)
    before = len(writes())
    again = provision(price)

    assert [("create", "meter"), ("create", "product"), ("create", "price")] == kinds(made)
    assert ["/v1/billing/meters", "/v1/products", "/v1/prices"] == writes()
    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(again)
    assert before == len(writes())


def test_what_stripe_gets(provision, api):
    """A sum without a time window, and tiers in cents."""
    provision(GRADUATED)
    (meter,) = api.billing.meters.list().data
    price = price_of(api)

    assert ("calls", "sum", None) == (meter.event_name, meter.default_aggregation.formula, meter.event_time_window)
    assert ("graduated", "metered", meter.id) == (price.tiers_mode, price.recurring.usage_type, price.recurring.meter)
    assert [(100, 500, None), (1000, 300, 0), (None, 200, 1000)] == [
        (tier.up_to, tier.unit_amount, tier.flat_amount) for tier in price.tiers
    ]
    assert ("meterkit_calls", "Calls") == (price.product, api.products.retrieve(price.product).name)


def test_amounts_are_exact(provision, plan, api):
    """Whatever precision the application has set for its own arithmetic."""
    price = Price.per_unit(CALLS, "12.3456")
    with decimal.localcontext(decimal.Context(prec=3)):
        provision(price)
        again = plan(price)

    assert "1234.56" == str(price_of(api).unit_amount_decimal)
    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(again)


def test_a_plan_changes_nothing(plan, writes):
    """It only reads."""
    assert 3 == len(plan(GRADUATED).changes)
    assert [] == writes()


def test_a_tier_that_changes_makes_a_new_price(provision, api):
    """It gets the lookup key; the old one, which nobody has, is archived."""
    provision(GRADUATED)
    old = price_of(api)
    changed = provision(Price.graduated(CALLS, Tier(up_to=100, unit_price="6.00"), Tier(unit_price="2.00")))
    new, then = price_of(api), api.prices.retrieve(old.id)

    assert [("unchanged", "meter"), ("unchanged", "product"), ("change", "price"), ("change", "price")] == kinds(
        changed
    )
    assert (600, "meterkit_calls") == (new.tiers[0].unit_amount, new.product)
    assert (None, False) == (then.lookup_key, then.active)


def test_there_and_back_again(provision, plan, api):
    """Within a day, in which Stripe remembers Idempotency-Keys: each change is a request of its own."""
    cheap, dear = Price.per_unit(CALLS, "1"), Price.per_unit(CALLS, "2")
    for price in (cheap, dear, cheap, dear):
        provision(price)
        assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(price))

    assert 200 == price_of(api).unit_amount


def test_equal_amounts_are_equal(provision, plan):
    """However they are written."""
    provision(Price.per_unit(CALLS, "5"))

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(Price.per_unit(CALLS, "5.000")))


def test_a_flat_price_of_nothing_is_not_none(provision, plan):
    """It makes a line on the invoice."""
    provision(Price.graduated(CALLS, Tier(unit_price="1")))

    assert ("change", "price") in kinds(plan(Price.graduated(CALLS, Tier(unit_price="1", flat_price="0"))))


@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        ({"default_aggregation": {"formula": "count"}}, "formula is 'count'"),
        ({"default_aggregation": {"formula": "last"}}, "formula is 'last'"),
        ({"event_time_window": "hour"}, "event_time_window is 'hour'"),
        (
            {"customer_mapping": {"type": "by_id", "event_payload_key": "who"}, "event_time_window": "day"},
            "customer key is 'who'",
        ),
    ],
)
def test_a_meter_that_cannot_be_changed_is_drift(provision, api, writes, how, wrong):
    """Nothing that hangs on it is touched, the choices are named, and other meters go on."""
    meter = {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}, **how}
    api.billing.meters.create(meter)
    before = len(writes())
    plan = provision(GRADUATED, Price.per_unit(Meter("egress"), "1"))

    (drift,) = plan.drift
    assert wrong in drift.why
    assert 2 == len(drift.choices)
    assert ["/v1/billing/meters", "/v1/products", "/v1/prices"] == writes()[before:]
    assert {"egress"} == {
        each.event_name for each in api.billing.meters.list().data if each.default_aggregation.formula == "sum"
    } - ({"calls"} if "default_aggregation" not in how else set())


def test_what_was_archived_is_taken_up_again(provision, plan, api):
    """A meter, a product and a price."""
    provision(GRADUATED)
    (meter,) = api.billing.meters.list().data
    price = price_of(api)
    api.prices.update(price.id, {"active": False})
    api.products.update(price.product, {"active": False})
    api.billing.meters.deactivate(meter.id)
    changed = provision(GRADUATED)

    assert [("change", "meter"), ("change", "product"), ("change", "price")] == kinds(changed)
    assert ("active", True, True) == (
        api.billing.meters.retrieve(meter.id).status,
        api.products.retrieve(price.product).active,
        price_of(api).active,
    )


def test_a_price_that_is_there_is_adopted(provision, plan, api):
    """It costs the same, and nobody has named it: it gets the lookup key, and no second one is made."""
    meter = api.billing.meters.create(
        {"display_name": "x", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )
    there = api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "product_data": {"name": "x"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    adopted = provision(Price.per_unit(CALLS, "0.05"))

    assert [("unchanged", "meter"), ("adopt", "price")] == kinds(adopted)
    assert there.id == price_of(api).id
    assert 1 == len(api.prices.list().data)


@pytest.mark.parametrize("path", ["/v1/billing/meters", "/v1/products", "/v1/prices"])
@pytest.mark.parametrize("fault", ["502_after", "reset_before", "reset_after"])
def test_what_was_broken_off_is_continued(stripe, provision, plan, api, path, fault):
    """Whether Stripe had done it or not: the next run ends with one of each."""
    reads = {"/v1/billing/meters": 1, "/v1/products": 0, "/v1/prices": 1}[path]
    stripe.fail(fault, path=path, after=reads)
    with pytest.raises(StripeFailedError, match="run it again"):
        provision(GRADUATED)
    provision(GRADUATED)

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(GRADUATED))
    assert [1, 1, 1] == [len(found.list().data) for found in (api.billing.meters, api.products, api.prices)]


@pytest.mark.parametrize("path", ["/v1/billing/meters", "/v1/products", "/v1/prices"])
@pytest.mark.parametrize("fault", ["500", "500_after"])
def test_an_error_that_stripe_remembers(stripe, provision, plan, api, path, fault):
    """It would repeat it for a day under the same key; and what was made all the same is found."""
    reads = {"/v1/billing/meters": 1, "/v1/products": 0, "/v1/prices": 1}[path]
    stripe.fail(fault, path=path, after=reads)
    provision(GRADUATED)

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(GRADUATED))
    assert [1, 1, 1] == [len(found.list().data) for found in (api.billing.meters, api.products, api.prices)]


def test_many_errors_that_stripe_remembers(stripe, provision, plan):
    """A bad hour of Stripe's is over when it is over, and not a day later."""
    stripe.fail("500", path="/v1/products", times=3)
    with pytest.raises(StripeFailedError, match="create product meterkit_calls: 500"):
        provision(GRADUATED)
    provision(GRADUATED)

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(GRADUATED))


def test_a_new_price_is_made_once(stripe, provision, api):
    """It takes the lookup key over, so nothing at Stripe would be in the way of a second one."""
    provision(GRADUATED)
    stripe.fail("500_after", path="/v1/prices", after=2)
    provision(Price.per_unit(CALLS, "1"))

    assert 2 == len(api.prices.list().data)


def test_what_stripe_remembers_may_be_gone(provision, plan, api):
    """Its answer of an hour ago is no proof that the price is there now."""
    provision(GRADUATED)
    api.prices.update(price_of(api).id, {"lookup_key": "mine", "active": False})
    provision(GRADUATED)

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(GRADUATED))


def test_a_refusal_that_stripe_remembers(provision, plan, apply, api):
    """What was in the way is out of it, and the request goes through."""
    taken = Price.per_unit(CALLS, "1", lookup_key="taken")
    stale = plan(taken)
    inline = {"currency": "usd", "unit_amount": 5, "product_data": {"name": "x"}}
    there = api.prices.create({**inline, "lookup_key": "taken"})
    with pytest.raises(StripeFailedError, match="already uses that lookup key"):
        apply(stale)
    api.prices.update(there.id, {"lookup_key": ""})
    provision(taken)

    assert [("unchanged", "meter"), ("unchanged", "price")] == kinds(plan(taken))


def test_two_runs_at_once(plan, apply, api):
    """Both have seen an empty account; one of each is made, and what the later one wants is found to be there."""
    first, second = plan(GRADUATED), plan(GRADUATED)
    apply(first)
    apply(second)

    assert [1, 1, 1] == [len(found.list().data) for found in (api.billing.meters, api.products, api.prices)]


def test_two_runs_at_once_that_disagree(plan, apply, provision, api):
    """The later one is refused the lookup key, and plans anew."""
    other = Price.per_unit(CALLS, "1")
    first, second = plan(GRADUATED), plan(other)
    apply(first)
    with pytest.raises(StripeFailedError, match=r"already uses that lookup key.*run it again"):
        apply(second)

    assert [1, 1, 1] == [len(found.list().data) for found in (api.billing.meters, api.products, api.prices)]
    assert ("change", "price") in kinds(provision(other))


def test_two_prices_of_one_meter(provision, plan):
    """Each needs a lookup key of its own."""
    free = Price.per_unit(CALLS, "0", lookup_key="calls-free")
    with pytest.raises(ConfigurationError, match="lookup_key="):
        plan(GRADUATED, Price.per_unit(CALLS, "1"))
    provision(GRADUATED, free)

    assert [("unchanged", "meter"), ("unchanged", "price"), ("unchanged", "price")] == kinds(plan(GRADUATED, free))


def test_many_prices(provision, plan, api):
    """More than Stripe takes in one question, and more than one page."""
    prices = [Price.per_unit(CALLS, str(number), lookup_key=f"calls-{number}") for number in range(1, 105)]
    provision(*prices)

    assert {"unchanged"} == {step.kind for step in plan(*prices).steps}


def test_a_name_that_is_no_id(provision, plan, api):
    """An event name may be anything; the product's id may not."""
    odd = Price.per_unit(Meter("Größe in m²"), "1")
    provision(odd)

    assert {"unchanged"} == {step.kind for step in plan(odd).steps}
    assert price_of(api, "meterkit:Größe in m²:usd:month").product.isascii()


def test_a_meter_without_a_price(provision, api):
    """It is made, and no product."""
    provision(meters=[CALLS])

    assert (["calls"], []) == ([meter.event_name for meter in api.billing.meters.list().data], api.products.list().data)


def test_a_meter_with_other_payload_keys(provision, api, writes):
    """The code can say them, and the choices tell how; then there is nothing to do."""
    api.billing.meters.create(
        {
            "display_name": "x",
            "event_name": "calls",
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "who"},
            "value_settings": {"event_payload_key": "tokens"},
        }
    )
    (drift,) = provision(meters=[CALLS]).drift
    before = len(writes())
    plan = provision(meters=[Meter("calls", customer_key="who", value_key="tokens")])

    assert "give the meter customer_key='who', value_key='tokens' in the code" == drift.choices[0]
    assert [("unchanged", "meter")] == kinds(plan)
    assert before == len(writes())


def test_a_new_meter_is_made_with_its_payload_keys(provision, api):
    """For a program of one's own that sends such events, too."""
    provision(meters=[Meter("calls", customer_key="who", value_key="tokens")])
    (meter,) = api.billing.meters.list().data

    assert ("who", "tokens") == (meter.customer_mapping.event_payload_key, meter.value_settings.event_payload_key)
