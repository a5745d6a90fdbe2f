"""Retry policy for calls to Stripe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from meterkit.core.threads import Event
from meterkit.stripe_api.outcomes import Outcome

TRIES = 4
"""In a row; after that the next pass goes on."""

MAX_WAIT = 8.0
"""Seconds between two tries, at most."""

V = TypeVar("V", Outcome, Outcome | None)


class RetryPolicy:
    """
    Calls again what may succeed the next time.

    Args:
        stop: When set, it tries no more, and waits no longer.
    """

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def __call__(self, call: Callable[[], V]) -> V:
        """What *call* answers at last."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda verdict: verdict is not None and verdict.retry),
            stop=lambda state: state.attempt_number >= TRIES or self._stop.is_set(),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=MAX_WAIT),
            sleep=self._rest,
            retry_error_callback=_last_verdict,
        )
        return retrying(call)

    def _rest(self, seconds: float) -> None:
        self._stop.wait(seconds)


def _last_verdict(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
