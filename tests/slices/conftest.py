"""Kits under exact quotas."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from governed import CALLS, Governed

from meterkit import Governance
from meterkit.slices import slice as slice_module
from meterkit.slices import slices as slices_module


@pytest.fixture
def govern(make_kit):
    """A function that makes kits of one `Governance`, each of which has looked once."""

    def make(*quotas, meters=(CALLS,), **options):
        def whose(exchange):
            return exchange.headers["x-company"]

        return Governed(make_kit(*meters, identify=whose, governance=Governance(quotas=quotas), **options))

    return make


@pytest.fixture
def pace(monkeypatch):
    """A clock by which pace is measured; it goes on a millisecond with each look."""
    now = iter(range(1, 10**9))
    monkeypatch.setattr(slice_module, "time", SimpleNamespace(monotonic=lambda: next(now) / 1000))


@pytest.fixture
def in_background(monkeypatch):
    """What would be done in the background, to be called."""
    work = []
    monkeypatch.setattr(slices_module, "DaemonThread", lambda do, name: work.append(do))
    return work
