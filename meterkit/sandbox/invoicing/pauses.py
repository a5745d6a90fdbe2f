"""Paused collection: invoices are made as always, and kept as drafts, voided or written off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import Choice, Integer, Object

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

PARAM = Object(
    {
        "behavior": Choice(("keep_as_draft", "mark_uncollectible", "void"), required=True),
        "resumes_at": Integer(),
    },
    nullable=True,
)


def settings(account: Account, given: dict[str, Any] | None) -> Record | None:
    """
    Return a subscription's `pause_collection`.

    Raises:
        ApiError: 400 if the pause ends in the past.

    """
    if given is None:
        return None
    if given.get("resumes_at", account.now + 1) <= account.now:
        raise invalid("`resumes_at` must be in the future.", param="pause_collection[resumes_at]")
    return {"behavior": given["behavior"], "resumes_at": given.get("resumes_at")}


def end_of(subscription: Record) -> int | None:
    """Return the Unix second at which the pause ends by itself, or None."""
    pause = subscription["pause_collection"]
    return None if pause is None else pause["resumes_at"]


def resume(account: Account, subscription: Record) -> None:
    """End a pause; invoices that were made in it stay as they are."""
    account.change(subscription, "customer.subscription.updated", pause_collection=None)


def mark(invoice: Record, subscription: Record) -> None:
    """Write into a new draft what the pause of its subscription does to it."""
    pause = subscription["pause_collection"]
    invoice["_pause"] = None if pause is None else pause["behavior"]
    if invoice["_pause"] == "keep_as_draft":
        invoice.update(auto_advance=False, automatically_finalizes_at=None)
