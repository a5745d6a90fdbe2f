"""A real Chromium, a sandbox as Stripe, and the shop on a real server of each framework."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from served_shop import SERVERS, shop_on

from meterkit.sandbox import Sandbox

pytest.register_assert_rewrite("visit")

from visit import Visit  # noqa: E402 - after the line above

REQUIRED = os.environ.get("METERKIT_BROWSER") == "required"
"""Whether a machine without a browser fails these tests, as in ``nox -s browser``; elsewhere it skips them."""


def pytest_collection_modifyitems(items):
    """A browser takes long."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def chromium():
    """A Chromium of this machine, without a window."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if program is None or sync_playwright is None:
        missing = "there is no Chromium (Debian: apt-get install chromium)" if program is None else "no playwright"
        message = f"{missing}: nothing was looked at in a browser; see nox -s browser"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def stripe(monkeypatch):
    """A Stripe account whose time stands still until it is told to advance: ten past twelve on 1 March 2026."""
    with Sandbox(now=1_772_367_000) as sandbox:
        yield sandbox


@pytest.fixture(params=SERVERS)
def framework(request):
    """Each framework in turn."""
    return request.param


@pytest.fixture
def served(framework, stripe, tmp_path):
    """The URL of the shop, served in a process of its own."""
    with shop_on(framework, stripe, tmp_path) as url:
        yield url


@pytest.fixture
def visit(chromium, served):
    """A window at the shop, which hears of each error; at the end there were none."""
    with Visit(chromium, served) as visit:
        yield visit
        visit.check()
