"""List prices of language models: what the package knows of a token of each kind, and of the days they changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from meterkit import ConfigurationError, Cost, Meter, MeterKit, llm

genai_prices = pytest.importorskip("genai_prices")

TOKENS = Meter("tokens", http=False, by=("model", "kind"))
OUTPUT = Meter("output", http=False)


def second(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp())


MARCH, APRIL = second("2026-03-01"), second("2026-04-01")


def per_million(model: str, kind: str, **how: Any) -> Decimal | None:
    (rate,) = Cost.genai_prices(TOKENS, **how).source.current().of((model, kind), MARCH, APRIL)
    return None if rate.each is None else rate.each * 1_000_000


@pytest.mark.parametrize(
    ("model", "kind", "price"),
    [
        ("gpt-4o", "input", "2.5"),
        ("gpt-4o", "cached_input", "1.25"),
        ("gpt-4o", "output", "10"),
        ("gpt-4o", "reasoning", "10"),
        ("claude-sonnet-4-20250514", "input", "3"),
        ("claude-sonnet-4-20250514", "cached_input", "0.3"),
        ("claude-sonnet-4-20250514", "cache_write", "3.75"),
        ("claude-sonnet-4-20250514", "output", "15"),
    ],
)
def test_what_a_token_costs(model: str, kind: str, price: str) -> None:
    """Kinds of ours are disjoint; the package's totals include the others, and it is asked accordingly."""
    assert Decimal(price) == per_million(model, kind)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("gpt-47-giant", "input"), ("", "input"), ("other", "input"), ("gpt-4o", "thought"), ("gpt-4o", "")],
)
def test_what_it_does_not_know(model: str, kind: str) -> None:
    """It has no known cost, which is not 0."""
    assert per_million(model, kind) is None


def test_a_response_costs_what_the_package_says(make_kit: Callable[..., MeterKit]) -> None:
    """The same as that computes for the response itself, where its price depends on no single request."""
    body: dict[str, Any] = {
        "model": "gpt-4o",
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 640},
        },
    }
    kit = make_kit(TOKENS, costs=[Cost.genai_prices(TOKENS)], customer_ids=False)
    usage = llm.usage_of(body)
    for kind in llm.KINDS:
        if usage.count(kind):
            kit.record(TOKENS, "acme", usage.count(kind), dimensions={"model": usage.model, "kind": kind})
    expected = genai_prices.extract_usage(body, provider_id="openai", api_flavor="chat").calc_price().total_price

    assert expected == kit.margin().rows[0].cost


def test_a_provider_that_is_told() -> None:
    """Where the model's name does not tell whose it is, the dimension does."""
    meter = Meter("tokens", http=False, by=("model", "kind", "provider"))
    cost = Cost.genai_prices(meter)
    table = cost.source.current()
    (by_name,) = table.of(("text-embedding-3-small", "input", ""), MARCH, APRIL)
    (told,) = table.of(("text-embedding-3-small", "input", "openai"), MARCH, APRIL)
    (gemini,) = table.of(("gemini-2.5-flash", "output", "gemini"), MARCH, APRIL)

    assert ("model", "kind", "provider") == cost.dimensions
    assert (None, Decimal("0.00000002"), Decimal("0.0000025")) == (by_name.each, told.each, gemini.each)


def test_fixed_values() -> None:
    """Of a meter without dimensions, the model and the kind are told where it is declared."""
    cost = Cost.genai_prices(OUTPUT, model="gpt-4o", kind="output")
    (rate,) = cost.source.current().of((), MARCH, APRIL)

    assert ((), Decimal("0.00001")) == (cost.dimensions, rate.each)


def test_in_another_currency() -> None:
    """At the rate that is given."""
    assert Decimal("2.15") == per_million("gpt-4o", "input", currency="eur", exchange_rate="0.86")
    assert "eur" == Cost.genai_prices(TOKENS, currency="EUR", exchange_rate="0.86").currency


def test_a_price_that_changed() -> None:
    """Each day has its own: o3 became cheaper on 10 June 2025."""
    rates = Cost.genai_prices(TOKENS).source.current().of(("o3", "input"), second("2025-06-01"), second("2025-07-01"))

    assert [(second("2025-06-01"), Decimal("0.00001")), (second("2025-06-10"), Decimal("0.000002"))] == [*rates]


WRONG: dict[str, Any] = {
    "for another currency, give both": lambda: Cost.genai_prices(TOKENS, currency="eur"),
    "by= must name the dimensions of kind, and optionally": lambda: Cost.genai_prices(
        TOKENS, model="gpt-4o", by=("model", "kind", "model2")
    ),
    "no kind of token; did you mean 'input'": lambda: Cost.genai_prices(TOKENS, kind="inputs"),  # type: ignore[arg-type]
    "has no dimension 'model'": lambda: Cost.genai_prices(OUTPUT),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    """Each is refused with what to write instead."""
    with pytest.raises(ConfigurationError, match=message):
        WRONG[message]()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The complaint says how to install it."""
    monkeypatch.setattr("meterkit.margin.model_prices.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'meterkit\[genai-prices\]'"):
        Cost.genai_prices(TOKENS)
