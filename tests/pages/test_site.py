"""The pages below one path: in every stack, for whom they are, under a strict policy, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from adapter_stacks import Stack
from page_browser import Browser
from page_kits import CALLS

from meterkit import Governance, MeterKit, Quota


@pytest.fixture
def browser(stack: Stack, make_kit: Callable[..., MeterKit]) -> Browser:
    kit = make_kit(governance=Governance(quotas=[Quota(CALLS, 1)]))
    return Browser(stack, stack.make(kit), {"X-Company": "acme"})


@pytest.mark.parametrize("address", ["/billing", "/billing/"])
def test_with_and_without_a_slash(browser: Browser, address: str) -> None:
    """The same page, whose links lead to the same files."""
    page = browser.get(address)
    files = [browser.follow(address, link) for link in page.links if ".css" in link]

    assert (200, "text/html; charset=utf-8") == (page.status, page.headers["content-type"])
    assert {200} == {file.status for file in files}
    assert {"text/css; charset=utf-8"} == {file.headers["content-type"] for file in files}
