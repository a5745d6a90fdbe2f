"""From what a Stripe account has to the code that says the same."""

from __future__ import annotations

from decimal import Decimal

import pytest
from test_provisioner import CALLS, GRADUATED, PRICES, kinds

from meterkit import Meter, Price
from meterkit.provisioning.code_generator import code_of

NASTY = 'a"; import os # \\'


def run(code):
    namespace = {}
    exec(compile(code, "billing.py", "exec"), namespace)
    return namespace["kit"]


def test_the_code_finds_nothing_to_do(provision, client):
    """It says what is there: provisioning it changes nothing."""
    egress = Price.per_unit(Meter("egress"), "0.05", lookup_key="my-own")
    provision(GRADUATED, *PRICES[2:], egress, Price.per_unit(Meter("class"), "1"))
    kit = run(code_of(client))

    assert ["calls", "egress", "class"] == list(kit.meters)
    assert {"unchanged"} == {step.kind for step in provision(*kit.prices, meters=kit.meters.values()).steps}


def test_prices_without_a_lookup_key_are_adopted(provision, client, api):
    """Those that somebody made by hand."""
    provision(meters=[CALLS])
    (meter,) = api.billing.meters.list().data
    api.prices.create(
        {
            "currency": "eur",
            "unit_amount_decimal": "0.5",
            "product_data": {"name": "x"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    kit = run(code_of(client))

    assert [("unchanged", "meter"), ("adopt", "price")] == kinds(provision(*kit.prices))
    assert ["0.005"] == [str(price.tiers[0].unit_price) for price in kit.prices]


def test_what_cannot_be_said_is_left_out_and_named(client, api):
    """With the reason, as a comment."""
    for name, how in {
        "counted": {"default_aggregation": {"formula": "count"}},
        "hourly": {"event_time_window": "hour"},
    }.items():
        api.billing.meters.create(
            {"display_name": "x", "event_name": name, "default_aggregation": {"formula": "sum"}, **how}
        )
    fixed = api.prices.create(
        {"currency": "usd", "unit_amount": 5, "product_data": {"name": "x"}, "recurring": {"interval": "month"}}
    )
    code = code_of(client)

    assert "# Left out: the meter 'counted': its formula is 'count', not 'sum'" in code
    assert "# Left out: the meter 'hourly': its event_time_window is 'hour', not None" in code
    assert f"# Left out: the price {fixed.id}: it is not metered" in code
    compile(code, "billing.py", "exec")


def made_by_hand(api, meter, *, every=1, **more):
    return api.prices.create(
        {
            "currency": "usd",
            "unit_amount": 5,
            "product_data": {"name": "x"},
            "recurring": {"interval": "month", "interval_count": every, "usage_type": "metered", "meter": meter.id},
            **more,
        }
    )


@pytest.mark.parametrize(("currency", "sent", "said"), [("ugx", 500, "5"), ("jpy", 5, "5"), ("kwd", 50, "0.05")])
def test_currencies_with_a_minor_unit_of_their_own(provision, client, api, currency, sent, said):
    provision(meters=[CALLS])
    (meter,) = api.billing.meters.list().data
    made_by_hand(api, meter, currency=currency, unit_amount=sent)
    (price,) = run(code_of(client)).prices

    assert (currency, Decimal(said)) == (price.currency, price.tiers[0].unit_price)


def test_prices_that_the_code_could_only_say_wrongly_are_left_out(provision, client, api):
    """A longer interval, amounts in further currencies, the same again."""
    provision(meters=[CALLS])
    (meter,) = api.billing.meters.list().data
    quarterly = made_by_hand(api, meter, every=3)
    in_euros = made_by_hand(api, meter, currency_options={"eur": {"unit_amount": 5}})
    twins = [made_by_hand(api, meter).id, made_by_hand(api, meter).id]
    code = code_of(client)

    assert f"# Left out: the price {quarterly.id}: it is billed every 3 months" in code
    assert f"# Left out: the price {in_euros.id}: it has amounts in several currencies: eur, usd" in code
    same = [f"# Left out: the price {twin}: another price of its meter costs the same" in code for twin in twins]
    assert [False, True] == sorted(same)
    assert ["0.05"] == [str(price.tiers[0].unit_price) for price in run(code).prices]


def test_two_prices_of_one_meter_get_keys_of_their_own(provision, client, api):
    """Of which the second is numbered."""
    provision(meters=[CALLS])
    (meter,) = api.billing.meters.list().data
    made_by_hand(api, meter)
    made_by_hand(api, meter, unit_amount=7)
    prices = run(code_of(client)).prices

    assert [None, "meterkit:calls:usd:month:2"] == [price.lookup_key for price in prices]
    assert [("unchanged", "meter"), ("adopt", "price"), ("adopt", "price")] == kinds(provision(*prices))


def test_a_meter_counts_nothing_until_somebody_has_said_what(provision, client):
    """A rule without a path would bill every request."""
    provision(meters=[CALLS])
    kit = run(code_of(client))

    assert [False] == [meter.path is None for meter in kit.meters.values()]


@pytest.mark.parametrize("name", [NASTY, "'''", "{1}", "kit", "123", "import", "é"])
def test_names_are_no_code(provision, client, name):
    """Whoever may write into the Stripe account may not write into the program."""
    provision(Price.per_unit(Meter(name), "1"))
    kit = run(code_of(client))

    assert [name] == list(kit.meters)


def test_a_meter_with_other_payload_keys(provision, client):
    """They are said in the code."""
    meter = Meter("calls", customer_key="who", value_key='to"kens')
    provision(Price.per_unit(meter, "1"), Price.per_unit(Meter("egress"), "1"))
    kit = run(code_of(client))

    assert [("who", 'to"kens'), ("stripe_customer_id", "value")] == [
        (each.customer_key, each.value_key) for each in kit.meters.values()
    ]
    assert {"unchanged"} == {step.kind for step in provision(*kit.prices, meters=kit.meters.values()).steps}
