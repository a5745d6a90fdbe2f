"""
The pytest fixture ``stripe_sandbox``: a local Stripe double for an application's own tests.

Pytest loads this module by itself. The sandbox is imported only when a test uses the fixture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meterkit.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "stripe_sandbox(**switches): arguments for the fixture's Sandbox")


@pytest.fixture
def stripe_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    Yield a sandbox to which the test's kits report. Its clock stands still until the test advances it.

    ``STRIPE_SECRET_KEY`` and ``METERKIT_STRIPE_BASE`` point to it. ``@pytest.mark.stripe_sandbox(event_lag=60)`` passes
    arguments to it.
    """
    from meterkit.sandbox import Sandbox

    marker = request.node.get_closest_marker("stripe_sandbox")
    switches = {"now": time.time(), **({} if marker is None else marker.kwargs)}
    with Sandbox(**switches) as sandbox:
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        yield sandbox
