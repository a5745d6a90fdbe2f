"""What a unit costs: what `Cost` takes, what it refuses, and which amount counts for which values and day."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterkit import ConfigurationError, Cost, Meter, MeterKit
from meterkit.margin.unit_costs import UnitCost

CALLS = Meter("calls")
TOKENS = Meter("tokens", value="tokens", by=("model", "kind"))


def second(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp())


MARCH, APRIL = second("2026-03-01"), second("2026-04-01")


def each(cost: Cost, *values: str) -> Decimal | None:
    (rate,) = cost.source.current().of(values, MARCH, APRIL)
    return rate.each


def test_a_unit() -> None:
    """The same for all; exact, also if the amount is for many."""
    assert Decimal("0.25") == each(Cost.per_unit(CALLS, "0.25"))
    assert Decimal("0.000000125") == each(Cost.per_unit(CALLS, "0.125", per=1_000_000))


def test_values() -> None:
    """Of one dimension, and of two: nested, or with tuples as keys."""
    by_model = Cost.by(TOKENS, "model", {"small": "0.10", "large": 3}, per=1000)
    nested = Cost.by(TOKENS, ("model", "kind"), {"small": {"input": "1", "output": "2"}, "large": {"*": "3"}})
    flat = Cost.by(TOKENS, ("model", "kind"), {("small", "input"): "1", ("small", "output"): "2", ("large", "*"): "3"})

    assert (Decimal("0.0001"), Decimal("0.003")) == (each(by_model, "small"), each(by_model, "large"))
    assert nested.source == flat.source
    assert [1, 2, 3] == [
        each(flat, *values) for values in (("small", "input"), ("small", "output"), ("large", "audio"))
    ]


def test_what_nothing_matches() -> None:
    """It has no known cost, which is not 0, unless there is a default."""
    assert each(Cost.by(TOKENS, "model", {"small": "1"}), "medium") is None
    assert each(Cost.by(TOKENS, "model", {"small": "1"}), "") is None
    assert Decimal("0.005") == each(Cost.by(TOKENS, "model", {"small": "1"}, default="5", per=1000), "medium")


@pytest.mark.parametrize(
    ("values", "amount"),
    [
        (("gpt-5", "input"), "3"),
        (("gpt-5", "output"), "1"),
        (("gpt-5-mini", "input"), "3"),
        (("gpt-5-mini", "output"), "2"),
        (("gpt-5-mini-2026", "output"), "4"),
        (("gpt-4", "output"), "5"),
        (("GPT-5", "input"), "6"),
    ],
)
def test_the_most_precise_pattern(values: tuple[str, ...], amount: str) -> None:
    """First by values that are no patterns, then by characters that are no wildcards, then the first: as in prices."""
    amounts = {
        ("*", "*"): "6",
        ("gpt-*", "*"): "5",
        ("gpt-5-mini*", "*"): "4",
        ("gpt-5*", "input"): "3",
        ("gpt-5", "*"): "1",
        ("gpt-5-mini", "*"): "2",
    }
    cost = Cost.by(TOKENS, ("model", "kind"), amounts)

    assert Decimal(amount) == each(cost, *values)


CSV = "model,kind,price,from\nsmall,input,0.20,2026-03-11\nsmall,input,0.10,\nlarge,*,3,2026-03-21\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "costs.csv"
    path.write_text(CSV)
    return path


def test_a_file_with_dates(table: Path) -> None:
    """Each day's usage costs what the file says of that day; before the first one, it is not known."""
    rates = Cost.by(TOKENS, ("model", "kind"), table=table, per=10).source.current()
    small, later, large = (
        rates.of(("small", "input"), MARCH, APRIL),
        rates.of(("small", "input"), APRIL, second("2026-05-01")),
        rates.of(("large", "output"), MARCH, APRIL),
    )

    assert (UnitCost(MARCH, Decimal("0.01")), UnitCost(second("2026-03-11"), Decimal("0.02"))) == small
    assert (UnitCost(APRIL, Decimal("0.02")),) == later
    assert (UnitCost(MARCH, None), UnitCost(second("2026-03-21"), Decimal("0.3"))) == large


def test_other_files(tmp_path: Path) -> None:
    """JSON, and TOML from Python 3.11 on."""
    rows = [{"model": "small", "kind": "input", "price": "0.10"}, {"model": "large", "price": 3}]
    (tmp_path / "costs.json").write_text(json.dumps({"prices": rows}))
    (tmp_path / "costs.toml").write_text(
        '[[prices]]\nmodel = "small"\nkind = "input"\nprice = "0.10"\n[[prices]]\nmodel = "large"\nprice = 3\n'
    )
    for name in ("costs.json", *(["costs.toml"] if sys.version_info >= (3, 11) else [])):
        cost = Cost.by(TOKENS, ("model", "kind"), table=tmp_path / name)
        assert (Decimal("0.1"), 3) == (each(cost, "small", "input"), each(cost, "large", "output"))


