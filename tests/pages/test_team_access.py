"""Who sees the team's pages: whom ``team=`` lets in, and nobody else, in every stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from adapter_stacks import Stack
from page_browser import Browser
from team_tables import STAFF

from meterkit import MeterKit, Pages

ADDRESSES = [
    "/billing/team",
    "/billing/team/",
    *(
        f"/billing/team/{page}"
        for page in ("usage", "companies", "company?id=acme", "hours?id=acme", "waiting", "notices", "health")
    ),
    "/billing/team/usage?format=csv",
]


@pytest.fixture
def make_browser(stack: Stack, make_kit: Callable[..., MeterKit]) -> Callable[..., Browser]:
    def make(**options: Any) -> Browser:
        kit = make_kit(**options)
        kit.record("calls", "acme", 3)
        kit.flush()
        return Browser(stack, stack.make(kit), {"X-Company": "acme"})

    return make


def test_the_team_sees_them(make_browser: Callable[..., Browser]) -> None:
    """On each page, under the strict policy."""
    browser = make_browser()
    pages = [browser.get(address, headers=STAFF) for address in ADDRESSES]

    assert {200} == {page.status for page in pages}
    assert {("'self'",)} == {tuple(page.policy["script-src"]) for page in pages[:-1]}
    assert {"no-store"} == {page.headers["cache-control"] for page in pages}


@pytest.mark.parametrize("team", [None, lambda exchange: exchange.headers.get("x-staff") == "yes"])
def test_nobody_else_does(make_browser: Callable[..., Browser], team: Any) -> None:
    """Neither a customer nor who is not known; the pages are not there for them, and say nothing of a company."""
    browser = make_browser(pages=Pages("/billing", team=team))
    pages = [browser.get(address, headers=who) for address in ADDRESSES for who in ({}, {"X-Company": ""})]

    assert {404} == {page.status for page in pages}
    assert not [page for page in pages if "companies" in page.text or "CSV" in page.text]


def test_a_page_is_only_read(make_browser: Callable[..., Browser]) -> None:
    """Nothing can be posted to it."""
    browser = make_browser()

    assert 405 == browser.post("/billing/team/companies", **STAFF).status
