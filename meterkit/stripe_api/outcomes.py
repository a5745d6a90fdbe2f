"""Classify Stripe's answers: sent, rejected, retry, unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import stripe

from meterkit.errors import StripeFailedError
from meterkit.stripe_api.transport import may_have_arrived

DUPLICATE = "An event already exists with identifier"
"""Stripe, v1: a 400 without a code. It means that the event was delivered before."""

NO_METER = "No active meter found for event name"
"""Stripe, v1: a 400. The cure is to make the meter, so the event waits for it."""

FUTURE = "in the future"
"""Stripe takes events of the next 5 minutes. What it says of others is not documented; the sandbox's words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What an answer means.

    Attributes:
        state: ``sent``: Stripe has the event. ``invoiced``: as an item of an invoice. ``rejected``: it never will.
            ``pending``: it has to be sent again.
        error: What Stripe said.
        retry: Sending again in some seconds may help; if False, not before the next pass.
        unknown: Stripe may have the event all the same.
        refused: Stripe may have stored this answer, and replay it for the same Idempotency-Key.
        everyone: Other events would fare no better.
        duplicate: Stripe has had the identifier before.
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
UNREADABLE = Outcome("pending", "Stripe answered 200, but not with a meter event", retry=True, unknown=True)


def classify(error: stripe.StripeError) -> Outcome:
    """The verdict on a call that raised."""
    status = error.http_status or 0
    text = _describe(error)
    if isinstance(error, stripe.APIConnectionError):
        return Outcome("pending", text, retry=True, unknown=may_have_arrived(error), affects_all=True)
    if status == 200:
        return UNREADABLE
    if not is_stripes(error):
        cure = "this is not Stripe's answer; look at the proxy or firewall on the way to it"
        return Outcome("pending", f"{text}: {cure}", retry=True, unknown=True, affects_all=True)
    if status == 409:  # the same key is in flight, or another event of this customer and meter
        return Outcome("pending", text, retry=True)
    if status == 429:
        limited = "stripe-rate-limited-reason" in {name.lower() for name in error.headers or {}}
        return Outcome("pending", text, retry=True, affects_all=limited)
    if status in (401, 403):
        cure = "check stripe_key= (or STRIPE_SECRET_KEY) and what it may do; usage is kept"
        return Outcome("pending", f"{text}: {cure}", affects_all=True)
    if not 400 <= status < 500:
        return Outcome("pending", text, retry=True, unknown=True, refused=True)
    return _judge_refusal(error, text)


@contextmanager
def naming_failures(doing: str = "") -> Iterator[None]:
    """
    For commands: what stripe-python raises becomes one line, which says what it was about.

    Raises:
        StripeFailedError: Instead of ``stripe.StripeError``.
    """
    try:
        yield
    except stripe.StripeError as error:
        what = f"{doing}: " if doing else ""
        raise StripeFailedError(f"{what}{classify(error).error}; run it again to go on") from error


def _judge_refusal(error: stripe.StripeError, text: str) -> Outcome:
    """Stripe has understood the event, and does not take it."""
    if DUPLICATE in text:
        return SENT_BEFORE
    if NO_METER in text:
        return Outcome("pending", f"{text} Create the meter, and it will be sent", refused=True)
    if FUTURE in text or (getattr(error, "param", None) == "timestamp" and "future" in text.lower()):
        cure = "a clock is ahead of Stripe's: set it; the event is sent when its time has come"
        return Outcome("pending", f"{text}: {cure}", refused=True)
    return Outcome("rejected", text, refused=True)


def is_stripes(error: stripe.StripeError) -> bool:
    """Whether it is Stripe that refused, and not something on the way to it, which answers in its own manner."""
    body = error.json_body
    about = body.get("error") if isinstance(body, dict) else None
    # The first version always gives a type, the second a code.
    return isinstance(about, dict) and any(isinstance(about.get(name), str) for name in ("type", "code"))


def _describe(error: stripe.StripeError) -> str:
    request = f" [{error.request_id}]" if error.request_id else ""
    return f"{error.http_status or 'no answer'}: {str(error.user_message or error)[:300]}{request}"