def test_a_file_is_read_again(table: Path) -> None:
    """What is corrected in it counts without a restart; what breaks it is said."""
    cost = Cost.by(TOKENS, ("model", "kind"), table=table)
    table.write_text("model,kind,price\nsmall,input,7\n")

    assert Decimal(7) == each(cost, "small", "input")
    table.write_text("model,kind\n")
    with pytest.raises(ConfigurationError, match="the table is empty"):
        cost.source.current()


WRONG_FILES = {
    "model,kind,price\nsmall,input,cheap\n": "the price of .*small.* must be an amount such as",
    "model,kind,price\nsmall,input,-1\n": "the price of .*small.* must be an amount of 0 or more",
    "model,kind,price\nsmall,input,1\nsmall,input,2\n": "is there twice",
    "model,cost\nsmall,1\n": "entry 1 has a field 'cost'",
    "model,kind,price\nsmall,input\n": "line 2 has other fields",
    "model,kind,price,from\nsmall,input,1,March\n": "entry 1: from must be a day in UTC",
    "": "the table is empty",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_file(text: str, table: Path) -> None:
    """It is refused when the cost is made, with the line."""
    table.write_text(text)
    with pytest.raises(ConfigurationError, match=WRONG_FILES[text]):
        Cost.by(TOKENS, ("model", "kind"), table=table)


def test_no_file(tmp_path: Path) -> None:
    """A path that leads nowhere, or to a file of another kind."""
    (tmp_path / "costs.xlsx").write_text("x")
    with pytest.raises(ConfigurationError, match="No such file"):
        Cost.by(TOKENS, "model", table=tmp_path / "gone.csv")
    with pytest.raises(ConfigurationError, match=r"must be a file in \.csv, \.toml or \.json"):
        Cost.by(TOKENS, "model", table=tmp_path / "costs.xlsx")


WRONG: dict[str, Any] = {
    "a float is not exact: write '0.1', with quotes": lambda: Cost.per_unit(CALLS, 0.1),  # type: ignore[arg-type]
    "must be an amount of 0 or more": lambda: Cost.per_unit(CALLS, "-1"),
    "per= must be a positive int": lambda: Cost.per_unit(CALLS, "1", per=0),
    "currency= must be three letters": lambda: Cost.per_unit(CALLS, "1", currency="dollars"),
    "meter= must be a Meter, not 'calls'": lambda: Cost.per_unit("calls", "1"),  # type: ignore[arg-type]
    "has no dimension 'region', only 'model', 'kind'": lambda: Cost.by(TOKENS, "region", {"eu": "1"}),
    "has no dimension 'model', only none": lambda: Cost.by(CALLS, "model", {"small": "1"}),
    "pass either the prices by value": lambda: Cost.by(TOKENS, "model"),
    "prices must be a dict": lambda: Cost.by(TOKENS, "model", {}),
    "'small' has 1 of 2 values": lambda: Cost.by(TOKENS, ("model", "kind"), {"small": "1"}),
    "1 must be a value or a pattern": lambda: Cost.by(TOKENS, "model", {1: "1"}),
    "is there twice": lambda: Cost.by(TOKENS, ("model", "kind"), {"small": {"input": "1"}, ("small", "input"): "2"}),
    "needs names of dimensions": lambda: Cost.by(TOKENS, ("model", "model"), {"small": "1"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_costs(message: str) -> None:
    """Each is refused with what to write instead."""
    with pytest.raises(ConfigurationError) as raised:
        WRONG[message]()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (Cost.per_unit(CALLS, "1"), "costs= must be a list of Cost"),
        (["0.10"], "is not a Cost"),
        ([Cost.per_unit(Meter("other"), "1")], r"Meter\('other'\), which is not in meters="),
        ([Cost.per_unit(CALLS, "1"), Cost.per_unit(CALLS, "2")], "two Costs of Meter"),
    ],
)
def test_costs_of_a_kit(costs: Any, message: str, tmp_path: Path) -> None:
    """Of its own meters, and one for each."""
    with pytest.raises(ConfigurationError, match=message):
        MeterKit(meters=[CALLS], costs=costs, data_dir=tmp_path)
