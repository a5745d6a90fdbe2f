"""What is left of a month: by company, meter and value; what is not known is named, and nothing unlike is added up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterkit import ConfigurationError, Cost, Meter, MeterKit, Price, UsageError
from meterkit.margin.report import Margin, MarginReport

DAY = 24 * 3600
CALLS = Meter("calls")
TOKENS = Meter("tokens", http=False, by=("model", "kind"))
PRICES = [Price.per_unit(CALLS, "0.50"), Price.per_unit(TOKENS, "0.01")]
COSTS = [
    Cost.per_unit(CALLS, "0.20"),
    Cost.by(TOKENS, ("model", "kind"), {"small": {"*": "4"}, "large": {"input": "8", "output": "24"}}, per=1000),
]


def count(kit: MeterKit, company: str, model: str, kind: str, quantity: int, **how: Any) -> None:
    kit.record(TOKENS, company, quantity, dimensions={"model": model, "kind": kind}, **how)


@pytest.fixture
def make_selling_kit(make_kit: Callable[..., MeterKit]) -> Callable[..., MeterKit]:
    def make(**options: Any) -> MeterKit:
        return make_kit(CALLS, TOKENS, **{"prices": PRICES, "costs": COSTS, "customer_ids": False, **options})

    return make


@pytest.fixture
def kit(make_selling_kit: Callable[..., MeterKit]) -> MeterKit:
    """Acme earns 5 with calls and loses 7 with tokens; globex earns 6 with tokens."""
    kit = make_selling_kit()
    kit.record(CALLS, "acme", 10)
    count(kit, "acme", "large", "output", 500)
    count(kit, "globex", "small", "input", 900)
    count(kit, "globex", "small", "output", 100)
    return kit


def amounts(rows: tuple[Margin, ...]) -> list[tuple[str, str, str, str | None]]:
    """Name, revenue, cost and margin of each row."""
    return [
        (row.name, f"{row.revenue:f}", f"{row.cost:f}", None if row.margin is None else f"{row.margin.normalize():f}")
        for row in rows
    ]


def test_by_company(kit: MeterKit) -> None:
    """Those that lose money come first; the total is theirs."""
    found = kit.margin()

    assert [("acme", "10", "14", "-4"), ("globex", "10", "4", "6")] == amounts(found.rows)
    assert [("all", "20", "18", "2")] == amounts(found.totals)
    assert [Decimal("-40.0"), Decimal("60.0")] == [row.percent for row in found.rows]
    assert [True, False] == [row.loses for row in found.rows]
    assert ("1 company loses money: acme (-4.00 usd)",) == found.attention
    assert ("2026-03", "company", ()) == (found.month, found.by, found.unknown)


def test_by_meter_and_value(kit: MeterKit) -> None:
    """A meter's revenue is shared among its values by quantity; they add up to the same total."""
    of_meters, of_models, of_kinds = (kit.margin(by=by) for by in ("meter", "model", "kind"))

    assert [("calls", "5", "2", "3"), ("tokens", "15", "16", "-1")] == sorted(amounts(of_meters.rows))
    assert [("calls", "5", "2", "3"), ("large", "5", "12", "-7"), ("small", "10", "4", "6")] == sorted(
        amounts(of_models.rows)
    )
    assert [("input", "9", "3.6", "5.4"), ("output", "6", "12.4", "-6.4")] == sorted(amounts(of_kinds.rows))[1:]
    assert [("all", "20", "18", "2")] == amounts(of_models.totals) == amounts(of_kinds.totals)


def test_of_one_company(kit: MeterKit) -> None:
    """By meter, unless it is asked for otherwise; of nobody else."""
    assert [("calls", "5", "2", "3"), ("tokens", "5", "12", "-7")] == sorted(amounts(kit.margin(company="acme").rows))
    assert [("small", "10", "4", "6")] == amounts(kit.margin(company="globex", by="model").rows)
    assert () == kit.margin(company="nobody-knows").rows


