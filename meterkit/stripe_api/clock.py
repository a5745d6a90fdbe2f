"""
Stripe's clock, read from its responses.

The age of an attempt decides whether an event may be resent, because Stripe expires identifiers by its own clock.
This machine's clock may have been changed in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import stripe

from meterkit.stripe_api.outcomes import is_from_stripe


class StripeClock:
    """
    Stripe's time, extrapolated from its latest response.

    Args:
        client: Client of stripe-python.
        clock: Function that returns Unix seconds, for responses without a date: a proxy may have removed it.
    """

    def __init__(self, client: stripe.StripeClient, *, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._time = 0.0
        self._read_at = 0.0

    def ask(self) -> None:
        """
        Read the time from Stripe, by one cheap request.

        Raises:
            stripe.StripeError: Stripe did not respond.
        """
        try:
            headers = _headers(self._client.v1.billing.meters.list({"limit": 1}))
        except stripe.StripeError as error:
            if not is_from_stripe(error):
                raise
            headers = error.headers or {}  # a refusal has a date as well
        self._time = _date(headers) or self._clock()
        self._read_at = time.monotonic()

    def now(self) -> int:
        """Return Unix seconds; never later than Stripe's time, whatever happens to this machine's clock."""
        return int(self._time + time.monotonic() - self._read_at)


def _headers(found: stripe.StripeObject) -> Mapping[str, str]:
    return {} if found.last_response is None else found.last_response.headers


def _date(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None
