"""Coupons, promotion codes, and what they take off invoices."""

from __future__ import annotations

import httpx
import pytest
import stripe
from guard import GUARD
from sandbox_shop import APRIL, DAY, HOUR, START, day, refused

pytestmark = pytest.mark.long


@pytest.fixture
def coupon(shop):
    def make(**params):
        return shop.v1.coupons.create({"duration": "forever", **params})

    return make


@pytest.fixture
def gold(shop):
    """10.00 a month."""
    return shop.price(unit_amount=1000, product=shop.product(name="Gold", unit_label=None).id)


@pytest.fixture
def calls(shop):
    """1.00 a call."""
    return shop.price(shop.meter(), unit_amount=100)


def totals(shop, customer):
    """The totals of a customer's invoices, oldest first."""
    return [each.total for each in reversed(shop.invoices(customer))]


def subscribe(shop, customer, *prices, **params):
    return shop.subscribe(customer, *prices, **params)


def test_a_percentage_comes_off_every_line(shop, sandbox, coupon, gold, calls):
    """Lines keep their amounts; what comes off stands beside them and adds up."""
    customer = shop.customer()
    quarter = coupon(percent_off=25)
    subscription = subscribe(shop, customer, gold, calls, discounts=[{"coupon": quarter.id}])
    shop.send(customer, 3)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)
    invoice = shop.invoices(customer)[0]

    (discount,) = subscription.discounts
    assert totals(shop, customer) == [750, 975]
    assert (invoice.subtotal, invoice.total, invoice.amount_paid, preview.total) == (1300, 975, 975, 975)
    assert invoice.discounts == [discount]
    assert [each.to_dict() for each in invoice.total_discount_amounts] == [{"amount": 325, "discount": discount}]
    assert [(line.amount, line.subtotal, line.discount_amounts[0].amount) for line in invoice.lines.data] == [
        (300, 300, 75),
        (1000, 1000, 250),
    ]
    assert [(each.amount, each.type, each.discount) for each in invoice.total_pretax_credit_amounts] == [
        (75, "discount", discount),
        (250, "discount", discount),
    ]


def test_a_whole_discount_leaves_nothing_to_pay(shop, sandbox, coupon, calls):
    """100 % off: the invoice is paid with 0."""
    customer = shop.customer()
    subscribe(shop, customer, calls, discounts=[{"coupon": coupon(percent_off=100).id}])
    shop.send(customer, 60)
    sandbox.advance(to=APRIL + HOUR)

    (invoice,) = shop.invoices(customer)
    assert (invoice.subtotal, invoice.total, invoice.amount_due, invoice.status) == (6000, 0, 0, "paid")


def test_an_amount_is_spread_over_the_lines(shop, sandbox, coupon, gold, calls):
    """In proportion, to the cent, and never more than there is."""
    customer = shop.customer()
    subscribe(shop, customer, gold, calls, discounts=[{"coupon": coupon(amount_off=1000, currency="usd").id}])
    shop.send(customer, 5)
    sandbox.advance(to=APRIL + HOUR)

    assert totals(shop, customer) == [0, 500]
    assert [line.discount_amounts[0].amount for line in shop.invoices(customer)[0].lines.data] == [333, 667]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"duration": "once"}, [500, 1000, 1000, 1000]),
        ({"duration": "repeating", "duration_in_months": 2}, [500, 500, 1000, 1000]),
        ({"duration": "forever"}, [500, 500, 500, 500]),
    ],
)
def test_a_discount_lasts(shop, sandbox, coupon, gold, params, found):
    """For one invoice, for some months or for ever."""
    customer = shop.customer()
    half = coupon(percent_off=50, **params)
    subscription = subscribe(shop, customer, gold, discounts=[{"coupon": half.id}])
    sandbox.advance(to=day(6, 1) + HOUR)

    assert totals(shop, customer) == found
    assert len(shop.v1.subscriptions.retrieve(subscription.id).discounts) == (params["duration"] != "once")


def test_a_discount_that_applies_once_waits_for_something_to_pay(shop, sandbox, coupon, gold):
    """The invoice of 0 of a trial does not use it up."""
    customer = shop.customer()
    subscribe(shop, customer, gold, trial_end=APRIL, discounts=[{"coupon": coupon(percent_off=50, duration="once").id}])
    sandbox.advance(to=day(5, 1) + HOUR)

    assert totals(shop, customer) == [0, 500, 1000]


