"""
Verify the signature of a webhook, and parse what it is about.

Of an event, only its id, its type and the id of its object are used: the rest may be out of date, because events arrive
in any order. `meterkit.webhooks.account_sync` requests the object's current state from Stripe.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import stripe

from meterkit.accounts.inbox import ParsedEvent
from meterkit.errors import WebhookError
from meterkit.webhooks.config import LARGEST_BYTES, Webhook

SYNCED = ("customer", "subscription", "invoice")
"""Types of objects whose state the ledger keeps."""

METER_ERROR_EVENTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
"""Types of thin events about meter events that Stripe dropped after accepting them."""


def read(
    payload: bytes | str, signature: str | None, webhook: Webhook, *, now: float, livemode: bool | None
) -> ParsedEvent:
    """
    Return the event in *payload*, if Stripe has signed it.

    Args:
        payload: Body of the request, byte for byte; its content type does not matter.
        signature: Value of the header ``Stripe-Signature``, or None.
        webhook: Endpoint configuration, with the secrets.
        now: Current time, Unix seconds.
        livemode: Whether the account's key is a live one; None if that is unknown.

    Raises:
        WebhookError: It is not a Stripe event, or was signed too long ago.
    """
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    if len(body) > LARGEST_BYTES:
        raise WebhookError("the body is too large", status=413)
    _verify(body, signature, webhook, now)
    try:
        event = json.loads(body)
        return _parsed(event, livemode=livemode)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WebhookError("the body is not an event", status=400) from None


def _verify(body: bytes, signature: str | None, webhook: Webhook, now: float) -> None:
    header = signature or ""
    for secret in webhook.secrets:
        try:
            # Without its tolerance check, which does not use the kit's clock.
            stripe.WebhookSignature.verify_header(body.decode("utf-8"), header, secret, tolerance=None)
        except (stripe.SignatureVerificationError, ValueError):
            continue
        signed_at = int(dict(each.split("=", 1) for each in header.split(","))["t"])
        if now - signed_at > webhook.tolerance:
            raise WebhookError(
                f"the signature is {now - signed_at:.0f} seconds old; if Stripe has just sent it, this machine's clock "
                "is ahead: correct it",
                status=400,
            )
        return
    raise WebhookError("the signature is not valid; check that secret= is the secret of this endpoint", status=400)


def _parsed(event: dict[str, Any], *, livemode: bool | None) -> ParsedEvent:
    thin = event["object"] == "v2.core.event"
    about = (event.get("related_object") if thin else event["data"]["object"]) or {}
    kind = str(about.get("type" if thin else "object") or "")
    identity = str(about.get("id") or "")
    if event["type"] in METER_ERROR_EVENTS:
        kind, identity = "v2.core.event", event["id"]
    return ParsedEvent(
        id=_text(event["id"]),
        type=_text(event["type"]),
        created=_seconds(event["created"]),
        object_type=kind[:80],
        object_id=identity[:255],
        reason=_reason_to_ignore(event, kind, identity, livemode=livemode),
    )


def _reason_to_ignore(event: dict[str, Any], kind: str, identity: str, *, livemode: bool | None) -> str:
    """Return why *event* needs no action; empty if it does."""
    if event.get("account") or event.get("context"):
        return f"it belongs to another account, {event.get('account') or event.get('context')}"
    if livemode is not None and event.get("livemode") is not livemode:
        return f"it is a {'live' if event.get('livemode') else 'test'} mode event, but the key is not"
    if kind not in (*SYNCED, "v2.core.event") or not identity or identity.startswith("upcoming_in_"):
        return "it is about an object that the ledger does not keep"
    return ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise ValueError
    return value


def _seconds(value: Any) -> int:
    """Return the time of an event in Unix seconds, from an integer or an RFC 3339 time."""
    return value if isinstance(value, int) else int(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp())
