"""What the tests of adapters share: what a kit has counted, and what Django leaves behind."""

from __future__ import annotations

import pytest
from guard import GUARD

from meterkit import MeterKit

DJANGO_LEAVES_ITS_FILE = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)
"""Django's ASGI handler forgets the request's body, and the response, when the server cannot send or cancels it."""


def usage_of(kit: MeterKit) -> dict[str, int]:
    """What *kit* has counted so far, by meter."""
    kit.flush()
    total: dict[str, int] = {}
    for row in kit.usage():
        total[row.meter] = total.get(row.meter, 0) + row.quantity
    return total


def looked_once(kit: MeterKit) -> None:
    """Wait until *kit*, which governs, has its first snapshot, against which requests are checked."""
    assert kit.governor is not None
    kit.governor.begin()
    assert kit.governor.ready.wait(GUARD)
    kit.flush()
