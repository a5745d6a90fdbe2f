"""Webhook bodies as Stripe sends them, signed by stripe-python's own helper."""

from __future__ import annotations

import json
from typing import Any

import stripe

SECRET = "whsec_of_this_endpoint"


def body_of(event: dict[str, Any]) -> bytes:
    """As Stripe writes JSON: indented, and not only ASCII."""
    return json.dumps(event, indent=2, ensure_ascii=False, default=str).encode()


def signature_of(payload: bytes, at: float, *secrets: str) -> str:
    """The header ``Stripe-Signature``; with several secrets, as while one replaces another."""
    headers = [_signed(payload.decode(), secret, int(at)) for secret in secrets or (SECRET,)]
    first, *more = headers
    return ",".join([first, *(header.split(",", 1)[1] for header in more)])


def _signed(payload: str, secret: str, at: int) -> str:
    if hasattr(stripe.WebhookSignature, "generate_signature_header"):
        return stripe.WebhookSignature.generate_signature_header(payload, secret, timestamp=at)
    digest = stripe.WebhookSignature._compute_signature(f"{at}.{payload}", secret)  # before it had a public name
    return f"t={at},v1={digest}"


def snapshot(kind: str, about: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A snapshot event of that type about an object."""
    return {
        "id": "evt_1",
        "object": "event",
        "account": None,
        "api_version": "2026-10-28.endive",
        "created": 1_772_366_400,
        "data": {"object": about},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        **changed,
    }


def thin(kind: str, related: dict[str, Any] | None, **changed: Any) -> dict[str, Any]:
    """A thin event of that type."""
    return {
        "id": "evt_test_1",
        "object": "v2.core.event",
        "created": "2026-03-01T12:00:00.000Z",
        "context": None,
        "livemode": False,
        "related_object": related,
        "type": kind,
        **changed,
    }
