"""Retry policy for calls to Stripe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from meterkit.core.threads import Event
from meterkit.stripe_api.outcomes import Outcome

TRIES = 4
"""Attempts in a row; after that, the event waits for the next pass."""

MAX_WAIT = 8.0
"""The most seconds between two attempts."""

V = TypeVar("V", Outcome, Outcome | None)


class RetryPolicy:
    """
    Repeats calls that may succeed the next time, with exponential delays.

    Args:
        stop: Event that ends attempts and delays when set.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def __call__(self, call: Callable[[], V]) -> V:
        """Call *call* until its outcome needs no retry, and return the last outcome."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda outcome: outcome is not None and outcome.retry),
            stop=lambda state: state.attempt_number >= TRIES or self._stop.is_set(),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=MAX_WAIT),
            sleep=self._sleep,
            retry_error_callback=_last_outcome,
        )
        return retrying(call)

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)


def _last_outcome(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
