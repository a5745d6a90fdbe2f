"""What companies bring in: at the prices of their subscriptions, with fees, less discounts, as Stripe has them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import pytest
from followed_account import api, make_following_kit, stripe  # noqa: F401 - fixtures

from meterkit import Cost, Meter, MeterKit, Price
from meterkit.margin.revenue import shares
from meterkit.pricing.price import EXACT

DAY = 24 * 3600
CALLS = Meter("calls")
COSTS = [Cost.per_unit(CALLS, "0.10")]


@pytest.fixture
def kit(make_following_kit: Callable[..., MeterKit]) -> MeterKit:
    return make_following_kit(costs=COSTS, customer_ids=False)


@pytest.fixture
def make_price(api: Any) -> Callable[..., str]:
    """Makes a metered price of ``calls``, or with an interval, a fee."""
    made = api.billing.meters.create(
        {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
    )

    def make(amount: int, interval: str | None = None) -> str:
        recurring = {"interval": interval or "month"}
        if interval is None:
            recurring |= {"usage_type": "metered", "meter": made.id}
        product = {"name": f"{interval}"}
        how = {"currency": "usd", "unit_amount": amount, "recurring": recurring, "product_data": product}
        return str(api.prices.create(how).id)

    return make


@pytest.fixture
def subscribe(api: Any) -> Callable[..., str]:
    """Makes a customer that pays for a company, with subscriptions to prices."""

    def make(company: str, *prices: str, **options: Any) -> str:
        customer = str(api.customers.create({"metadata": {"company": company}}).id)
        for price in prices:
            api.subscriptions.create({"customer": customer, "items": [{"price": price}], **options})
        return customer

    return make


def row(kit: MeterKit, company: str = "acme", **options: Any) -> Any:
    (found,) = (each for each in kit.margin(**options).rows if each.company == company)
    return found


def test_the_price_of_the_subscription(kit: MeterKit, make_price: Any, subscribe: Any) -> None:
    """It counts, and no price of the kit."""
    subscribe("acme", make_price(50))
    kit.sync()
    kit.record("calls", "acme", 10)

    assert (Decimal(5), Decimal(1), Decimal(4)) == (row(kit).revenue, row(kit).cost, row(kit).margin)


@pytest.mark.parametrize(
    ("interval", "fee"), [("month", "12"), ("year", "1"), ("week", "53.142857142857"), ("day", "372")]
)
def test_a_fee_counts_with_its_share_of_a_month(
    kit: MeterKit, make_price: Any, subscribe: Any, interval: str, fee: str
) -> None:
    """Of a year's, a twelfth; of a week's, by the days of March."""
    subscribe("acme", make_price(50), make_price(1200, interval))
    kit.sync()
    kit.record("calls", "acme", 10)

    assert (Decimal(fee), Decimal(fee) + 5) == (row(kit).fees, row(kit).revenue)
    assert Decimal(5) == kit.margin(by="meter").rows[0].revenue


def test_a_company_that_only_pays_a_fee(kit: MeterKit, make_price: Any, subscribe: Any) -> None:
    """It has used nothing, and brings in its fee."""
    subscribe("acme", make_price(1200, "month"))
    kit.sync()

    assert (Decimal(12), Decimal(0)) == (row(kit).revenue, row(kit).cost)


def test_a_fee_of_a_later_subscription(kit: MeterKit, make_price: Any, subscribe: Any, clock: Any) -> None:
    """It is no revenue of the months before."""
    kit.record("calls", "acme", 10)
    kit.flush()
    clock.advance(40 * DAY)
    subscribe("acme", make_price(50), make_price(1200, "month"))
    kit.sync()

    assert (Decimal(5), Decimal(0)) == (row(kit, month="2026-03").revenue, row(kit, month="2026-03").fees)


def test_a_discount(kit: MeterKit, make_price: Any, subscribe: Any, api: Any) -> None:
    """It is taken off usage and fees."""
    coupon = api.coupons.create({"percent_off": 25, "duration": "forever"}).id
    subscribe("acme", make_price(50), make_price(1200, "month"), discounts=[{"coupon": coupon}])
    kit.sync()
    kit.record("calls", "acme", 10)

    assert (Decimal("4.25"), Decimal("12.75")) == (row(kit).discount, row(kit).revenue)


def test_a_trial(kit: MeterKit, make_price: Any, subscribe: Any, clock: Any) -> None:
    """Usage in it is free, which is said: the company is expected to lose money."""
    subscribe("acme", make_price(50), trial_end=int(clock()) + 60 * DAY)
    kit.sync()
    kit.record("calls", "acme", 10)
    now = row(kit)
    clock.advance(40 * DAY)

    assert (Decimal(0), Decimal(-1)) == (now.revenue, now.margin)
    assert "the trial lasts until" in now.notes[0]
    assert ("in a trial",) == row(kit, month="2026-03").notes


def test_a_customer_that_pays_for_several(
    kit: MeterKit,
    make_price: Any,
    subscribe: Any,
    api: Any,
) -> None:
    """Tiers are reached by all of them together; each has its share, and they add up to what is paid."""
    customer = subscribe("acme", make_price(50), make_price(1200, "month"))
    kit.sync()
    kit.link("globex", customer)
    kit.record("calls", "acme", 10)
    kit.record("calls", "globex", 20)
    acme, globex = row(kit), row(kit, "globex")

    assert (Decimal(11), Decimal(16)) == (acme.revenue, globex.revenue)
    assert ("fees and discounts shared among 2 companies of one payer",) == acme.notes


def test_a_price_that_cannot_be_computed(kit: MeterKit, make_price: Any, subscribe: Any) -> None:
    """The margin cannot be told, and the company is in no total."""
    subscribe("acme", make_price(50))
    kit.sync()
    kit.record("calls", "acme", 10)
    kit.flush()
    with kit.process().database().transaction() as connection:
        connection.exec_driver_sql("""UPDATE meterkit_items SET price = replace(price, '"50"', 'null')""")
    found = kit.margin()

    assert [None] == [each.margin for each in found.rows]
    assert "1 company is in no total (acme): what they owe cannot be told" in found.attention
    assert () == found.totals


@pytest.mark.parametrize("bill", ["amount", "lines"])
def test_a_price_by_value(make_kit: Callable[..., MeterKit], stripe: Any, bill: Any) -> None:
    """It brings in what its usage was rated at, whichever way that reaches Stripe."""
    tokens = Meter("tokens", http=False, by="model")
    price = Price.by(tokens, "model", {"small": "0.001", "large": "0.05"}, bill=bill)
    kit = make_kit(
        tokens,
        prices=[price],
        costs=[Cost.by(tokens, "model", {"*": "0.02"})],
        customer_ids=False,
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
    )
    kit.provision()
    kit.subscribe("acme")
    kit.sync()
    for model, quantity in (("small", 1000), ("large", 100)):
        kit.record("tokens", "acme", quantity, dimensions={"model": model})
    by_model = {each.value: each.margin for each in kit.margin(by="model").rows}

    assert (Decimal(6), Decimal(22), ()) == (row(kit).revenue, row(kit).cost, row(kit).notes)
    assert {"small": Decimal(-19), "large": Decimal(3)} == by_model


def test_shares_add_up() -> None:
    """Also those of thirds."""
    with localcontext(EXACT):
        assert Decimal(10) == sum(shares(Decimal(10), [1, 1, 1]))
    assert [Decimal(5), Decimal(5)] == shares(Decimal(10), [0, 0])
