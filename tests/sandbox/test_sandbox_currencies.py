"""Prices in several currencies, and currencies that do not have two decimals."""

from __future__ import annotations

import pytest
from sandbox_shop import APRIL, CLASSICAL, HOUR, bill, lines, refused, tiered

pytestmark = pytest.mark.long

EURO_TIERS = [
    {"up_to": 100, "unit_amount": 400},
    {"up_to": 1000, "unit_amount": 250},
    {"up_to": "inf", "unit_amount_decimal": "150.5"},
]


@pytest.fixture
def price(shop):
    """0.10 USD or 0.08 EUR a unit."""
    return shop.price(shop.meter(), unit_amount=10, currency_options={"eur": {"unit_amount": 8}})


def test_a_subscription_is_billed_in_its_currency(shop, sandbox, price):
    """1,000 units are 80.00 EUR; the price goes on to say what its own currency is."""
    customer = shop.customer()
    subscription = shop.subscribe(customer, price, currency="eur")
    shop.send(customer, 1000)
    preview = shop.v1.invoices.create_preview({"customer": customer.id})
    sandbox.advance(to=APRIL + HOUR)
    (invoice,) = shop.invoices(customer)

    assert (subscription.currency, subscription.items.data[0].price.currency) == ("eur", "usd")
    assert (preview.currency, preview.total) == (invoice.currency, invoice.total) == ("eur", 8000)
    assert invoice.lines.data[0].currency == "eur"
    assert str(invoice.lines.data[0].pricing.unit_amount_decimal) == "8"
    assert lines(invoice)[0][0].endswith("(at €0.08 / month)")


def test_a_customer_keeps_the_currency(shop, price):
    """The next subscription has it too; another one is refused."""
    customer = shop.customer()
    shop.subscribe(customer, price, currency="eur")

    assert shop.v1.customers.retrieve(customer.id).currency == "eur"
    assert shop.subscribe(customer, price).currency == "eur"
    error = refused(shop.subscribe, customer, price, currency="usd")
    assert error.user_message.startswith("You cannot combine currencies on a single customer.")
    refused(shop.subscribe, customer, shop.price(unit_amount=1))


def test_a_currency_that_a_price_lacks_is_refused(shop, price):
    """Whether it is asked for or comes from another price."""
    other = shop.price(unit_amount=1, currency="gbp")

    assert refused(shop.subscribe, shop.customer(), price, currency="gbp").param == "currency"
    assert refused(shop.subscribe, shop.customer(), price, other).param == "items[1][price]"


def test_tiers_have_amounts_in_further_currencies(shop, sandbox):
    """100 at 4.00, 900 at 2.50 and 10 at 1.505 EUR."""
    price = tiered(shop, shop.meter(), currency_options={"eur": {"tiers": EURO_TIERS}})
    customer = shop.customer()
    shop.subscribe(customer, price, currency="eur")
    shop.send(customer, 1010)
    sandbox.advance(to=APRIL + HOUR)

    assert [amount for _, _, amount in lines(shop.invoices(customer)[0])] == [40_000, 225_000, 1505]


def test_tiers_of_further_currencies_are_shown_when_expanded(shop):
    """Each level on request, as with a price's own tiers; also in a list."""
    price = tiered(shop, shop.meter(), currency_options={"eur": {"tiers": EURO_TIERS}})

    plain = shop.v1.prices.retrieve(price.id, {"expand": ["currency_options"]})
    whole = shop.v1.prices.retrieve(price.id, {"expand": ["currency_options.eur.tiers"]})
    (listed,) = shop.v1.prices.list({"expand": ["data.currency_options.eur.tiers"]}).data

    assert "tiers" not in plain.currency_options["eur"].to_dict()
    for each in (whole, listed):
        assert [tier["up_to"] for tier in each.currency_options["eur"]["tiers"]] == [100, 1000, None]
    assert set(plain.currency_options.to_dict()) == {"usd", "eur"}


