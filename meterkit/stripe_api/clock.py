"""
Stripe's clock, read from its responses.

How long ago an event was sent decides whether it may be sent again, for Stripe forgets identifiers by its own clock.
This machine's clock may have been set since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import stripe

from meterkit.stripe_api.outcomes import is_stripes


class StripeClock:
    """
    Tells Stripe's time, from when it was last asked for on.

    Args:
        client: Of stripe-python.
        clock: Unix time in seconds, for an answer that does not tell the time: a proxy may have taken that off.
    """

    def __init__(self, client: stripe.StripeClient, *, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._told = 0.0
        self._told_at = 0.0

    def ask(self) -> None:
        """
        Ask Stripe for the time, by one cheap request.

        Raises:
            stripe.StripeError: Stripe did not answer.
        """
        try:
            headers = _headers(self._client.v1.billing.meters.list({"limit": 1}))
        except stripe.StripeError as error:
            if not is_stripes(error):
                raise
            headers = error.headers or {}  # a refusal tells the time as well
        self._told = _date(headers) or self._clock()
        self._told_at = time.monotonic()

    def now(self) -> int:
        """Unix time in seconds; never later than Stripe's, whatever happens to this machine."""
        return int(self._told + time.monotonic() - self._told_at)


def _headers(answer: stripe.StripeObject) -> Mapping[str, str]:
    return {} if answer.last_response is None else answer.last_response.headers


def _date(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None
