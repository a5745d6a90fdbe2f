"""
Pytest plugin: each test has an empty journal and ledger, and the fixture ``stripe_sandbox`` plays Stripe.

Pytest loads this module by itself. The sandbox is imported only when a test uses the fixture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from meterkit.runtime import isolation

if TYPE_CHECKING:
    from meterkit.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and isolate kits that count between two tests, such as in a session's fixture."""
    config.addinivalue_line("markers", "stripe_sandbox(**switches): arguments for the fixture's Sandbox")
    session = ExitStack()
    session.enter_context(isolation.own_directories(project=config.rootpath))
    config.add_cleanup(session.close)


@pytest.fixture(autouse=True)
def meterkit_isolation(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Give the kits of the application an empty journal and ledger for each test, and take both away afterwards.

    A kit whose ``data_dir=`` is in pytest's or the system's temporary directory keeps it: a test made it.
    """
    with isolation.own_directories(project=pytestconfig.rootpath, own=tmp_path_factory.getbasetemp):
        yield


@pytest.fixture
def stripe_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    Yield a sandbox to which kits report in this test. Its clock stands still until the test advances it.

    The application's kits report to it, and so do kits that the test builds: ``STRIPE_SECRET_KEY`` and
    ``METERKIT_STRIPE_BASE`` point to it. ``@pytest.mark.stripe_sandbox(event_lag=60)`` passes arguments to it.
    """
    from meterkit.sandbox import Sandbox

    marker = request.node.get_closest_marker("stripe_sandbox")
    switches = {"now": time.time(), **({} if marker is None else marker.kwargs)}
    with Sandbox(**switches) as sandbox, isolation.own_account(sandbox.api_key, sandbox.url):
        monkeypatch.setenv("STRIPE_SECRET_KEY", sandbox.api_key)
        monkeypatch.setenv("METERKIT_STRIPE_BASE", sandbox.url)
        yield sandbox