def test_further_currencies_are_added_and_removed(shop):
    """Not a price's own, whose amounts stay."""
    price = shop.price(unit_amount=10)
    update = shop.v1.prices.update
    expand = {"expand": ["currency_options"]}

    more = update(price.id, {"currency_options": {"eur": {"unit_amount": 8}}, **expand})
    still = update(price.id, {"currency_options": {"gbp": {"unit_amount": 7}}, **expand})
    none = update(price.id, {"currency_options": "", **expand})

    assert more.currency_options["eur"]["unit_amount"] == 8
    assert [set(each.currency_options.to_dict()) for each in (still, none)] == [{"usd", "eur", "gbp"}, {"usd"}]
    assert refused(update, price.id, {"currency_options": {"usd": {"unit_amount": 8}}}).param == "currency_options[usd]"


def test_currency_options_fit_their_price(shop):
    """The same scheme and the same bounds; not the price's own currency twice."""
    meter = shop.meter()
    bounds = [{"up_to": 7, "unit_amount": 1}, {"up_to": "inf", "unit_amount": 1}]

    assert refused(tiered, shop, meter, CLASSICAL, currency_options={"eur": {"tiers": bounds}}).param == (
        "currency_options[eur][tiers]"
    )
    assert refused(shop.price, unit_amount=1, currency_options={"eur": {"tiers": bounds}}).param == (
        "currency_options[eur][tiers]"
    )
    assert refused(shop.price, unit_amount=1, currency_options={"usd": {"unit_amount": 1}}).param == (
        "currency_options[usd]"
    )


@pytest.mark.parametrize(
    ("switch", "amounts", "total"),
    [("lines", [5120, 5130], 10_250), ("totals", [5124, 5126], 10_250), ("kept", [5124, 5126], 10_250)],
)
def test_three_decimals_end_in_nought(make_shop, switch, amounts, total):
    """5.124 and 5.126 KWD; a switch, because nobody outside knows where the last digit is rounded."""
    shop = make_shop(last_digit=switch)
    customer = shop.customer()
    prices = [shop.price(unit_amount=each, currency="kwd") for each in (5124, 5126)]
    shop.subscribe(customer, *prices)

    (invoice,) = shop.invoices(customer)
    assert ([line.amount for line in invoice.lines.data], invoice.total) == (amounts, total)


@pytest.mark.parametrize(("switch", "total"), [("lines", 5120), ("totals", 5120), ("kept", 5124)])
def test_the_last_digit_of_a_total(make_shop, switch, total):
    """Rounded, unless the switch keeps it."""
    shop = make_shop(last_digit=switch)
    customer = shop.customer()
    shop.subscribe(customer, shop.price(unit_amount=5124, currency="kwd"))

    assert shop.invoices(customer)[0].total == total


def test_amounts_with_three_decimals_are_written_with_three(shop):
    """0.0005 KWD a unit are not 0.005."""
    invoice = bill(shop, shop.price(shop.meter(), unit_amount_decimal="0.5", currency="kwd"), 1_000_000)

    assert invoice.total == 500_000
    assert "(at KWD 0.0005 / month)" in lines(invoice)[0][0]


def test_a_shilling_has_two_decimals_that_are_nought(shop):
    """100 UGX are 10000 at Stripe; amounts are rounded to whole shillings."""
    meter = shop.meter()
    invoice = bill(shop, shop.price(meter, unit_amount=10_000, currency="ugx"), 3)

    assert invoice.total == 30_000
    assert "(at UGX 100.00 / month)" in lines(invoice)[0][0]


def test_a_line_is_rounded_to_whole_shillings(shop):
    """37.53 UGX are 38."""
    assert bill(shop, shop.price(shop.meter(), unit_amount=1251, currency="ugx"), 3).total == 3800


@pytest.mark.parametrize(("currency", "amount"), [("kwd", 6), ("ugx", 150)])
def test_invoice_items_must_be_chargeable(make_shop, currency, amount):
    """Their last digits are 0, unless the switch keeps them."""

    def create(**switches):
        shop = make_shop(**switches)
        params = {"customer": shop.customer().id, "amount": amount, "currency": currency}
        return lambda: shop.v1.invoice_items.create(params)

    assert refused(create()).param == "amount"
    assert create(last_digit="kept")().amount == amount
