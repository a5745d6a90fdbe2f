"""Customers, products, prices, lists and expansion: line 39 of the fidelity checklist, and what billing stands on."""

from __future__ import annotations

from decimal import Decimal

import pytest
import stripe
from sandbox_shop import refused

pytestmark = pytest.mark.long

TIERS = [{"up_to": 10, "unit_amount": 5}, {"up_to": "inf", "unit_amount_decimal": "0.5", "flat_amount": 100}]


def test_customers_can_be_created_read_changed_and_listed(shop):
    """Metadata merges; an empty string unsets."""
    ada = shop.customer(name="Ada", email="ada@example.com", metadata={"company": "7", "plan": "a"})
    bob = shop.customer(name="Bob")

    shop.v1.customers.update(ada.id, {"name": "Ada L", "email": "", "metadata": {"plan": "", "tier": "b"}})
    shop.v1.customers.update(ada.id, {"name": "Ada L"})  # no change, no event
    found = shop.v1.customers.retrieve(ada.id)

    assert ada.id.startswith("cus_")
    assert (found.name, found.email, found.metadata.to_dict()) == ("Ada L", None, {"company": "7", "tier": "b"})
    assert [each.id for each in shop.v1.customers.list().data] == [bob.id, ada.id]
    assert shop.v1.customers.update(ada.id, {"metadata": ""}).metadata.to_dict() == {}
    assert shop.events("customer.created", "customer.updated") == ["customer.created"] * 2 + ["customer.updated"] * 2


def test_customers_are_found_by_email(shop):
    """Exactly that one."""
    ada = shop.customer(email="ada@example.com")
    shop.customer(email="bob@example.com")

    assert [each.id for each in shop.v1.customers.list({"email": "ada@example.com"}).data] == [ada.id]


def test_a_deleted_customer_is_a_tombstone(shop):
    """It can be seen to be deleted, but neither changed nor listed; its subscriptions have ended."""
    ada = shop.customer()
    subscription = shop.subscribe(ada, shop.price(shop.meter(), unit_amount=1))

    assert shop.v1.customers.delete(ada.id).deleted is True
    assert shop.v1.customers.retrieve(ada.id).to_dict() == {"id": ada.id, "object": "customer", "deleted": True}
    assert shop.v1.customers.list().data == []
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="No such customer") as caught:
        shop.v1.customers.update(ada.id, {"name": "x"})
    assert caught.value.http_status == 404


def test_products_may_bring_their_id(shop):
    """Once."""
    product = shop.product(id="scores", metadata={"a": "b"})

    assert (product.id, product.unit_label, product.active, product.type) == ("scores", "query", True, "service")
    assert refused(shop.product, id="scores").code == "resource_already_exists"
    assert shop.product().id.startswith("prod_")


def test_products_can_be_changed_and_listed(shop, sandbox):
    """By activity, by id, and with a default price of their own."""
    one, two = shop.product(), shop.product()
    price, foreign = shop.price(product=one.id, unit_amount=1), shop.price(product=two.id, unit_amount=1)
    sandbox.advance(seconds=5)

    changed = shop.v1.products.update(one.id, {"active": False, "name": "Old", "default_price": price.id})

    assert (changed.active, changed.name, changed.default_price, changed.updated) == (
        False,
        "Old",
        price.id,
        sandbox.now,
    )
    assert shop.v1.products.update(one.id, {"metadata": {"a": "b"}}).metadata.to_dict() == {"a": "b"}
    assert [each.id for each in shop.v1.products.list({"active": True}).data] == [two.id]
    assert [each.id for each in shop.v1.products.list({"ids": [one.id]}).data] == [one.id]
    assert shop.v1.products.retrieve(one.id, {"expand": ["default_price"]}).default_price.unit_amount == 1
    refused(shop.v1.products.update, one.id, {"default_price": foreign.id})


@pytest.mark.parametrize(
    ("params", "amount", "decimal"),
    [
        ({"unit_amount": 500}, 500, "500"),
        ({"unit_amount_decimal": "500"}, 500, "500"),
        ({"unit_amount_decimal": "0.5"}, None, "0.5"),
        ({"unit_amount_decimal": "3.60"}, None, "3.6"),
        ({"unit_amount": 0}, 0, "0"),
    ],
)
def test_prices_know_fractions_of_cents(shop, params, amount, decimal):
    """The integer is null where it would lie."""
    price = shop.price(**params)

    assert (price.unit_amount, price.unit_amount_decimal) == (amount, Decimal(decimal))
    assert (price.type, price.billing_scheme, price.recurring.usage_type) == ("recurring", "per_unit", "licensed")


