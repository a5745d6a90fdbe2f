"""
A pocket Stripe for other people's tests: the fixture ``stripe_sandbox`` of pytest, which finds it by itself.

Imports nothing of the sandbox before a test asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meterkit.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "stripe_sandbox(**switches): what the fixture's Sandbox is made with")


@pytest.fixture
def stripe_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    A pocket Stripe whose time stands still until it is advanced, and to which kits of the test report.

    ``STRIPE_SECRET_KEY`` and ``METERKIT_STRIPE_BASE`` name it. ``@pytest.mark.stripe_sandbox(event_lag=60)`` sets its
    switches.
    """
    from meterkit.sandbox import Sandbox

    marker = request.node.get_closest_marker("stripe_sandbox")
    switches = {"now": time.time(), **({} if marker is None else marker.kwargs)}
    with Sandbox(**switches) as sandbox:
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        yield sandbox
