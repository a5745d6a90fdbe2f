"""Classify Stripe's responses: sent, rejected, retry, unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import stripe

from meterkit.errors import StripeFailedError
from meterkit.stripe_api.transport import may_have_arrived

DUPLICATE = "An event already exists with identifier"
"""Stripe, v1: a 400 without a code. The event was delivered before."""

NO_METER = "No active meter found for event name"
"""Stripe, v1: a 400. The cure is to create the meter, so the event stays pending."""

FUTURE = "in the future"
"""Stripe accepts timestamps up to 5 minutes ahead. Its error for others is undocumented; this is the sandbox's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a response means for the event that was sent.

    Attributes:
        state: ``sent`` if Stripe has the event, ``invoiced`` if it has it as an invoice item, ``rejected`` if it
            refuses the event for good, ``pending`` if the event must be sent again.
        error: Error as Stripe describes it, and its cure; empty after success.
        retry: Whether sending again within seconds may help; otherwise the event waits for the next pass.
        unknown: Whether Stripe may have the event in spite of the error.
        refused: Whether Stripe may replay this response for the same Idempotency-Key.
        affects_all: Whether other events would fail too.
        duplicate: Whether Stripe has received the identifier before.
    """

    state: Literal["sent", "invoiced", "rejected", "pending"]
    error: str = ""
    retry: bool = False
    unknown: bool = False
    refused: bool = False
    affects_all: bool = False
    duplicate: bool = False


SENT = Outcome("sent")
SENT_BEFORE = Outcome("sent", duplicate=True)
UNREADABLE = Outcome("pending", "Stripe returned 200, but no meter event", retry=True, unknown=True)


def classify(error: stripe.StripeError) -> Outcome:
    """Return the outcome of a call that raised *error*."""
    status = error.http_status or 0
    text = _describe(error)
    if isinstance(error, stripe.APIConnectionError):
        return Outcome("pending", text, retry=True, unknown=may_have_arrived(error), affects_all=True)
    if status == 200:
        return UNREADABLE
    if not is_from_stripe(error):
        cure = "this response is not from Stripe; check the proxy or firewall in between"
        return Outcome("pending", f"{text}: {cure}", retry=True, unknown=True, affects_all=True)
    if status == 409:  # the same key is in flight, or another event of this customer and meter
        return Outcome("pending", text, retry=True)
    if status == 429:
        limited = "stripe-rate-limited-reason" in {name.lower() for name in error.headers or {}}
        return Outcome("pending", text, retry=True, affects_all=limited)
    if status in (401, 403):
        cure = "check stripe_key= (or STRIPE_SECRET_KEY) and the key's permissions; usage is kept"
        return Outcome("pending", f"{text}: {cure}", affects_all=True)
    if not 400 <= status < 500:
        return Outcome("pending", text, retry=True, unknown=True, refused=True)
    return _classify_refusal(error, text)


@contextmanager
def naming_failures(doing: str = "", *, retries_refused: bool = True) -> Iterator[None]:
    """
    Turn errors of stripe-python into one line for the command line, prefixed with *doing*.

    Args:
        doing: What the block does.
        retries_refused: Whether another run would do something else where Stripe has refused this one's request.

    Raises:
        StripeFailedError: The block raised ``stripe.StripeError``.
    """
    try:
        yield
    except stripe.StripeError as error:
        prefix = f"{doing}: " if doing else ""
        outcome = classify(error)
        again = "; run it again to continue" if retries_refused or outcome.state == "pending" else ""
        raise StripeFailedError(f"{prefix}{outcome.error}{again}") from error


def _classify_refusal(error: stripe.StripeError, text: str) -> Outcome:
    """Return the outcome of a 4xx response: Stripe understood the event, and refuses it."""
    if DUPLICATE in text:
        return SENT_BEFORE
    if NO_METER in text:
        return Outcome("pending", f"{text} Create the meter, and the event will be sent", refused=True)
    if isinstance(error, stripe.IdempotencyError):
        cure = "another ledger with this ledger's id has sent this with other figures: was data_dir copied?"
        return Outcome("rejected", f"{text}: {cure}", refused=True)
    if FUTURE in text or (getattr(error, "param", None) == "timestamp" and "future" in text.lower()):
        cure = "a clock is ahead of Stripe's: set it; the event is sent once its timestamp has passed"
        return Outcome("pending", f"{text}: {cure}", refused=True)
    return Outcome("rejected", text, refused=True)


def is_from_stripe(error: stripe.StripeError) -> bool:
    """Return whether *error* is a response of Stripe, not of a proxy or firewall in between."""
    body = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    # API v1 always includes a type, v2 a code.
    return isinstance(details, dict) and any(isinstance(details.get(name), str) for name in ("type", "code"))


def _describe(error: stripe.StripeError) -> str:
    request = f" [{error.request_id}]" if error.request_id else ""
    return f"{error.http_status or 'no response'}: {str(error.user_message or error)[:300]}{request}"