def test_an_unknown_model_is_named(kit: MeterKit) -> None:
    """Neither its revenue nor a cost of 0 is in the margin; what has no model at all is named as well."""
    count(kit, "globex", "huge", "input", 1000)
    kit.record(TOKENS, "initech", 7)
    found = kit.margin()
    (globex,) = (row for row in found.rows if row.company == "globex")

    assert ("20", "10", "4", "6") == tuple(
        f"{each:f}" for each in (globex.revenue, globex.uncosted, globex.cost, globex.margin or 0)
    )
    assert ("tokens: huge / input",) == globex.unknown
    assert [("tokens: huge / input", 1000, 1), ("tokens: unknown / unknown", 7, 1)] == [
        (each.name, each.quantity, each.companies) for each in found.unknown
    ]
    assert "1 company loses money: acme (-4.00 usd)" == found.attention[0]
    assert found.attention[1] == (
        "Margin without 2 values whose cost is not known: tokens: huge / input (1,000), tokens: unknown / unknown (7). "
        "Add them to costs=, or update the package of prices"
    )


def test_a_meter_without_a_cost(make_selling_kit: Callable[..., MeterKit]) -> None:
    """It is said, because it counts as nothing."""
    kit = make_selling_kit(costs=COSTS[1:])
    kit.record(CALLS, "acme", 10)
    found = kit.margin()

    assert [("acme", "5", "0", "5")] == amounts(found.rows)
    assert "costs= says of no cost of calls: it counts as nothing." in found.notes


def test_what_nobody_pays_for(kit: MeterKit) -> None:
    """It costs, too: in a row of its own, and in the total."""
    count_of_nobody(kit, 250)
    found = kit.margin()

    assert ("(nobody)", "0", "6", "-6") in amounts(found.rows)
    assert [("all", "20", "24", "-4")] == amounts(found.totals)
    assert "1 company loses money: acme (-4.00 usd)" in found.attention


def test_a_meter_without_a_price(make_selling_kit: Callable[..., MeterKit]) -> None:
    """It only costs, which is said: it may have been paid ahead."""
    kit = make_selling_kit(prices=PRICES[:1])
    kit.record(CALLS, "acme", 10)
    count(kit, "acme", "large", "output", 500)
    found = kit.margin()

    assert [("acme", "5", "14", "-9")] == amounts(found.rows)
    assert "Nobody has a price of tokens, or has paid for it ahead: it brings in nothing here." in found.notes


