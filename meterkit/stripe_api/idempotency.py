"""Create an object exactly once, by idempotency key and look-up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import stripe

from meterkit.errors import StripeFailedError
from meterkit.stripe_api.outcomes import is_from_stripe

TRIES = 3
"""Attempts at a request that Stripe fails with a new error."""

REMEMBERED = 50
"""The most replayed responses that are skipped before giving up."""


def create_once(kind: str, create: Callable[..., Any], params: Any, *, look: Callable[[Any], Any]) -> Any:
    """
    Create an object exactly once, and return it.

    For a day, Stripe replays its response to an Idempotency-Key, success or error. A replay describes the past, so the
    object is looked up, and if it does not exist, the request is sent under the next key.

    Args:
        kind: Kind of object, by Stripe's name.
        create: Method of stripe-python that creates it.
        params: Parameters of the object; the Idempotency-Key is derived from them.
        look: Function that looks the object up, and returns it or None; its argument is the object in the response, or
            None after an error.

    Raises:
        stripe.StripeError: Stripe did not respond, or refused.
        StripeFailedError: Stripe replayed `REMEMBERED` responses in a row.
    """
    failures = 0
    canonical = json.dumps(params, sort_keys=True)
    key = f"meterkit-{kind}-{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"
    for number in range(REMEMBERED):
        refusal = created = None
        try:
            created = create(params, options={"idempotency_key": f"{key}-{number}" if number else key})
            repeated = _is_repeated(created.last_response.headers)
        except stripe.StripeError as error:
            if not is_from_stripe(error):
                raise
            refusal, repeated = error, _is_repeated(error.headers)
        else:
            if not repeated:
                return created
        found = look(created)  # another run may have created it at the same time, or Stripe before it failed
        if found is not None:
            return found
        if refusal is not None and not repeated:
            failures += 1
            if (refusal.http_status or 0) < 500 or failures == TRIES:
                raise refusal
    raise StripeFailedError(f"Stripe replayed {REMEMBERED} earlier responses for this {kind}; try again in a day")


def _is_repeated(headers: Any) -> bool:
    return {name.lower(): value for name, value in (headers or {}).items()}.get("idempotent-replayed") == "true"
