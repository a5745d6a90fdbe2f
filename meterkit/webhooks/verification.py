"""
Verify the signature of a webhook, and parse what it is about.

Of what an event says, only its id, its type and which object it is about are used: the rest may be old, for events come
in any order. `meterkit.webhooks.account_sync` asks Stripe for the object as it is now.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import stripe

from meterkit.accounts.inbox import Notification
from meterkit.errors import WebhookError
from meterkit.webhooks.config import LARGEST_BYTES, Webhook

FOLLOWED = ("customer", "subscription", "invoice")
"""Objects of which the ledger keeps the state."""

TOLD_LATER = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
"""Thin events that tell which meter events were refused after they had been taken."""


def read(
    payload: bytes | str, signature: str | None, webhook: Webhook, *, now: float, livemode: bool | None
) -> Notification:
    """
    The event in *payload*, if Stripe has signed it.

    Args:
        payload: The body, byte for byte as it came; its content type does not matter.
        signature: The header ``Stripe-Signature``.
        webhook: With the secrets.
        now: Unix time in seconds.
        livemode: Of the account's key; None if it does not tell.

    Raises:
        WebhookError: It is not an event of Stripe's, or was signed too long ago.
    """
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    if len(body) > LARGEST_BYTES:
        raise WebhookError("the body is too large", status=413)
    _verify(body, signature, webhook, now)
    try:
        event = json.loads(body)
        return _notification(event, livemode=livemode)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WebhookError("the body is no event", status=400) from None


def _verify(body: bytes, signature: str | None, webhook: Webhook, now: float) -> None:
    header = signature or ""
    for secret in webhook.secrets:
        try:
            # Without its tolerance, which goes by another clock than the kit's.
            stripe.WebhookSignature.verify_header(body.decode("utf-8"), header, secret, tolerance=None)
        except (stripe.SignatureVerificationError, ValueError):
            continue
        signed_at = int(dict(each.split("=", 1) for each in header.split(","))["t"])
        if now - signed_at > webhook.tolerance:
            raise WebhookError(
                f"the signature is {now - signed_at:.0f} seconds old; if Stripe has just sent it, this machine's clock "
                "is ahead: set it",
                status=400,
            )
        return
    raise WebhookError("the signature is not Stripe's; see that secret= is the one of this endpoint", status=400)


def _notification(event: dict[str, Any], *, livemode: bool | None) -> Notification:
    thin = event["object"] == "v2.core.event"
    about = (event.get("related_object") if thin else event["data"]["object"]) or {}
    kind = str(about.get("type" if thin else "object") or "")
    identity = str(about.get("id") or "")
    if event["type"] in TOLD_LATER:
        kind, identity = "v2.core.event", event["id"]
    return Notification(
        id=_text(event["id"]),
        type=_text(event["type"]),
        created=_seconds(event["created"]),
        object_type=kind[:80],
        object_id=identity[:255],
        reason=_why_not(event, kind, identity, livemode=livemode),
    )


def _why_not(event: dict[str, Any], kind: str, identity: str, *, livemode: bool | None) -> str:
    """Why there is nothing to do about *event*; empty if there is."""
    if event.get("account") or event.get("context"):
        return f"it is of another account, {event.get('account') or event.get('context')}"
    if livemode is not None and event.get("livemode") is not livemode:
        return f"it is of {'live' if event.get('livemode') else 'test'} mode, and the key is not"
    if kind not in (*FOLLOWED, "v2.core.event") or not identity or identity.startswith("upcoming_in_"):
        return "it is about nothing that the ledger keeps"
    return ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise ValueError
    return value


def _seconds(value: Any) -> int:
    """Unix seconds, of an event that has them, and of one that has an RFC 3339 time."""
    return value if isinstance(value, int) else int(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp())