def test_prices_can_be_made_with_their_product(shop):
    """`product_data` instead of `product`, never both and never neither."""
    price = shop.v1.prices.create({"currency": "USD", "unit_amount": 1, "product_data": {"name": "New"}})

    assert shop.v1.products.retrieve(price.product).name == "New"
    assert (price.currency, price.type, price.recurring) == ("usd", "one_time", None)
    refused(shop.v1.prices.create, {"currency": "usd", "unit_amount": 1})
    refused(
        shop.v1.prices.create,
        {"currency": "usd", "unit_amount": 1, "product": price.product, "product_data": {"name": "New"}},
    )


def test_tiers_are_shown_on_demand(shop):
    """`expand[]=tiers`, also in lists and inside of subscriptions."""
    meter = shop.meter()
    price = shop.price(meter, billing_scheme="tiered", tiers_mode="graduated", tiers=TIERS)
    subscription = shop.subscribe(shop.customer(), price)
    shown = [
        {
            "flat_amount": None,
            "flat_amount_decimal": None,
            "unit_amount": 5,
            "unit_amount_decimal": "5",
            "up_to": 10,
        },
        {
            "flat_amount": 100,
            "flat_amount_decimal": "100",
            "unit_amount": None,
            "unit_amount_decimal": "0.5",
            "up_to": None,
        },
    ]

    assert "tiers" not in price.to_dict()
    assert (price.tiers_mode, price.unit_amount) == ("graduated", None)
    retrieved = shop.v1.prices.retrieve(price.id, {"expand": ["tiers"]})
    listed = shop.v1.prices.list({"expand": ["data.tiers"]}).data[0]
    inside = shop.v1.subscriptions.retrieve(subscription.id, {"expand": ["items.data.price.tiers"]}).items.data[0].price
    for found in (retrieved, listed, inside):
        assert [{**tier.to_dict()} for tier in found.tiers] == [
            {key: Decimal(value) if key.endswith("decimal") and value else value for key, value in tier.items()}
            for tier in shown
        ]


def test_expansion_replaces_ids_by_objects(shop):
    """Several levels deep, but only what can be expanded."""
    customer = shop.customer(name="Ada")
    price = shop.price(unit_amount=100)
    subscription = shop.subscribe(customer, price)

    found = shop.v1.subscriptions.retrieve(
        subscription.id, {"expand": ["customer", "latest_invoice.customer", "items.data.price.product"]}
    )

    assert found.customer.name == "Ada"
    assert found.latest_invoice.customer.name == "Ada"
    assert found.items.data[0].price.product.name == "Credit Score"
    for path in ("status", "nonsense", "customer.nonsense", "items.data.price.product.a.b"):
        assert "expand" in refused(shop.v1.subscriptions.retrieve, subscription.id, {"expand": [path]}).user_message


def test_a_lookup_key_is_held_by_one_price(shop):
    """Unless it is transferred; an inactive price holds it, too."""
    old = shop.price(unit_amount=1, lookup_key="basic")
    shop.v1.prices.update(old.id, {"active": False})

    error = refused(shop.price, unit_amount=2, lookup_key="basic")
    new = shop.price(unit_amount=2, lookup_key="basic", transfer_lookup_key=True)

    assert error.user_message == f"A price (`{old.id}`) already uses that lookup key."
    assert shop.v1.prices.retrieve(old.id).lookup_key is None
    assert [each.id for each in shop.v1.prices.list({"lookup_keys": ["basic", "other"]}).data] == [new.id]


def test_prices_change_only_in_name(shop):
    """Nickname, metadata, activity and lookup key; never amounts."""
    price = shop.price(unit_amount=1, nickname="a", lookup_key="k")

    changed = shop.v1.prices.update(
        price.id, {"nickname": "", "metadata": {"a": "b"}, "active": False, "lookup_key": "k"}
    )

    assert (changed.nickname, changed.metadata.to_dict(), changed.active) == (None, {"a": "b"}, False)
    assert refused(shop.v1.prices.update, price.id, {"unit_amount": 2}).code == "parameter_unknown"
    assert shop.events("price.updated") == ["price.updated"]


