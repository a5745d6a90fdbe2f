"""What nobody outside Stripe knows for certain, and what an account may configure: one switch each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

MAX_GRACE = 72 * 3600


@dataclass(frozen=True, kw_only=True)
class Switches:
    """
    How this Stripe behaves where the real one's behaviour is configurable or unverified.

    Attributes:
        livemode: What objects say in `livemode`.
        rate_limit: Requests per second of sandbox time; "stripe" for Stripe's own numbers; None for no limit.
        event_lag: Seconds until summaries and previews see a meter event.
        invoice_grace: Seconds between a cycle's draft invoice and its finalisation, 0 to 72 hours.
        identifier_scope: Within what a meter event's identifier is unique. Unverified.
        duplicate_window: Seconds for which an identifier is remembered.
        rejected_consumes_identifier: Whether a refused event uses its identifier up. Unverified.
        unknown_customer: What happens to an event for no customer: refused, or accepted and dropped. Observed: refused.
        bad_payload: The same for a payload without customer or value, or with a bad value. Unverified.
        exponents: Whether a value may be written `1e-7`. Unverified.
        concurrency: What two requests in flight for the same customer and meter get. Unverified for v1.
        inactive_frees_name: Whether a deactivated meter's event name may be taken by a new one. Unverified.
        summary_end: Whether a summary's end bound belongs to it. Stripe's documentation says both.
        empty_buckets: Whether hourly and daily summaries list hours and days without usage. Unverified.
        rounding: How half a cent is rounded. Both fit what was observed.

    """

    livemode: bool = False
    rate_limit: int | Literal["stripe"] | None = None
    event_lag: int = 0
    invoice_grace: int = 3600
    identifier_scope: Literal["account", "event_name", "customer"] = "account"
    duplicate_window: int = 24 * 3600
    rejected_consumes_identifier: bool = False
    unknown_customer: Literal["sync", "async"] = "sync"
    bad_payload: Literal["sync", "async"] = "sync"
    exponents: bool = False
    concurrency: Literal["endpoint-concurrency", "lock_timeout", "off"] = "endpoint-concurrency"
    inactive_frees_name: bool = True
    summary_end: Literal["exclusive", "inclusive"] = "exclusive"
    empty_buckets: bool = False
    rounding: Literal["half_up", "half_even"] = "half_up"

    def __post_init__(self) -> None:
        """
        Check what cannot be right.

        Raises:
            ValueError: With what can be.

        """
        for name, hint in get_type_hints(Switches).items():
            words = get_args(hint) if get_origin(hint) is Literal else ()
            if words and getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {', '.join(words)}, not {getattr(self, name)!r}.")
        if not 0 <= self.invoice_grace <= MAX_GRACE:
            raise ValueError(f"invoice_grace must be 0 to {MAX_GRACE} seconds (72 hours), not {self.invoice_grace}.")
        if self.event_lag < 0:
            raise ValueError(f"event_lag must not be negative, but is {self.event_lag}.")
