"""
Whatever happens to processes that draw slices, in any order: nothing is overdrawn, and nothing is lost.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import os

import pytest
from figures import note_figure
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from model_slices import SlicesMachine

EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "3"))
STEPS = 40


@pytest.mark.long
def test_slices_are_never_overdrawn():
    """By requests and holds, through kills, hand-overs, closes, and commits of which nobody knows the outcome."""
    run_state_machine_as_test(
        SlicesMachine,
        settings=settings(
            max_examples=3 * EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    note_figure("slices", examples=3 * EXAMPLES, steps=STEPS)
