"""Switches: behaviour that is unknown outside Stripe, or that an account may configure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

MAX_GRACE = 72 * 3600

RateLimit = int | Literal["stripe"] | None
Scope = Literal["account", "event_name", "customer"]
Refusal = Literal["sync", "async"]
Concurrency = Literal["endpoint-concurrency", "lock_timeout", "off"]
End = Literal["exclusive", "inclusive"]
AfterRetries = Literal["canceled", "unpaid", "past_due"]
ClockTimestamps = Literal["frozen", "real"]
Rounding = Literal["half_up", "half_even"]
LastDigit = Literal["lines", "totals", "kept"]


@dataclass(frozen=True, kw_only=True)
class Switches:
    """The behaviour of one sandbox; `Sandbox` describes each switch and has the defaults."""

    livemode: bool
    rate_limit: RateLimit
    event_lag: int
    invoice_grace: int
    identifier_scope: Scope
    duplicate_window: int
    rejected_consumes_identifier: bool
    unknown_customer: Refusal
    bad_payload: Refusal
    exponents: bool
    concurrency: Concurrency
    inactive_frees_name: bool
    summary_end: End
    empty_buckets: bool
    rounding: Rounding
    last_digit: LastDigit
    minimum_charge: bool
    after_retries: AfterRetries
    test_clock_timestamps: ClockTimestamps

    def __post_init__(self) -> None:
        """
        Check the values.

        Raises:
            ValueError: A switch is out of bounds; the message says what is allowed.

        """
        for name, hint in get_type_hints(Switches).items():
            words = get_args(hint) if get_origin(hint) is Literal else ()
            if words and getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {', '.join(words)}, not {getattr(self, name)!r}.")
        if self.rate_limit != "stripe" and self.rate_limit is not None and not isinstance(self.rate_limit, int):
            raise ValueError(f'rate_limit must be a number, "stripe" or None, not {self.rate_limit!r}.')
        if not 0 <= self.invoice_grace <= MAX_GRACE:
            raise ValueError(f"invoice_grace must be 0 to {MAX_GRACE} seconds (72 hours), not {self.invoice_grace}.")
        if self.event_lag < 0 or self.duplicate_window < 0:
            raise ValueError("event_lag and duplicate_window must not be negative.")
