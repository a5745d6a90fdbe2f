"""Prices and their arithmetic: the invoice, to the cent, as Stripe makes it."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterkit import ConfigurationError, Meter, Price, Tier, UsageError
from meterkit.pricing.price import chargeable, digits

METER = Meter("calls")

CREDIT_SCORES = Price.graduated(
    METER,
    Tier(up_to=100, unit_price="5.00"),
    Tier(up_to=1_000, unit_price="3.00"),
    Tier(unit_price="2.00"),
)


def lines(price, quantity):
    """An invoice's lines: quantity, price, amount and tier, as text."""
    return [(line.quantity, str(line.price), str(line.amount), line.tier) for line in price.lines(quantity)]


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [(0, "0"), (1, "5"), (100, "500"), (101, "503"), (1_000, "3200"), (1_001, "3202"), (1_500, "4200"), (80, "400")],
)
def test_graduated(quantity, amount):
    """Each unit costs what its own tier says, at both sides of each bound."""
    assert Decimal(amount) == CREDIT_SCORES.amount(quantity)


def test_graduated_lines():
    """Each tier that is reached is a line."""
    assert [(100, "5.00", "500.00", 1), (50, "3.00", "150.00", 2)] == lines(CREDIT_SCORES, 150)


def test_graduated_with_flat_prices():
    """A flat price is a line of its own, due once its tier is reached; that of the first tier always, 0 as well."""
    price = Price.graduated(
        METER, Tier(up_to=1000, flat_price="9"), Tier(up_to=2000, unit_price="0.036", flat_price=0), Tier(flat_price=1)
    )

    assert [(0, "0", "0.00", 1), (0, "9", "9.00", 1)] == lines(price, 0)
    assert [
        (1000, "0", "0.00", 1),
        (0, "9", "9.00", 1),
        (31, "0.036", "1.12", 2),  # 1.116
        (0, "0", "0.00", 2),
    ] == lines(price, 1031)


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (0, [(0, "5.00", "0.00", 1)]),
        (100, [(100, "5.00", "500.00", 1)]),
        (101, [(101, "3.00", "303.00", 2), (0, "7", "7.00", 2)]),
    ],
)
def test_volume(quantity, expected):
    """All units cost what the tier of the last one says, so that more usage may cost less."""
    price = Price.volume(METER, Tier(up_to=100, unit_price="5.00"), Tier(unit_price="3.00", flat_price=7))

    assert expected == lines(price, quantity)


@pytest.mark.parametrize(
    ("round_", "quantity", "amount"),
    [("up", 0, "0"), ("up", 1, "4"), ("up", 60, "4"), ("up", 61, "8"), ("down", 59, "0"), ("down", 119, "4")],
)
def test_package(round_, quantity, amount):
    """A started package counts in full, or not at all; the line says the units, not the packages."""
    price = Price.package(METER, "4", size=60, round=round_)

    assert (quantity, Decimal(amount)) == (price.lines(quantity)[0].quantity, price.amount(quantity))


@pytest.mark.parametrize(
    ("unit_price", "currency", "quantity", "amount"),
    [
        ("0.0005", "usd", 30, "0.02"),  # 0.015
        ("0.0005", "USD", 29, "0.01"),  # 0.0145
        ("0.005", "eur", 1, "0.01"),
        ("0.00499999999999", "usd", 1, "0.00"),
        ("0.5", "jpy", 1, "1"),
        ("0.0005", "kwd", 1, "0.001"),
    ],
)
def test_rounding(unit_price, currency, quantity, amount):
    """A line is rounded half up, to the currency's own minor unit."""
    price = Price.per_unit(METER, unit_price, currency=currency)

    assert amount == str(price.amount(quantity))


money = st.decimals(0, 10**6, places=4) | st.decimals(0, 1, places=14)


@st.composite
def prices(draw):
    """Any price with tiers."""
    bounds = sorted(draw(st.sets(st.integers(1, 60), max_size=4)))
    tiers = [Tier(up_to=bound, unit_price=draw(money), flat_price=draw(st.none() | money)) for bound in [*bounds, None]]
    return draw(st.sampled_from([Price.graduated, Price.volume]))(METER, *tiers)


def naive_amount(price, quantity):
    """The same, unit by unit, in fractions, with no thought of tiers as intervals."""

    def tier_of(unit):
        return next(tier for tier in price.tiers if tier.up_to is None or unit <= tier.up_to)

    def cents(exact):
        return math.floor(exact * 100 + Fraction(1, 2))

    units = {}
    for unit in range(1, quantity + 1):
        tier = tier_of(quantity if price.scheme == "volume" else unit)
        units[tier] = units.get(tier, 0) + 1
    if not units:
        units = {price.tiers[0]: 0}
    return sum(
        cents(count * Fraction(tier.unit_price)) + cents(Fraction(tier.flat_price or 0))
        for tier, count in units.items()
    )


@given(price=prices(), quantity=st.integers(0, 80))
def test_as_a_naive_computation(price, quantity):
    """Tiers give what counting unit by unit gives."""
    assert naive_amount(price, quantity) == price.amount(quantity) * 100


@given(price=st.decimals(0, 999_999_999_999, places=14), quantity=st.integers(0, 999_999_999_999_999))
@example(price=Decimal("999999999999.99"), quantity=999_999_999_999_999)
def test_exact_for_any_quantity(price, quantity):
    """Nothing is lost to the precision of decimals, which would by default be 28 digits."""
    amount = Price.per_unit(METER, price).amount(quantity)

    assert math.floor(quantity * Fraction(price) * 100 + Fraction(1, 2)) == int(
        amount.scaleb(2, decimal.Context(prec=60))
    )