def test_an_item_has_a_discount_of_its_own(shop, sandbox, coupon, gold, calls):
    """It comes first and lowers the subtotal; that of the subscription comes off the rest."""
    customer = shop.customer()
    half, tenth = coupon(percent_off=50), coupon(percent_off=10)
    subscription = shop.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": gold.id, "discounts": [{"coupon": half.id}]}, {"price": calls.id}],
            "discounts": [{"coupon": tenth.id}],
        }
    )
    shop.send(customer, 10)
    sandbox.advance(to=APRIL + HOUR)

    invoice = shop.invoices(customer)[0]
    (own,), (whole,) = subscription.items.data[0].discounts, subscription.discounts
    assert (invoice.subtotal, invoice.total) == (1500, 1350)
    assert [[(each.discount, each.amount) for each in line.discount_amounts] for line in invoice.lines.data] == [
        [(whole, 100)],
        [(own, 500), (whole, 50)],
    ]
    assert [each.to_dict() for each in invoice.total_discount_amounts] == [
        {"amount": 500, "discount": own},
        {"amount": 150, "discount": whole},
    ]


def test_a_coupon_for_products_covers_their_lines_only(shop, sandbox, coupon, gold, calls):
    """Not those of other products, nor an amount without a product."""
    customer = shop.customer()
    only = coupon(percent_off=50, applies_to={"products": [calls.product]})
    subscribe(shop, customer, gold, calls, discounts=[{"coupon": only.id}])
    shop.send(customer, 10)
    shop.v1.invoice_items.create({"customer": customer.id, "amount": 70, "currency": "usd"})
    sandbox.advance(to=APRIL + HOUR)

    assert totals(shop, customer) == [1000, 1000 + 500 + 70]


def test_an_amount_may_be_left_out_of_discounts(shop, sandbox, coupon, gold):
    """`discountable`; a credit is by itself."""
    customer = shop.customer()
    subscribe(shop, customer, gold, discounts=[{"coupon": coupon(percent_off=50).id}])
    for amount, params in [(300, {}), (70, {"discountable": False}), (-200, {})]:
        shop.v1.invoice_items.create({"customer": customer.id, "amount": amount, "currency": "usd", **params})
    sandbox.advance(to=APRIL + HOUR)

    assert totals(shop, customer)[-1] == 500 + 150 + 70 - 200


def test_a_customers_discount_applies_where_the_subscription_has_none(shop, sandbox, coupon, gold):
    """As the Dashboard gives it."""
    customer, other = shop.customer(), shop.customer()
    half, tenth = coupon(percent_off=50), coupon(percent_off=10)
    for each in (customer, other):
        sandbox.discount(each.id, half.id)
    subscribe(shop, customer, gold)
    subscribe(shop, other, gold, discounts=[{"coupon": tenth.id}])

    assert shop.v1.customers.retrieve(customer.id).discount.source.coupon == half.id
    assert (totals(shop, customer), totals(shop, other)) == ([500], [900])
    shop.v1.customers.delete_discount(customer.id)
    assert shop.v1.customers.retrieve(customer.id).discount is None
    posted = httpx.post(
        f"{sandbox.url}/_sandbox/discounts", json={"customer": customer.id, "coupon": tenth.id}, timeout=GUARD
    )
    assert (posted.status_code, shop.v1.customers.retrieve(customer.id).discount.source.coupon) == (200, tenth.id)
    with pytest.raises(ValueError, match="No such coupon"):
        sandbox.discount(customer.id, "none")


def test_discounts_are_changed(shop, sandbox, coupon, gold):
    """Kept by id, added, removed one by one or all."""
    customer = shop.customer()
    half, tenth = coupon(percent_off=50), coupon(percent_off=10)
    subscription = subscribe(shop, customer, gold, discounts=[{"coupon": half.id}])
    update = shop.v1.subscriptions.update
    (first,) = subscription.discounts

    both = update(subscription.id, {"discounts": [{"discount": first}, {"coupon": tenth.id}]}).discounts
    preview = shop.v1.invoices.create_preview({"customer": customer.id}).total
    none = update(subscription.id, {"discounts": ""}).discounts
    update(subscription.id, {"discounts": [{"coupon": tenth.id}]})
    gone = shop.v1.subscriptions.delete_discount(subscription.id)

    assert (both[0], len(both), preview, none) == (first, 2, 450, [])
    assert gone.deleted is True
    assert shop.v1.subscriptions.retrieve(subscription.id).discounts == []
    assert shop.events("customer.discount.created", "customer.discount.deleted") == [
        *["customer.discount.created"] * 2,
        *["customer.discount.deleted"] * 2,
        "customer.discount.created",
        "customer.discount.deleted",
    ]


def test_discounts_are_expanded(shop, coupon, gold):
    """To objects, with their coupon."""
    customer = shop.customer()
    half = coupon(percent_off=50)
    subscription = subscribe(
        shop, customer, gold, discounts=[{"coupon": half.id}], expand=["discounts.source.coupon", "latest_invoice"]
    )

    (discount,) = subscription.discounts
    assert (discount.source.coupon.id, discount.subscription, discount.customer) == (
        half.id,
        subscription.id,
        customer.id,
    )


