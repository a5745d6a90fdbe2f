"""A service that takes usage events."""

from __future__ import annotations

import pytest
from served_events import Served

from meterkit import Meter


@pytest.fixture
def serve(make_kit):
    """A function that serves a kit with *meters*, by default ``tokens``."""

    def make(*meters, options=None, **service):
        kit = make_kit(*(meters or [Meter("tokens", event_type="prompt", value="$.tokens")]), **(options or {}))
        return Served(kit, **service)

    return make
