"""A sandbox whose time stands still on 1 March 2026, and real clients that talk to it."""

from __future__ import annotations

import httpx
import pytest
from guard import GUARD
from sandbox_shop import START, Shop

from meterkit.sandbox import Sandbox


@pytest.fixture
def make_shop():
    """A function that opens a shop on a sandbox with the given switches."""
    opened = []

    def make(**switches):
        sandbox = Sandbox(**{"now": START, **switches})
        sandbox.start()
        shop = Shop(sandbox)
        opened.append(shop)
        return shop

    yield make
    for shop in opened:
        shop.http.close()
        shop.sandbox.stop()


@pytest.fixture
def shop(make_shop):
    """A shop on a sandbox with the default switches."""
    return make_shop()


@pytest.fixture
def sandbox(shop):
    """The sandbox of the shop."""
    return shop.sandbox


@pytest.fixture
def raw(sandbox):
    """An HTTP client for what no library would send."""
    with httpx.Client(
        base_url=sandbox.url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, timeout=GUARD
    ) as client:
        yield client
