"""Rate limits: requests per second of sandbox time, and one call at a time for each customer and meter."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from meterkit.sandbox.protocol.errors import lock_timeout, rate_limited, too_many_concurrent_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterkit.sandbox.state.account import Account

# Paths with a limit of their own in live mode, per second. (For the stream, Stripe says both requests and events.)
OWN = {
    "/v1/billing/meter_events": 1000,
    "/v2/billing/meter_events": 1000,
    "/v2/billing/meter_event_stream": 10_000,
}


class Limiter:
    """Refuses requests that exceed a limit. If the clock stands still, advance it to get through again."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._second = 0
        self._counts: dict[str, int] = {}
        self._busy: set[tuple[str, str]] = set()

    def admit(self, path: str) -> None:
        """
        Count one request.

        Raises:
            ApiError: 429 with `Stripe-Rate-Limited-Reason`.

        """
        switches = self._account.switches
        if switches.rate_limit is None:
            return
        bucket, limit, reason = "all", switches.rate_limit, "global-rate"
        if limit == "stripe":
            limit = 100 if switches.livemode else 25
            if switches.livemode and path in OWN:
                bucket, limit, reason = path, OWN[path], "endpoint-rate"
        now = self._account.now
        if now != self._second:
            self._second, self._counts = now, {}
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        if self._counts[bucket] > limit:
            raise rate_limited(reason)

    @contextmanager
    def alone(self, slot: tuple[str, str] | None, *, v2: bool) -> Iterator[None]:
        """
        Hold a slot (the meter's event name, and the customer) while the request is in flight; None needs no slot.

        Raises:
            ApiError: 429, or 409 in v2, if another request holds the slot.

        """
        mode = self._account.switches.concurrency
        if slot is None or mode == "off":
            yield
            return
        with self._account.lock:
            if slot in self._busy:
                if v2:
                    raise too_many_concurrent_requests()
                raise lock_timeout() if mode == "lock_timeout" else rate_limited(mode)
            self._busy.add(slot)
        try:
            yield
        finally:
            with self._account.lock:
                self._busy.remove(slot)