def count_of_nobody(kit: MeterKit, quantity: int) -> None:
    """Count large output of nobody, as an exchange without a company does."""
    from meterkit.core.usage_key import VALUES, encoded_values

    event_name = f"tokens{VALUES}{encoded_values({'model': 'large', 'kind': 'output'})}"
    now = kit.clock()
    kit._supervisor.count([(("tokens", event_name, "", "", int(now) // 3600 * 3600), quantity)], now)


def test_a_corrected_cost_corrects_the_past(make_selling_kit: Callable[..., MeterKit], tmp_path: Path) -> None:
    """In the next report, without a restart, for a month that is over."""
    table = tmp_path / "costs.csv"
    table.write_text("model,kind,price\nlarge,*,30\n")
    kit = make_selling_kit(costs=[Cost.by(TOKENS, ("model", "kind"), table=table, per=1000)])
    count(kit, "acme", "large", "output", 500)
    before = amounts(kit.margin(month="2026-03").rows)
    table.write_text("model,kind,price\nlarge,*,3\n")

    assert [("acme", "5", "15", "-10")] == before
    assert [("acme", "5", "1.5", "3.5")] == amounts(kit.margin(month="2026-03").rows)


def test_a_cost_that_changes_within_the_month(
    make_selling_kit: Callable[..., MeterKit], clock: Any, tmp_path: Path
) -> None:
    """Each day's usage costs what that day's was; of what was used before the first day, it is not known."""
    table = tmp_path / "costs.csv"
    table.write_text("model,price,from\nlarge,10,2026-03-02\nlarge,20,2026-03-04\n")
    kit = make_selling_kit(costs=[Cost.by(TOKENS, "model", table=table, per=1000)])
    for day, quantity in enumerate((1, 10, 100, 1000, 10_000)):
        at = datetime.fromtimestamp(clock() + day * DAY, timezone.utc)
        clock.advance(day * DAY)
        count(kit, "acme", "large", "output", quantity, at=at)
        clock.advance(-day * DAY)
    clock.advance(5 * DAY)
    found = kit.margin()

    assert [("acme", "111.11", "221.1", "-110")] == amounts(found.rows)
    assert [("tokens: large", 1)] == [(each.name, each.quantity) for each in found.unknown]


def test_currencies_are_not_added_up(make_selling_kit: Callable[..., MeterKit]) -> None:
    """A margin of euros less dollars cannot be told; the company is in no total, and named."""
    kit = make_selling_kit(prices=[Price.per_unit(CALLS, "0.50", currency="eur")])
    kit.record(CALLS, "acme", 10)
    count(kit, "globex", "small", "input", 1000)
    found = kit.margin()

    assert [("acme", "eur"), ("acme", "usd"), ("globex", "usd")] == sorted(
        (row.name, row.currency) for row in found.rows
    )
    assert {("acme", None), ("globex", Decimal(-4))} == {(row.name, row.margin) for row in found.rows}
    assert [("all", "0", "4", "-4")] == amounts(found.totals)
    assert (
        "1 company is in no total (acme): revenue and cost are in different currencies, which are not added up"
        in found.attention
    )
    assert [("tokens", "0", "4", "-4")] == amounts(kit.margin(by="meter").rows)


def test_what_was_used_in_another_month(kit: MeterKit, clock: Any) -> None:
    """Only the calendar month counts."""
    kit.flush()
    clock.advance(35 * DAY)
    count(kit, "acme", "small", "input", 100)

    assert [("acme", "1", "0.4", "0.6")] == amounts(kit.margin().rows)
    assert [("all", "20", "18", "2")] == amounts(kit.margin(month="2026-03").totals)


def test_wrong_questions(kit: MeterKit, make_kit: Callable[..., MeterKit]) -> None:
    """Each says what could be asked."""
    with pytest.raises(UsageError, match="by= must be 'company', 'meter', 'model', 'kind', not 'user'"):
        kit.margin(by="user")
    with pytest.raises(UsageError, match="is not a month"):
        kit.margin(month="March")
    with pytest.raises(ConfigurationError, match="this kit has no costs="):
        make_kit(CALLS).margin()


def test_an_empty_month(make_selling_kit: Callable[..., MeterKit]) -> None:
    """There is nothing in it, and nothing to attend to."""
    found = make_selling_kit().margin(month="2025-01")

    assert MarginReport("2025-01", "company", (), (), (), (), found.notes) == found
    assert () == found.attention


def test_prices_by_value(make_selling_kit: Callable[..., MeterKit], stripe: Any) -> None:
    """Revenue of values is what they were rated at; the amounts are no meter of their own."""
    price = Price.by(TOKENS, "model", {"small": "0.005", "large": "0.05", "huge": "0.1"})
    kit = make_selling_kit(prices=[price], costs=COSTS[1:])
    count(kit, "acme", "small", "input", 1000)
    count(kit, "acme", "large", "output", 100)
    count(kit, "acme", "huge", "output", 10)
    by_company, by_meter, by_model = kit.margin(), kit.margin(by="meter"), kit.margin(by="model")

    assert [("acme", "11", "6.4", "3.6")] == amounts(by_company.rows)
    assert [("tokens", "11", "6.4", "3.6")] == amounts(by_meter.rows)
    assert [("huge", "1", "0", "0"), ("small", "5", "4", "1"), ("large", "5", "2.4", "2.6")] == amounts(by_model.rows)
    assert Decimal(1) == by_company.rows[0].uncosted
    assert not [note for note in by_company.notes if "millionths" in note]
