"""From what a Stripe account has to the code that says the same."""

from __future__ import annotations

import pytest
from test_provision import CALLS, GRADUATED, PRICES, kinds

from meterkit import Meter, Price
from meterkit.importing import code_of

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

    assert "# Left out: the meter counted: its formula is count" in code
    assert "# Left out: the meter hourly: it keeps one event for each hour" in code
    assert f"# Left out: the price {fixed.id}: it is not metered" in code


@pytest.mark.parametrize("name", [NASTY, "'''", "{1}", "kit", "123", "import", "é"])
def test_names_are_no_code(provision, client, name):
    """Whoever may write into the Stripe account may not write into the program."""
    provision(Price.per_unit(Meter(name), "1"))
    kit = run(code_of(client))

    assert [name] == list(kit.meters)
