"""What customers and the team see of wallets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from page_browser import Browser
from team_tables import of_team, rows_of

from meterkit import Meter, MeterKit, Wallet

TOKENS = Meter("tokens", http=False, billable=False)
CREDITS = Wallet("credits", unit="credits", spends={TOKENS: "0.5"})
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "customer-page.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def prepaid(make_kit: Callable[..., MeterKit]) -> MeterKit:
    """A kit with a wallet, which acme and globex have been granted something in."""
    kit = make_kit(TOKENS, wallets=[CREDITS])
    kit.grant("acme", "credits", 1_000, key="pay-1", by="ann@shop.example")
    kit.grant("acme", "credits", 50, key="pay-2")
    kit.grant("globex", "credits", 777, key="pay-3")
    kit.revoke("acme", "credits", "pay-2", amount=20)
    kit.record("tokens", "acme", 41)
    kit.flush()
    return kit


def test_the_statement(prepaid: MeterKit) -> None:
    """As the schema has it: the balance, the grants and the movements of that company, and nothing of who granted."""
    found = prepaid.statement("acme")
    (wallet,) = found["wallets"]

    Draft202012Validator(SCHEMA).validate(found)
    assert ("1009.5", "1050", "20.5", "20") == tuple(
        wallet[name] for name in ("balance", "granted", "spent", "revoked")
    )
    assert [("1000", "979.5"), ("50", "30")] == [(each["amount"], each["remaining"]) for each in wallet["grants"]]
    assert [("grant", "1000"), ("grant", "50"), ("revocation", "-20"), ("usage", "-20.5")] == sorted(
        (each["cause"], each["amount"]) for each in wallet["movements"]
    )
    assert "ann@shop.example" not in json.dumps(found)


def test_a_kit_without_wallets(make_kit: Callable[..., MeterKit]) -> None:
    """Says nothing of them."""
    assert "wallets" not in make_kit().statement("acme")


def test_what_a_customer_sees(prepaid: MeterKit, open_page: Callable[..., Browser]) -> None:
    """The balance, and what has led to it; of nobody else."""
    page = open_page(prepaid).get("/billing")

    assert 200 == page.status
    for text in ("1009.5 credits", "Balance: credits", "Usage: tokens", "Taken back", "979.5"):
        assert text in page.words
    assert "777" not in page.words


def test_what_the_team_sees(prepaid: MeterKit, open_page: Callable[..., Any]) -> None:
    """The same, on the page of the company."""
    page = of_team(open_page(prepaid), "company", id="acme")

    assert 200 == page.status
    for text in ("Balance of credits", "1009.5 credits", "Grants of credits", "Movements of credits", "revocation"):
        assert text in page.words
    assert ["979.5", "30"] == [row["left"] for row in rows_of(open_page(prepaid), "company", "grants-1", id="acme")]