@given(price=prices(), quantity=st.integers(0, 80))
def test_the_lines_are_the_usage(price, quantity):
    """Every unit is on one line."""
    assert quantity == sum(line.quantity for line in price.lines(quantity))


def test_the_application_may_set_its_own_precision():
    """What an app does with its decimal context changes no invoice."""
    with decimal.localcontext() as context:
        context.prec = 3
        context.rounding = decimal.ROUND_DOWN
        price = Price.graduated(METER, Tier(up_to=1000, unit_price="1.23456"), Tier(unit_price="1"))
        amount = price.amount(1234)

    assert "1468.56" == str(amount)


@pytest.mark.parametrize("quantity", [-1, 1.0, math.nan, "5", 10**38])
def test_what_is_no_quantity(quantity):
    """Only what can be counted can be priced."""
    with pytest.raises(UsageError):
        CREDIT_SCORES.amount(quantity)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: Tier(unit_price=5.0), "write '5.0', with quotes"),
        (lambda: Tier(unit_price=True), "a str or Decimal such as '5.00'"),
        (lambda: Tier(unit_price=None), "a str or Decimal such as '5.00'"),
        (lambda: Tier(unit_price="$5"), "an amount such as '5.00'"),
        (lambda: Tier(unit_price="5,00"), "an amount such as '5.00'"),
        (lambda: Tier(unit_price="-5"), "an amount of 0 or more"),
        (lambda: Tier(unit_price="NaN"), "an amount of 0 or more"),
        (lambda: Tier(unit_price="sNaN"), "an amount of 0 or more"),
        (lambda: Tier(unit_price=Decimal("Infinity")), "an amount of 0 or more"),
        (lambda: Tier(unit_price="1E+40"), "under 1,000,000,000,000"),
        (lambda: Tier(flat_price=1.5), "Tier(flat_price=...) must be a str or Decimal"),
        (lambda: Tier(up_to=0), "a positive int"),
        (lambda: Tier(up_to=True), "a positive int"),
        (lambda: Tier(up_to="100"), "a positive int"),
        (lambda: Tier(up_to=math.inf), "left out in the last tier"),
        (lambda: Price.per_unit(METER, 0.1), "write '0.1', with quotes"),
        (lambda: Price.per_unit(METER, "0.000000000000001"), "more than the 14 decimal places that Stripe accepts"),
        (lambda: Price.per_unit(METER, "0.0000000000001", currency="jpy"), "more than the 12 decimal places"),
        (lambda: Price.per_unit("calls", "1"), "meter= must be a Meter"),
        (lambda: Price.per_unit(METER, "1", currency="dollar"), "three letters such as 'usd'"),
        (lambda: Price.per_unit(METER, "1", currency=None), "three letters such as 'usd'"),
        (lambda: Price.per_unit(METER, "1", interval="hour"), "one of day, week, month, year"),
        (lambda: Price.package(METER, "1", size=0), "size= must be a positive int"),
        (lambda: Price.package(METER, "1", size=1.5), "size= must be a positive int"),
        (lambda: Price.package(METER, "1", size=10, round="half"), "'up' or 'down'"),
        (lambda: Price.graduated(METER), "at least one Tier"),
        (lambda: Price.graduated(METER, "5.00"), "at least one Tier"),
        (lambda: Price.graduated(METER, Tier(up_to=100)), "leave out its up_to="),
        (lambda: Price.volume(METER, Tier(), Tier()), "each tier must have a higher up_to="),
        (
            lambda: Price.graduated(METER, Tier(up_to=100), Tier(up_to=50), Tier()),
            "each tier must have a higher up_to=",
        ),
        (
            lambda: Price.graduated(METER, Tier(up_to=100), Tier(up_to=100), Tier()),
            "each tier must have a higher up_to=",
        ),
    ],
)
def test_a_wrong_price(make, cure):
    """A price that would bill wrongly is refused while it is built, in a sentence that says the cure."""
    with pytest.raises(ConfigurationError) as caught:
        make()

    assert cure in str(caught.value)


@pytest.mark.parametrize("unit_price", ["5.00", "5", 5, Decimal("5.00"), "0", "0.00000000000001", "999999999999.99"])
def test_a_right_price(unit_price):
    """Money is a str, a Decimal or an int."""
    assert Decimal(unit_price) == Price.per_unit(METER, unit_price).tiers[0].unit_price


def test_the_message_names_the_meter():
    """Among many prices, the message says which one is wrong."""
    with pytest.raises(ConfigurationError, match=r"^Price of Meter\('calls'\): "):
        Price.graduated(METER, Tier(up_to=100))


@pytest.mark.parametrize(
    ("amount", "written"), [("1E-7", "0.0000001"), (Decimal("1E+3"), "1000"), (5, "5"), ("0.00", "0.00")]
)
def test_amounts_are_written_in_digits(amount, written):
    """Never in exponents."""
    assert written == digits(amount)


@pytest.mark.parametrize(
    ("currency", "line", "item"),
    [
        ("usd", "5.12", "5.12"),
        ("jpy", "5", "5"),
        ("kwd", "5.124", "5.12"),
        ("ugx", "5.00", "5.00"),
        ("isk", "5.00", "5.00"),
    ],
)
def test_what_stripe_charges(currency, line, item):
    """UGX and ISK have cents that are 0; an amount of its own in three decimals ends with 0."""
    price = Price.per_unit(METER, "1.2810", currency=currency)

    assert (line, item) == (str(price.amount(4)), str(chargeable(price.amount(4), currency)))
