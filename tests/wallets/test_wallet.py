"""`Wallet`: what it can be declared as, and what it cannot."""

from __future__ import annotations

from decimal import Decimal

import pytest

from meterkit import ConfigurationError, Meter, Price, Wallet

CALLS = Meter("calls", billable=False)
SPENDS = {CALLS: 1}


def test_rates_are_in_millionths():
    """Whatever exact type they are written as, by the meter or its name."""
    rates = {"a": 2, "b": "0.000001", "c": Decimal("1.50"), CALLS: "007.250000"}

    assert {"a": 2_000_000, "b": 1, "c": 1_500_000, "calls": 7_250_000} == Wallet(
        "credits", unit="credits", spends=rates
    ).rates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"unit": "credits", "spends": {CALLS: 0.1}}, "a float is not exact: write '0.1', with quotes"),
        ({"unit": "credits", "spends": {CALLS: "0.0000001"}}, "at most 6 decimals, not 0.0000001: round it, or choose"),
        ({"unit": "credits", "spends": {CALLS: "-1"}}, "must not be negative"),
        ({"unit": "credits", "spends": {CALLS: "NaN"}}, "must be an amount such as '10.00'"),
        ({"unit": "credits", "spends": {CALLS: Decimal("Infinity")}}, "must be an amount such as '10.00'"),
        ({"unit": "credits", "spends": {CALLS: True}}, "must be an amount such as '10.00'"),
        ({"unit": "credits", "spends": {CALLS: "1" + 12 * "0"}}, "at most 12 digits before the point"),
        ({"unit": "credits", "spends": {CALLS: 0}}, "must be more than 0"),
        ({"unit": "credits", "spends": {CALLS: 1, "calls": 2}}, "has Meter('calls') twice"),
        ({"unit": "credits", "spends": {7: 1}}, "must be meters or their names"),
        ({"unit": "credits", "spends": {}}, "spends= must say what one unit of each meter takes"),
        ({"unit": "credits", "spends": [CALLS]}, "spends= must say what one unit of each meter takes"),
        ({"unit": "credits", "currency": "usd", "spends": SPENDS}, "either unit='credits' or currency='usd'"),
        ({"spends": SPENDS}, "either unit='credits' or currency='usd'"),
        ({"unit": "USD", "spends": SPENDS}, "looks like a currency: write currency='usd'"),
        ({"unit": " ", "spends": SPENDS}, "unit= must be a word such as 'credits'"),
        ({"currency": "dollars", "spends": SPENDS}, "currency= must be three letters"),
    ],
)
def test_what_a_wallet_cannot_be(arguments, said):
    """The message says how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        Wallet("credits", **arguments)

    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "a\nb", 7, 101 * "a"])
def test_names(name):
    """Like those of meters."""
    with pytest.raises(ConfigurationError, match="a wallet's name"):
        Wallet(name, unit="credits", spends=SPENDS)


@pytest.mark.parametrize(
    ("wallets", "said"),
    [
        (Wallet("credits", unit="credits", spends=SPENDS), "is not a list"),
        (["credits"], "is not a Wallet"),
        (2 * [Wallet("credits", unit="credits", spends=SPENDS)], "two wallets named 'credits'"),
        ([Wallet("calls", unit="credits", spends=SPENDS)], "has the name of a meter"),
        ([Wallet("credits", unit="credits", spends={"cals": 1})], "Meter('cals'), which is not in meters="),
        ([Wallet("credits", unit="credits", spends={Meter("calls"): 1})], "which is not in meters="),
        ([Wallet("credits", unit="credits", spends={"sold": 1})], "add billable=False to the meter"),
        (
            [Wallet("credits", unit="credits", spends=SPENDS), Wallet("gifts", unit="gifts", spends=SPENDS)],
            "a meter has at most one wallet",
        ),
    ],
)
def test_what_a_kit_does_not_take(make_kit, wallets, said):
    """The message says how to correct it."""
    with pytest.raises(ConfigurationError) as caught:
        make_kit(CALLS, Meter("sold"), wallets=wallets)

    assert said in str(caught.value)


def test_what_is_paid_for_ahead_has_no_price(make_kit):
    """It would be paid for twice."""
    with pytest.raises(ConfigurationError, match="remove the price, or billable=False"):
        make_kit(CALLS, wallets=[Wallet("credits", unit="credits", spends=SPENDS)], prices=[Price.per_unit(CALLS, 1)])


@pytest.mark.parametrize("spends", ["tokens", "tokens_usd_millionths"])
def test_what_is_billed_by_its_values_is_not_paid_for_ahead(make_kit, spends):
    """The message says what to declare instead, not what the price would refuse."""
    tokens = Meter("tokens", http=False, by=("model",))
    price = Price.by(tokens, "model", {"small": "0.10"})
    with pytest.raises(ConfigurationError, match="declare a meter for each rate, with billable=False and without a"):
        make_kit(tokens, prices=[price], wallets=[Wallet("credits", unit="credits", spends={spends: 1})])