@pytest.mark.parametrize("limit", [{"max_redemptions": 1}, {"redeem_by": START + DAY}])
def test_a_coupon_is_used_up(shop, sandbox, coupon, gold, limit):
    """By number or by time."""
    half = coupon(percent_off=50, **limit)
    subscribe(shop, shop.customer(), gold, discounts=[{"coupon": half.id}])
    sandbox.advance(seconds=DAY)

    error = refused(subscribe, shop, shop.customer(), gold, discounts=[{"coupon": half.id}])
    after = shop.v1.coupons.retrieve(half.id)

    assert (error.param, after.times_redeemed, after.valid) == ("discounts[0]", 1, False)
    assert [each.id for each in shop.v1.coupons.list().data] == [half.id]


def test_a_promotion_code_gives_its_coupon(shop, coupon, gold):
    """To whom it is for, as long as it is active, as often as it may."""
    half, ada, bob = coupon(percent_off=50), shop.customer(), shop.customer()
    create = shop.v1.promotion_codes.create
    promotion = {"type": "coupon", "coupon": half.id}
    code = create({"promotion": promotion, "code": "HALF", "max_redemptions": 1, "customer": ada.id})
    params = {"discounts": [{"promotion_code": code.id}]}

    refused(create, {"promotion": promotion, "code": "half"})
    refused(subscribe, shop, bob, gold, **params)
    subscription = subscribe(shop, ada, gold, expand=["discounts"], **params)
    refused(subscribe, shop, ada, gold, **params)

    assert subscription.discounts[0].promotion_code == code.id
    assert totals(shop, ada) == [500]
    assert shop.v1.promotion_codes.retrieve(code.id).times_redeemed == 1
    assert [each.id for each in shop.v1.promotion_codes.list({"code": "HALF", "coupon": half.id}).data] == [code.id]


@pytest.mark.parametrize(
    "why", [{"active": False}, {"expires_at": START - 1}, {"restrictions": {"first_time_transaction": True}}]
)
def test_a_promotion_code_that_does_not_count(shop, coupon, gold, why):
    """Switched off, too late, or for new customers only."""
    customer = shop.customer()
    subscribe(shop, customer, gold)
    code = shop.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon(percent_off=9).id}, **why})

    error = refused(subscribe, shop, customer, gold, discounts=[{"promotion_code": code.id}])
    assert error.param == "discounts[0][promotion_code]"


def test_an_amount_off_needs_the_currency(shop, coupon):
    """The coupon's own or one of its options."""
    off = coupon(amount_off=300, currency="usd", currency_options={"eur": {"amount_off": 200}})
    prices = {name: shop.price(unit_amount=1000, currency=name) for name in ("usd", "eur", "gbp")}
    customers = {name: shop.customer() for name in prices}

    for name in ("usd", "eur"):
        subscribe(shop, customers[name], prices[name], discounts=[{"coupon": off.id}])
    refused(subscribe, shop, customers["gbp"], prices["gbp"], discounts=[{"coupon": off.id}])

    assert (totals(shop, customers["usd"]), totals(shop, customers["eur"])) == ([700], [800])
    shown = shop.v1.coupons.retrieve(off.id, {"expand": ["currency_options", "applies_to"]})
    assert set(shown.currency_options.to_dict()) == {"usd", "eur"}


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({}, "percent_off"),
        ({"percent_off": 10, "amount_off": 5, "currency": "usd"}, "percent_off"),
        ({"percent_off": 0}, "percent_off"),
        ({"percent_off": 101}, "percent_off"),
        ({"amount_off": 5}, "currency"),
        ({"percent_off": 5, "duration": "repeating"}, "duration_in_months"),
        ({"percent_off": 5, "id": "a b"}, "id"),
        ({"percent_off": 5, "redeem_by": START - 1}, "redeem_by"),
        ({"percent_off": 5, "applies_to": {"products": ["prod_none"]}}, "applies_to[products]"),
    ],
)
def test_coupons_are_checked(coupon, params, param):
    """Stripe's rules, by the parameter at fault."""
    assert refused(coupon, **params).param == param


def test_a_deleted_coupon_goes_on_for_who_has_it(shop, sandbox, coupon, gold):
    """Nobody else gets it; its id is free again."""
    customer = shop.customer()
    half = coupon(percent_off=50, id="HALF", name="Half")
    subscribe(shop, customer, gold, discounts=[{"coupon": "HALF"}])
    refused(coupon, percent_off=1, id="HALF")
    renamed = shop.v1.coupons.update("HALF", {"name": "Halved", "metadata": {"a": "b"}})
    shop.v1.coupons.delete(half.id)
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.coupons.retrieve(half.id)
    coupon(percent_off=1, id="HALF")
    sandbox.advance(to=APRIL + HOUR)

    assert (renamed.name, renamed.metadata.to_dict()) == ("Halved", {"a": "b"})
    assert totals(shop, customer) == [500, 500]
