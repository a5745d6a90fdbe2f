"""
Verify the signature of a webhook, and parse what it is about.

Of an event, only its id, its type and the id of its object are used: the rest may be out of date, because events arrive
in any order. `meterkit.webhooks.account_sync` requests the object's current state from Stripe. What was before that, of
a subscription, only the event says: see `meterkit.webhooks.subscription_events`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from meterkit.accounts.inbox import ParsedEvent
from meterkit.errors import WebhookError
from meterkit.webhooks.config import LARGEST_BYTES, Webhook
from meterkit.webhooks.signature import parse_signature
from meterkit.webhooks.subscription_events import told_by

SYNCED = ("customer", "subscription", "invoice", "checkout.session", "billing.meter", "refund", "dispute")
"""Types of objects whose state the ledger keeps, which name a company, or which take back what was paid."""

METER_ERROR_EVENTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
"""Types of thin events about meter events that Stripe dropped after accepting them."""


LATEST_SECONDS = 1 << 40
"""Latest time of an event, Unix seconds: some thirty thousand years from now, which every database can store."""


def read(
    payload: bytes | str,
    signature: str | None,
    webhook: Webhook,
    *,
    now: float,
    livemode: bool | None,
    account: str | None = None,
) -> ParsedEvent:
    """
    Return the event in *payload*, if Stripe has signed it.

    Args:
        payload: Body of the request, byte for byte; its content type does not matter.
        signature: Value of the header ``Stripe-Signature``, or None.
        webhook: Endpoint configuration, with the secrets.
        now: Current time, Unix seconds.
        livemode: Whether the account's key is a live one; None if that is unknown.
        account: Connected account that the kit bills for; None for the key's own.

    Raises:
        WebhookError: It is not a Stripe event, or was signed too long ago. Whatever the arguments are, no other error
            is raised.
    """
    parsed = parse_signature(signature)
    body = _body(payload)
    if len(body) > LARGEST_BYTES:
        raise WebhookError("the body is too large", status=413)
    if not parsed.signs(body, webhook.secrets):
        raise WebhookError("the signature is not valid; check that secret= is the secret of this endpoint", status=400)
    age = now - parsed.signed_at
    if age > webhook.tolerance:
        raise WebhookError(
            f"the signature is {age:.0f} seconds old; if Stripe has just sent it, this machine's clock is ahead: "
            "correct it",
            status=400,
        )
    try:
        event = json.loads(body.decode())
        return _parsed(event, livemode=livemode, account=account)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise WebhookError("the body is not an event", status=400) from None


def _body(payload: object) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    if not isinstance(payload, str):
        raise WebhookError(f"the payload must be the request's body as bytes, not {type(payload).__name__}", status=400)
    try:
        return payload.encode()
    except UnicodeEncodeError:
        raise WebhookError("the body is not valid UTF-8, so it is not from Stripe", status=400) from None


def _parsed(event: dict[str, Any], *, livemode: bool | None, account: str | None) -> ParsedEvent:
    thin = event["object"] == "v2.core.event"
    about = (event.get("related_object") if thin else event["data"]["object"]) or {}
    kind = str(about.get("type" if thin else "object") or "")
    identity = str(about.get("id") or "")
    if kind == "discount":  # it is kept with what it is a discount of
        kind = "subscription" if about.get("subscription") else "customer"
        identity = str(about.get(kind) or "")
    if event["type"] in METER_ERROR_EVENTS:
        kind, identity = "v2.core.event", event["id"]
    reason = _printable(_reason_to_ignore(event, kind, identity, livemode=livemode, account=account))
    return ParsedEvent(
        id=_text(event["id"]),
        type=_text(event["type"]),
        created=_seconds(event["created"]),
        object_type=_printable(kind[:80]),
        object_id=_printable(identity[:255]),
        reason=reason,
        told="" if reason or thin or kind != "subscription" else told_by(event),
    )


def _reason_to_ignore(
    event: dict[str, Any], kind: str, identity: str, *, livemode: bool | None, account: str | None
) -> str:
    """Return why *event* needs no action; empty if it does."""
    of = event.get("account") or event.get("context") or None
    if of != account:
        return f"it belongs to another account, {'that of the key' if of is None else of!s:.100}"
    if livemode is not None and event.get("livemode") is not livemode:
        return f"it is a {'live' if event.get('livemode') else 'test'} mode event, but the key is not"
    if kind not in (*SYNCED, "v2.core.event") or not identity or identity.startswith("upcoming_in_"):
        return "it is about an object that the ledger does not keep"
    return ""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise ValueError
    return _printable(value)


def _printable(text: str) -> str:
    """Return *text*, which a database can store: with no lone surrogates and no NUL."""
    if not text.isprintable():
        raise ValueError
    return text


def _seconds(value: Any) -> int:
    """Return the time of an event in Unix seconds, from an integer or an RFC 3339 time."""
    seconds = value if type(value) is int else int(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp())
    if not 0 <= seconds <= LATEST_SECONDS:
        raise ValueError
    return seconds
