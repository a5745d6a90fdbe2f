"""The one limit of time in the tests. It ends what hangs, and decides nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

GUARD = 300
"""Seconds after which a wait that never ends fails the test instead: far more than anything takes on a busy machine."""


def tries(said: Callable[[], str] = str) -> Iterator[None]:
    """For a loop that asks again and again until it is so. If that never happens it fails, with what *said* returns."""
    end = time.monotonic() + GUARD
    while time.monotonic() < end:
        yield
    raise AssertionError(f"it is not so, and will not be: {said()}")


UNHURRIED = f"""
from meterkit.ledger import database
from meterkit.runtime import process
database.PATIENCE = database.HURRY = process.STOP_SECONDS = process.LAST_REPORT_SECONDS = {GUARD}
"""
"""What a script begins with whose process may be slow, and is not to give up for that."""
