"""Billing cycles: the end of a period, its invoice, and the period that follows."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from meterkit.sandbox.billing.charges import advance, arrears, items_of, period_end
from meterkit.sandbox.billing.prorations import credit
from meterkit.sandbox.invoicing.invoices import draft, finalize, open_draft
from meterkit.sandbox.invoicing.payments import has_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterkit.sandbox.invoicing.invoice_lines import Charge
    from meterkit.sandbox.state.account import Account, Record


def next_end(subscription: Record) -> int:
    """Return the Unix second at which the next period of an item, or the subscription itself, ends."""
    end = subscription["cancel_at"]
    for item in subscription["items"]["data"]:  # a loop, because this runs for each subscription at each request
        if end is None or item["current_period_end"] < end:
            end = item["current_period_end"]
    return int(end)


def is_plain(subscription: Record) -> bool:
    """Return whether nothing but the end of a period can become due: no trial, pause or threshold."""
    if subscription["pause_collection"] or subscription["billing_thresholds"] or subscription["status"] == "trialing":
        return False
    for item in subscription["items"]["data"]:  # noqa: SIM110 - any() takes twice as long
        if item["billing_thresholds"]:
            return False
    return True


def roll(account: Account, subscription: Record) -> Record | None:
    """
    End the periods that are over: draft their invoice, then begin the next ones or end the subscription.

    Returns:
        The draft; None if the end of a trial has canceled or paused the subscription.

    """
    end = next_end(subscription)
    if subscription["cancel_at"] == end:
        return _end(account, subscription, end)
    due = [item for item in items_of(subscription) if item["current_period_end"] == end]
    start = max(item["current_period_start"] for item in due)
    previous = {"status": subscription["status"]}
    charges: list[Charge] = []
    if subscription["status"] == "trialing":  # its usage is free
        if not _continues(account, subscription):
            return None
        subscription["status"] = "active"
    else:
        charges = arrears(subscription, due, until=end)
    begin(subscription, due, end)
    charges += advance(subscription, due)
    changed = previous["status"] != subscription["status"]
    account.announce("customer.subscription.updated", subscription, previous if changed else None)
    return bill(account, subscription, charges, reason="subscription_cycle", period=(start, end))


def begin(subscription: Record, items: Sequence[Record], moment: int) -> None:
    """Begin new periods of items at that Unix second; the first one may be short, up to the anchor."""
    for item in items:
        end = period_end(subscription, item["price"], moment)
        item.update(
            current_period_start=moment,
            current_period_end=end,
            billed_until=None,
            _since=moment,
            _billed=0,
            _used=Decimal(0),
        )


def bill(
    account: Account,
    subscription: Record,
    charges: Sequence[Charge],
    *,
    reason: str,
    period: tuple[int, int],
    at_once: bool = False,
) -> Record:
    """Draft an invoice with the charges and all that is pending; *at_once* finalises it without a grace period."""
    invoice = draft(account, subscription, charges, reason=reason, period=period)
    open_draft(account, subscription, invoice)
    if at_once and not account.forked and invoice["_pause"] != "keep_as_draft":
        finalize(account, invoice)
    return invoice


def restart(account: Account, subscription: Record, *, reason: str, credited: Sequence[Record]) -> Record:
    """
    End all periods now, bill their usage at once, and begin new ones that are anchored here.

    Args:
        account: Account of the subscription.
        subscription: Subscription that is not in a trial.
        reason: `billing_reason` of the invoice.
        credited: Items of which the rest of a licensed period is credited.

    Returns:
        The invoice.

    """
    now, items = account.now, items_of(subscription)
    start = min(item["current_period_start"] for item in items)
    for item in credited:
        credit(account, subscription, item, now)
    charges = arrears(subscription, items, until=now)
    subscription["billing_cycle_anchor"] = now
    begin(subscription, items, now)
    charges += advance(subscription, items)
    account.announce("customer.subscription.updated", subscription)
    return bill(account, subscription, charges, reason=reason, period=(start, now), at_once=True)


def _end(account: Account, subscription: Record, end: int) -> Record:
    """End a subscription at the time for which it was canceled, and bill its last usage."""
    items = items_of(subscription)
    start = min(item["current_period_start"] for item in items)
    charges = [] if subscription["status"] == "trialing" else arrears(subscription, items, until=end)
    if subscription["_cancel_prorates"]:
        for item in items:
            credit(account, subscription, item, end)
    subscription.update(status="canceled", ended_at=end)
    account.announce("customer.subscription.deleted", subscription)
    return bill(account, subscription, charges, reason="subscription_cycle", period=(start, end))


def _continues(account: Account, subscription: Record) -> bool:
    """Return whether a trial's end begins a period; without a payment method it may cancel or pause instead."""
    missing = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if missing == "create_invoice" or has_method(account, subscription):
        return True
    if missing == "cancel":
        subscription.update(status="canceled", canceled_at=account.now, ended_at=account.now)
        account.announce("customer.subscription.deleted", subscription)
    else:
        subscription["status"] = "paused"
        begin(subscription, items_of(subscription), account.now)
        account.announce("customer.subscription.paused", subscription)
    return False
