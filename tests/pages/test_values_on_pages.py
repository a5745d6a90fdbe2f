"""What was used of which values, on the pages of the team and of the customer, and in statements."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from page_browser import Browser
from page_kits import CALLS
from team_tables import of_team, rows_of

from meterkit import Meter, MeterKit
from meterkit.accounts.statement import MOST_VALUES
from meterkit.core.windows import hour_of

TOKENS = Meter("tokens", path="/none", value="tokens", by=("model", "kind"))


@pytest.fixture
def kit(make_kit: Callable[..., MeterKit]) -> MeterKit:
    kit = make_kit(CALLS, TOKENS)
    for company, model, kind, quantity in (
        ("acme", "small", "input", 50),
        ("acme", "<b>large</b>", "output", 30),
        ("globex", "small", "input", 7),
    ):
        kit.record("tokens", company, quantity, dimensions={"model": model, "kind": kind})
    kit.record("tokens", "acme", 4)
    kit.record("calls", "acme", 9)
    kit.flush()
    return kit


@pytest.fixture
def browser(open_page: Callable[..., Browser], kit: MeterKit) -> Browser:
    return open_page(kit)


ALL = [("small", "input", "57"), ("<b>large</b>", "output", "30"), ("unknown", "unknown", "4")]
OF_ACME = [("small", "input", "50"), ("<b>large</b>", "output", "30"), ("unknown", "unknown", "4")]


def values(rows: list[dict[str, str]], last: str = "used") -> list[tuple[str, str, str]]:
    return [(row["model"], row["kind"], row[last]) for row in rows]


def test_the_team_sees_usage_by_values(browser: Browser, kit: MeterKit, clock: Any) -> None:
    """Of all companies and of one, of a company's billing period, and of an hour; as CSV too."""
    hour = str(hour_of(int(clock())))

    assert values(rows_of(browser, "usage", "values", meter="tokens")) == ALL
    assert values(rows_of(browser, "usage", "values", meter="tokens", company="acme", months="3")) == OF_ACME
    assert values(rows_of(browser, "company", "values-tokens", id="acme")) == OF_ACME
    assert sorted(OF_ACME) == sorted(
        values(rows_of(browser, "hour", "values", id="acme", meter="tokens", window=hour), "quantity")
    )
    assert "&lt;b&gt;large&lt;/b&gt;" in of_team(browser, "company", id="acme").text
    assert "values" not in of_team(browser, "usage", meter="calls").text


def test_a_customer_sees_its_own(browser: Browser, kit: MeterKit) -> None:
    """And nobody else's; what could be markup is text."""
    page = browser.get("/billing/")

    assert 200 == page.status
    assert "&lt;b&gt;large&lt;/b&gt;" in page.text
    assert "<b>large" not in page.text
    assert {"dimensions": ["model", "kind"], "more": {"combinations": 0, "used": 0}} == {
        name: each for name, each in kit.statement("acme")["meters"][1]["by"].items() if name != "used"
    }
    assert [["small", "input"]] == [each["values"] for each in kit.statement("globex")["meters"][1]["by"]["used"]]
    assert "by" not in kit.statement("acme")["meters"][0]


def test_a_statement_lists_what_is_used_most(make_kit: Callable[..., MeterKit]) -> None:
    """Of many models, the rest together; the sum is the meter's."""
    kit = make_kit(TOKENS)
    for number in range(MOST_VALUES + 20):
        kit.record("tokens", "acme", number + 1, dimensions={"model": f"m{number}"})
    kit.flush()
    meter = json.loads(json.dumps(kit.statement("acme")))["meters"][0]
    by = meter["by"]

    assert {"combinations": 20, "used": sum(range(1, 21))} == by["more"]
    assert meter["used"] == by["more"]["used"] + sum(each["used"] for each in by["used"])
    assert [f"m{MOST_VALUES + 19}", ""] == by["used"][0]["values"]
