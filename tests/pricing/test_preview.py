"""The next invoice as it stands: equal to the one that Stripe makes, to the cent."""

from __future__ import annotations

import sqlite3
from decimal import Decimal

import pytest
from followed_account import api, kit, make_following_kit, price, stripe  # noqa: F401 - fixtures
from thorough import first

from meterkit import ConfigurationError, Meter

DAY = 24 * 3600

TIERS = [{"up_to": 100, "unit_amount": 500}, {"up_to": 1000, "unit_amount": 300}, {"up_to": "inf", "unit_amount": 200}]
FLAT = [{"up_to": 1000, "unit_amount": 0, "flat_amount": 900}, {"up_to": "inf", "unit_amount_decimal": "3.6"}]
VOLUME = [{"up_to": 100, "unit_amount": 5}, {"up_to": "inf", "unit_amount_decimal": "4.5", "flat_amount": 1000}]

PRICES = {
    "per unit": {"unit_amount_decimal": "0.05"},
    "graduated": {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": TIERS},
    "flat fees": {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": FLAT},
    "volume": {"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": VOLUME},
    "package": {"unit_amount": 8, "transform_quantity": {"divide_by": 60, "round": "up"}},
    "yen": {"unit_amount": 3, "currency": "jpy"},
}


@pytest.fixture
def subscribe(api):
    """A function that makes prices and a customer acme with a subscription for them; answers both ids."""

    def make_price(number, name):
        if name == "licensed":
            recurring = {"interval": "month"}
            how = {"unit_amount": 2500}
        else:
            meter = api.billing.meters.create(
                {
                    "display_name": name,
                    "event_name": ["calls", "egress"][number],
                    "default_aggregation": {"formula": "sum"},
                }
            )
            recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
            how = PRICES[name]
        product = {"name": name}
        return api.prices.create({"currency": "usd", "product_data": product, "recurring": recurring, **how}).id

    def subscribe(*names):
        items = []
        for number, name in enumerate(names):
            price = make_price(min(number, 1), name)
            items.append({"price": price, **({"quantity": 3} if name == "licensed" else {})})
        customer = api.customers.create({"metadata": {"company": "acme"}}).id
        return customer, api.subscriptions.create({"customer": customer, "items": items}).id

    return subscribe


def lines(invoice):
    """Quantity and amount of each line, in whole currency."""
    decimals = 0 if invoice.currency == "jpy" else 2
    return sorted((line.quantity, Decimal(line.amount).scaleb(-decimals)) for line in invoice.lines.data)


@pytest.mark.parametrize("used", first([100, 9892], among=[0, 1, 100, 1031, 9892]))
@pytest.mark.parametrize(
    "names", [[name] for name in PRICES] + [["graduated", "package"], ["volume", "per unit"], ["graduated", "licensed"]]
)
def test_it_is_what_stripe_will_bill(make_following_kit, api, clock, stripe, subscribe, names, used):
    """Half of the usage is at Stripe, a part waits to be reported, and a part is in the journal still."""
    kit = make_following_kit()
    if len(names) > 1 and "licensed" not in names:
        kit.meters["egress"] = Meter("egress")
    customer, subscription = subscribe(*names)
    kit.sync()
    for meter in kit.meters:
        kit.record(meter, "acme", used // 2)
    clock.advance(3600)
    kit.report()
    for meter in kit.meters:
        kit.record(meter, "acme", used - used // 2)
    (preview,) = kit.preview("acme")
    clock.advance(3600)
    kit.report()
    upcoming = api.invoices.create_preview({"subscription": subscription})
    clock.advance(32 * DAY)
    cycle = [
        each for each in api.invoices.list({"customer": customer}).data if each.billing_reason == "subscription_cycle"
    ]

    assert lines(upcoming) == sorted((line.quantity, line.amount) for line in preview.lines)
    assert Decimal(upcoming.total).scaleb(-2 if preview.currency == "usd" else 0) == preview.total
    assert [upcoming.total] == [each.total for each in cycle] or used == 0


def test_a_period_has_only_its_own_usage(kit, api, clock, subscribe):
    """What was used in the last one is on another invoice."""
    subscribe("graduated")
    kit.sync()
    kit.record("calls", "acme", 40)
    clock.advance(40 * DAY)
    kit.sync()
    kit.record("calls", "acme", 2)
    (preview,) = kit.preview("acme")

    assert (Decimal("10.00"), [2]) == (preview.total, [line.quantity for line in preview.lines])


def test_what_was_rejected_is_not_on_it(kit, clock, stripe, subscribe):
    """Nor what was taken back."""
    customer, _ = subscribe("graduated")
    kit.sync()
    kit.record("calls", "acme", 40)
    clock.advance(3600)
    kit.link("acme", "cus_wrong")
    kit.report()
    kit.link("acme", customer)
    kit.record("calls", "acme", 3)

    (preview,) = kit.preview("acme")
    assert [3] == [line.quantity for line in preview.lines]


def test_who_pays_for_several_companies(kit, subscribe):
    """All of them are on the customer's one invoice."""
    customer, _ = subscribe("graduated")
    kit.sync()
    kit.link("globex", customer)
    kit.record("calls", "acme", 1)
    kit.record("calls", "globex", 2)
    kit.record("calls", customer, 4)
    kit.record("calls", "stranger", 8)

    assert [[7], [7], []] == [
        [line.quantity for preview in kit.preview(company) for line in preview.lines]
        for company in ("acme", customer, "stranger")
    ]


def test_it_says_what_it_assumes(kit, subscribe):
    """So that nobody is surprised by the invoice."""
    subscribe("graduated")
    kit.sync()
    (preview,) = kit.preview("acme")

    assert any("tax" in each and "credit" in each and "discount" in each for each in preview.assumed)


def test_a_price_that_cannot_be_computed(kit, api, subscribe):
    """It is named."""
    price = api.prices.create(
        {"currency": "usd", "product_data": {"name": "x"}, "unit_amount": 5, "recurring": {"interval": "month"}}
    )
    customer = api.customers.create({"metadata": {"company": "acme"}}).id
    api.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    kit.sync()
    with sqlite3.connect(kit._settings.data_dir / "ledger.sqlite") as connection:
        connection.execute("UPDATE meterkit_items SET price = replace(price, '\"5\"', 'null')")
    connection.close()

    with pytest.raises(ConfigurationError, match=price.id):
        kit.preview("acme")
