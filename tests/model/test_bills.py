"""
Whatever is done to an account, in any order: the kit says what Stripe bills, or why it cannot tell.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import os

import pytest
from figures import note_figure
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from model_bills import COUNTED, Bills

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "5"))
STEPS = 12
"""In one life of an account; each is followed by a comparison of all bills."""


def test_previews_are_what_is_billed():
    """Or say what they do not know; and no cap blocks below its amount."""
    COUNTED.clear()
    run_state_machine_as_test(
        Bills,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    note_figure("bills", examples=EXAMPLES, steps=STEPS, **COUNTED)
    assert COUNTED["known"] > COUNTED.get("unknown", 0)
