"""The team's page of margins, and everywhere that costs must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapter_stacks import STACKS
from page_browser import Browser
from page_kits import CALLS, is_staff, whose
from team_tables import STAFF, of_team, rows_of

from meterkit import Cost, Meter, MeterKit, Notify, Pages, Price
from meterkit.pages.team import kept

TOKENS = Meter("tokens", http=False, by="model")
PRICES = [Price.per_unit(CALLS, "0.50"), Price.per_unit(TOKENS, "0.01")]
SECRET = "0.0731"
"""An amount that stands nowhere else."""


@pytest.fixture
def make_priced_kit(make_kit: Callable[..., MeterKit]) -> Callable[..., MeterKit]:
    def make(**options: Any) -> MeterKit:
        defaults: dict[str, Any] = {
            "prices": PRICES,
            "costs": [Cost.per_unit(CALLS, SECRET), Cost.by(TOKENS, "model", {"large": "0.02"})],
            "identify": whose,
            "pages": Pages("/billing", team=is_staff),
            "customer_ids": False,
        }
        return make_kit(CALLS, TOKENS, **{**defaults, **options})

    return make


@pytest.fixture
def kit(make_priced_kit: Callable[..., MeterKit]) -> MeterKit:
    kit = make_priced_kit()
    kit.record("calls", "acme", 1000)
    kit.record("tokens", "globex", 300, dimensions={"model": "large"})
    kit.record("tokens", "globex", 40, dimensions={"model": "huge"})
    kit.flush()
    return kit


@pytest.fixture
def browser(kit: MeterKit) -> Browser:
    stack = STACKS[0]
    return Browser(stack, stack.make(kit), {"X-Company": "acme"})


def test_by_company(browser: Browser) -> None:
    """The worst first, with what is to be noted; above the table, what needs attention."""
    rows = rows_of(browser, "margin")
    words = of_team(browser, "margin").words

    assert [("globex", "3.40", "6.00", "-3.00"), ("acme", "500.00", "73.10", "426.90")] == [
        (row["company"], row["revenue"], row["cost"], row["margin"]) for row in rows
    ]
    noted = "LOSES MONEY; without 1 of unknown cost, and its revenue of 0.40 usd: tokens: huge;"
    assert rows[0]["to be noted"].startswith(noted)
    assert "1 company loses money: globex (-3.00 usd)" in words
    assert "Margin without 1 value whose cost is not known: tokens: huge (40)" in words


def test_by_value_and_of_a_company(browser: Browser) -> None:
    """As the form asks; what is no choice is as if nothing was asked."""
    by_model = rows_of(browser, "margin", by="model")
    of_acme = rows_of(browser, "margin", company="acme")

    assert ["large", "huge", "calls"] == [row["model"] for row in by_model]
    assert [("calls", "426.90")] == [(row["meter"], row["margin"]) for row in of_acme]
    assert of_team(browser, "margin").words == of_team(browser, "margin", by="colour", month="2999-01").words


def test_many_companies(kit: MeterKit, browser: Browser) -> None:
    """A hundred on a page, and a link to the next."""
    for number in range(120):
        kit.record("calls", f"company-{number:03d}", 1)
    kit.flush()

    first, second = (browser.get(f"/billing/team/margin?page={page}", headers=STAFF) for page in (1, 2))

    assert 122 == sum(page.text.count("team/margin?month=2026-03&amp;company=") for page in (first, second))
    assert ("Next page" in first.words, "Next page" in second.words) == (True, False)


def test_while_it_is_added_up(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not wait."""
    monkeypatch.setattr(kept, "PATIENCE", 0)
    page = of_team(browser, "margin")

    assert 200 == page.status


def test_a_file_of_costs_that_breaks(make_priced_kit: Callable[..., MeterKit], tmp_path: Path) -> None:
    """The page says what is wrong with it."""
    table = tmp_path / "costs.csv"
    table.write_text("model,price\nlarge,1\n")
    kit = make_priced_kit(costs=[Cost.by(TOKENS, "model", table=table)])
    table.write_text("model,price\nlarge,cheap\n")
    stack = STACKS[0]

    assert "the price of 'large' must be an amount" in of_team(Browser(stack, stack.make(kit), STAFF), "margin").words


def test_a_kit_without_costs(make_priced_kit: Callable[..., MeterKit]) -> None:
    """It has no such page, and no link to it."""
    stack = STACKS[0]
    browser = Browser(stack, stack.make(make_priced_kit(costs=[])), STAFF)

    assert 404 == of_team(browser, "margin").status
    assert "Margin" not in of_team(browser).words


def test_who_sees_it(browser: Browser) -> None:
    """Only the team."""
    for who in ({}, {"X-Company": "acme"}, {"X-Company": ""}):
        page = browser.get("/billing/team/margin", headers=who)
        assert 404 == page.status


class Told:
    """A channel that keeps what it is handed."""

    name = "told"

    def __init__(self) -> None:
        self.notices: list[Any] = []

    def deliver(self, notice: Any) -> None:
        self.notices.append(notice)


def test_nobody_else_is_told(make_priced_kit: Callable[..., MeterKit], stripe: Any) -> None:
    """No page, statement, notice, figure, or request to Stripe has a cost in it, or what is left."""
    pytest.importorskip("prometheus_client")
    from prometheus_client import CollectorRegistry, generate_latest

    from meterkit.metrics import PrometheusCollector

    told = Told()
    kit = make_priced_kit(
        customer_page="/usage",
        notify=[Notify.threshold(to=told, meter=CALLS, units=800)],
        stripe_key=stripe.api_key,
        stripe_base=stripe.url,
    )
    kit.provision()
    kit.subscribe("acme")
    kit.sync()
    kit.record("calls", "acme", 1000)
    kit.report(include_open=True)
    dispatcher = kit.process().dispatcher
    dispatcher.evaluate()
    dispatcher.deliver("told")
    stack = STACKS[0]
    browser = Browser(stack, stack.make(kit), {"X-Company": "acme"})
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(kit))
    shown = [
        *(browser.get(address).text for address in ("/billing", "/usage", "/billing?format=csv")),
        json.dumps(kit.statement("acme"), default=str),
        json.dumps(kit.health(), default=str),
        generate_latest(registry).decode(),
        repr(told.notices),
        repr(kit.usage()),
        repr(kit.explain("acme", "calls")),
        *(repr(each) for each in stripe.requests),
    ]

    assert 1 == len(kit.margin().rows)
    assert told.notices
    assert [text for text in shown if "500.00" in text]
    for text in shown:
        assert text
        for secret in (SECRET, "73.1", "426.9", "margin", "genai"):
            assert secret not in text.lower(), text
