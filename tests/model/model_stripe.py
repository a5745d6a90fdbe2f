"""The model's Stripe: an account with some customers and meters, of which all that was received is told by the hour."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import stripe as stripe_python
from guard import GUARD
from model_clocks import HOUR
from model_tally import Key

from meterkit.sandbox import Sandbox

GONE = "cus_gone"
"""A customer that Stripe does not know."""

KINDS = ["409", "429", "500", "500_after", "502", "502_after", "empty", "html", "lock_timeout"]
KINDS += ["reset_after", "reset_before", "slow", "timeout_after", "timeout_before"]

LOST = ["500_after", "502_after", "empty", "html", "reset_after"]
"""Those after which Stripe has done its work, and nobody was told."""

UNVERIFIED = {
    "rejected_consumes_identifier": [False, True],
    "unknown_customer": ["sync", "async"],
    "identifier_scope": ["account", "event_name", "customer"],
    "event_lag": [0, 120],
    "concurrency": ["endpoint-concurrency", "lock_timeout", "off"],
    "duplicate_window": [24 * HOUR, 40 * 24 * HOUR],
    "summary_end": ["exclusive", "inclusive"],
    "empty_buckets": [False, True],
}
"""What nobody outside Stripe knows: whatever it is, nothing may be lost or billed twice."""


class Stripe(Sandbox):
    """A sandbox that can be asked to finish whatever it is working on."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._in_work = 0
        self._idle = threading.Condition()

    def make_customer(self) -> str:
        """A customer; answers its id."""
        return self._api().customers.create({}).id

    def make_meter(self, event_name: str) -> None:
        """The meter, unless it is there."""
        with suppress(stripe_python.InvalidRequestError):
            self._api().billing.meters.create(
                {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": "sum"}}
            )

    def recover(self) -> None:
        """Let what it holds go on to its end, and fail no more."""
        self.heal()
        with self._idle:
            assert self._idle.wait_for(lambda: not self._in_work, GUARD), "a request does not end"

    def billed(self, payer: Callable[[str], str | None]) -> Counter[Key]:
        """What goes on invoices, by meter, payer and hour."""
        sums: Counter[Key] = Counter()
        for event in self.meter_events:
            if event.error_code is None:
                hour = event.timestamp - event.timestamp % HOUR
                sums[event.event_name, payer(event.customer), hour] += int(event.value)
        return sums

    def _respond(self, request):
        with self._idle:
            self._in_work += 1
        try:
            return super()._respond(request)
        finally:
            with self._idle:
                self._in_work -= 1
                self._idle.notify_all()

    def _api(self):
        return stripe_python.StripeClient(self.api_key, base_addresses={"api": self.url}).v1