def test_prices_are_listed_by_what_they_are(shop):
    """Filters narrow each other down."""
    meter, product = shop.meter(), shop.product()
    metered = shop.price(meter, unit_amount=1)
    yearly = shop.price(product=product.id, unit_amount=1, recurring={"interval": "year"})
    once = shop.v1.prices.create({"currency": "eur", "unit_amount": 1, "product": product.id})

    def ids(**params):
        return [price.id for price in shop.v1.prices.list(params).data]

    assert ids() == [once.id, yearly.id, metered.id]
    assert ids(product=product.id) == [once.id, yearly.id]
    assert ids(type="one_time") == [once.id]
    assert ids(currency="usd", recurring={"interval": "year"}) == [yearly.id]
    assert ids(recurring={"meter": meter.id}) == [metered.id]
    assert ids(active=False) == []


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"recurring": {"usage_type": "metered"}, "unit_amount": 1}, "recurring[meter]"),
        ({"recurring": {"meter": "METER"}, "unit_amount": 1}, "recurring[meter]"),
        ({"recurring": {"meter": "nope", "usage_type": "metered"}, "unit_amount": 1}, "recurring[meter]"),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": TIERS,
                "transform_quantity": {"divide_by": 2, "round": "up"},
            },
            "transform_quantity",
        ),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": TIERS, "unit_amount": 1}, "unit_amount"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume"}, "tiers"),
        ({"billing_scheme": "tiered", "tiers": TIERS}, "tiers_mode"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": TIERS[:1]}, "tiers"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [TIERS[1], TIERS[1]]}, "tiers"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [TIERS[0], TIERS[0], TIERS[1]]}, "tiers"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": [{"up_to": "inf"}]}, "tiers"),
        ({"tiers": TIERS, "unit_amount": 1}, "tiers"),
        ({"tiers_mode": "volume", "unit_amount": 1}, "tiers_mode"),
        ({}, "unit_amount"),
        ({"unit_amount": 1, "unit_amount_decimal": "1"}, "unit_amount"),
    ],
)
def test_line_39_a_price_must_make_sense(shop, params, param):
    """Metered needs a meter, tiers ascend to infinity and exclude packages, and something must cost something."""
    meter = shop.meter()
    if params.get("recurring", {}).get("meter") == "METER":
        params = {**params, "recurring": {"meter": meter.id}}

    assert refused(shop.price, **params).param == param
    assert shop.v1.prices.list().data == []


def test_lists_have_cursors(shop):
    """Forwards, backwards, with a limit, and not both ways at once."""
    ids = [shop.customer().id for _ in range(12)][::-1]

    def page(**params):
        answer = shop.v1.customers.list(params)
        return [each.id for each in answer.data], answer.has_more

    assert page() == (ids[:10], True)
    assert page(limit=12) == (ids, False)
    assert page(limit=5, starting_after=ids[3]) == (ids[4:9], True)
    assert page(starting_after=ids[9]) == (ids[10:], False)
    assert page(limit=3, ending_before=ids[5]) == (ids[2:5], True)
    assert page(ending_before=ids[2]) == (ids[:2], False)
    assert shop.v1.customers.list().url == "/v1/customers"
    assert refused(shop.v1.customers.list, {"starting_after": ids[0], "ending_before": ids[1]})
    assert refused(shop.v1.customers.list, {"starting_after": "cus_nope"}).param == "starting_after"
    assert refused(shop.v1.customers.list, {"limit": 101}).param == "limit"
    assert refused(shop.v1.customers.list, {"limit": 0}).param == "limit"


def test_lists_can_be_narrowed_by_time(shop, sandbox):
    """`created` takes a moment or bounds."""
    ids = []
    for _ in range(3):
        ids.append(shop.customer().id)
        sandbox.advance(seconds=10)
    start = sandbox.now - 30

    def created(bounds):
        return [each.id for each in shop.v1.customers.list({"created": bounds}).data][::-1]

    assert created(start + 10) == [ids[1]]
    assert created({"gt": start}) == ids[1:]
    assert created({"gte": start, "lt": start + 20}) == ids[:2]
    assert created({"lte": start + 10}) == ids[:2]


def test_amounts_in_further_currencies(shop):
    """They are shown on request alone, the price's own among them."""
    price = shop.price(unit_amount=5, currency_options={"eur": {"unit_amount_decimal": "4.5"}})
    shown = shop.v1.prices.retrieve(price.id, {"expand": ["currency_options"]})

    assert "currency_options" not in price
    assert {name: str(each["unit_amount_decimal"]) for name, each in shown["currency_options"].to_dict().items()} == {
        "usd": "5",
        "eur": "4.5",
    }
