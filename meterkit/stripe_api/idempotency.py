"""Create an object exactly once, by idempotency key and look-up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import stripe

from meterkit.errors import StripeFailedError
from meterkit.stripe_api.outcomes import is_stripes

TRIES = 3
"""Of a request that Stripe answers with an error of its own."""


REMEMBERED = 50
"""Answers that are passed over, at most, because Stripe gave them before."""


def create_once(what: str, create: Callable[..., Any], params: Any, *, look: Callable[[Any], Any]) -> Any:
    """
    Make something once.

    Stripe repeats, for a day, what it answered to an Idempotency-Key, good or bad. That tells of then, not of now: it
    is looked whether the thing is there, and if it is not, the request goes out under the next key.

    Args:
        what: Stripe's word for it.
        create: Of stripe-python.
        params: How it is to be; the Idempotency-Key is derived from that.
        look: Finds it if it is there now; gets what Stripe repeats that it made once, or None.

    Raises:
        stripe.StripeError: Stripe did not answer, or refuses.
        StripeFailedError: Stripe repeats itself all the time.
    """
    failures = 0
    canonical = json.dumps(params, sort_keys=True)
    key = f"meterkit-{what}-{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"
    for number in range(REMEMBERED):
        refusal = made = None
        try:
            made = create(params, options={"idempotency_key": f"{key}-{number}" if number else key})
            repeated = _is_repeated(made.last_response.headers)
        except stripe.StripeError as error:
            if not is_stripes(error):
                raise
            refusal, repeated = error, _is_repeated(error.headers)
        else:
            if not repeated:
                return made
        found = look(made)  # also for what another run has made at the same time, and what Stripe made before it failed
        if found is not None:
            return found
        if refusal is not None and not repeated:
            failures += 1
            if (refusal.http_status or 0) < 500 or failures == TRIES:
                raise refusal
    raise StripeFailedError(f"Stripe has answered {REMEMBERED} times from its memory; go on in a day")


def _is_repeated(headers: Any) -> bool:
    return {name.lower(): value for name, value in (headers or {}).items()}.get("idempotent-replayed") == "true"
