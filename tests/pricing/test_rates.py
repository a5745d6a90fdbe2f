"""Prices by the values of dimensions: which entry holds, and what is refused."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from meterkit import ConfigurationError, Meter, MeterKit, Plan, Price
from meterkit.core.usage_key import encoded_values

TOKENS = Meter("tokens", http=False, by=("model", "kind"))
DAY = 24 * 3600
DECEMBER = int(datetime(2026, 12, 1, tzinfo=timezone.utc).timestamp())


def rate(price, model, kind="input", at=0):
    """What a million units cost, as text; None if they have no price."""
    found = price.rates.rate(encoded_values({"model": model, "kind": kind}), at)
    return None if found is None else format((Decimal(found) / 10**6).normalize(), "f")


@pytest.mark.parametrize(
    ("model", "costs"),
    [
        ("small", "0.1"),
        ("gpt-5", "2"),
        ("gpt-5-mini", "0.25"),
        ("gpt-5-mini-2026", "0.25"),
        ("gpt-4", "3"),
        ("claude", None),
        ("", None),
        ("Small", None),
    ],
)
def test_the_most_specific_entry_holds(model, costs):
    """An exact value before any pattern, then the pattern with the most characters of its own; case matters."""
    prices = {"gpt-*": "3", "gpt-5*": "1.25", "gpt-5": "2", "gpt-5-mini*": "0.25", "small": "0.10"}
    price = Price.by(TOKENS, "model", prices, per=1_000_000)

    assert costs == rate(price, model)


def test_what_stands_in_brackets_is_a_wildcard():
    """One character of several says less than that character."""
    price = Price.by(TOKENS, "model", {"gpt-[45]*": "1", "gpt-4*": "2"}, per=1_000_000)

    assert ["2", "1"] == [rate(price, "gpt-4o"), rate(price, "gpt-5")]


def test_the_first_of_equally_specific_entries_holds():
    """As in a table that is read from the top."""
    price = Price.by(TOKENS, "model", {"*-mini": "1", "mini-*": "2"}, per=1_000_000)

    assert "1" == rate(price, "mini-mini")


@pytest.mark.parametrize(
    "prices",
    [
        {("small", "input"): "0.10", ("small", "output"): "0.40", ("*", "cached"): "0.01"},
        {"small": {"input": "0.10", "output": "0.40"}, "*": {"cached": "0.01"}},
    ],
)
def test_two_dimensions(prices):
    """Tuples and nested dicts say the same."""
    price = Price.by(TOKENS, ("model", "kind"), prices, per=1_000_000)

    assert ["0.1", "0.4", "0.01", None] == [
        rate(price, "small", "input"),
        rate(price, "small", "output"),
        rate(price, "large", "cached"),
        rate(price, "large", "input"),
    ]


def test_a_default():
    """It is the price of all that no entry matches, unknown values among them."""
    price = Price.by(TOKENS, "model", {"small": "0.10"}, default="7", per=1_000_000)

    assert ["0.1", "7", "7"] == [rate(price, "small"), rate(price, "new"), rate(price, "")]


FILES = {
    "prices.csv": "model,kind,price,from\nsmall,*,0.10,\nsmall,*,0.20,2026-12-01\ngpt-5*,input,1.25,\n",
    "prices.json": '{"prices": [{"model": "small", "price": "0.10"}, {"model": "small", "price": "0.20", '
    '"from": "2026-12-01"}, {"model": "gpt-5*", "kind": "input", "price": "1.25"}]}',
    "prices.toml": '[[prices]]\nmodel = "small"\nprice = "0.10"\n[[prices]]\nmodel = "small"\nprice = "0.20"\n'
    'from = 2026-12-01\n[[prices]]\nmodel = "gpt-5*"\nkind = "input"\nprice = "1.25"\n',
}


@pytest.mark.parametrize("name", FILES)
def test_a_table_from_a_file(tmp_path, name):
    """All formats say the same; a price holds from its day on, and the one before it until then."""
    if name.endswith(".toml") and sys.version_info < (3, 11):
        pytest.skip("Python 3.11 reads TOML")
    (tmp_path / name).write_text(FILES[name])
    price = Price.by(TOKENS, ("model", "kind"), table=tmp_path / name, per=1_000_000)

    assert ["0.1", "0.1", "0.2", "1.25", None] == [
        rate(price, "small", "output", DECEMBER - 3600),
        rate(price, "small", "output", 0),
        rate(price, "small", "output", DECEMBER),
        rate(price, "gpt-5-mini", "input"),
        rate(price, "gpt-5-mini", "output"),
    ]


def test_its_meter_is_that_of_the_amounts():
    """In Stripe, it is an ordinary price of a millionth of the currency."""
    price = Price.by(TOKENS, "model", {"small": "0.10"}, per=1_000_000, currency="EUR")

    assert "tokens_eur_millionths" == price.meter.name == price.meter.event_name
    assert "12.35" == str(price.amount(12_345_678))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prices": {"small": 0.1}}, "write '0.1', with quotes"),
        ({"prices": {"small": "-1"}}, "0 or more"),
        ({"prices": {"small": "1.0000001"}, "per": 1_000_000}, "more than 12 decimal places"),
        ({"prices": {"small": "1"}, "per": 3}, "more than 12 decimal places"),
        ({"prices": {"small": "1000000"}}, "under a million"),
        ({"prices": {}}, "prices must be a dict"),
        ({"prices": None}, "either the prices"),
        ({"prices": {"small": "1"}, "table": "a.csv"}, "either the prices"),
        ({"prices": {("small", "input"): "1"}}, "has 2 of 1 values"),
        ({"prices": {7: "1"}}, "must be a value or a pattern"),
        ({"prices": {"small": "1"}, "by": "user"}, "which are model, kind"),
        ({"prices": {"small": "1"}, "by": ()}, "which are model, kind"),
        ({"prices": {"small": "1"}, "per": 0}, "per= must be"),
        ({"prices": {"small": "1"}, "bill": "both"}, "bill= must be"),
        ({"prices": {"small": "1"}, "currency": "euro"}, "three letters"),
        ({"prices": {"small": "1"}, "meter": Meter("calls")}, "has no dimensions"),
        ({"prices": {"small": "1"}, "meter": "tokens"}, "must be a Meter"),
        ({"table": "prices.txt"}, ".csv, .toml or .json"),
        ({"table": "missing.csv"}, "cannot be read"),
    ],
)
def test_what_is_refused(arguments, said):
    """With what to write instead."""
    given = {"meter": TOKENS, "by": "model", "prices": None, **arguments}
    positional = [given.pop(name) for name in ("meter", "by", "prices")]

    with pytest.raises(ConfigurationError, match=said):
        Price.by(*positional, **given)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "model,price\nsmall,1\nsmall,2\n", "there twice"),
        ("a.csv", "model,cost\nsmall,1\n", "a field 'cost'"),
        ("a.csv", "model,price\nsmall\n", "other fields than the first line"),
        ("a.csv", "model,price\nsmall,\n", "entry 1 has no price"),
        ("a.csv", "model,price,from\nsmall,1,soon\n", "a day in UTC"),
        ("a.csv", "model,price\n", "the table is empty"),
        ("a.json", '[{"model": "small", "price": 0.1}]', "write '0.1', with quotes"),
        ("a.json", '[{"model": 5, "price": "1"}]', "must be texts"),
        ("a.json", '{"rates": []}', "one named 'prices'"),
        ("a.json", "[", "cannot be read"),
    ],
)
def test_files_that_are_refused(tmp_path, name, text, said):
    """With the file, and the entry."""
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigurationError, match=said):
        Price.by(TOKENS, "model", table=tmp_path / name)


OTHER = Price.by(TOKENS, "model", {"small": "2"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prices": [Price.by(TOKENS, "model", {"small": "1"}), OTHER]}, "two different Price.by"),
        ({"prices": [OTHER, Price.per_unit(TOKENS, "1")]}, "another price besides"),
        ({"prices": [OTHER], "meters": [Meter("calls")]}, "not in meters="),
        ({"prices": [OTHER], "meters": [TOKENS, Meter("tokens_usd_millionths")]}, "rename it"),
        ({"plans": [Plan("a", prices=[OTHER]), Plan("b", prices=[Price.per_unit(TOKENS, "1")])]}, "another price"),
    ],
)
def test_kits_that_are_refused(tmp_path, options, said):
    """A unit is rated when it is counted, at one price, and is not reported itself."""
    with pytest.raises(ConfigurationError, match=said):
        MeterKit(**{"meters": [TOKENS], "data_dir": tmp_path, **options})


def test_plans_may_share_a_price(tmp_path):
    """They differ in their fees and limits."""
    plans = [Plan(name, fee=fee, prices=[OTHER]) for name, fee in (("basic", "5"), ("pro", "20"))]
    kit = MeterKit(meters=[TOKENS], plans=plans, data_dir=tmp_path)

    assert ["tokens", "tokens_usd_millionths"] == list(kit.meters)
