"""Payments of finalised invoices. Each customer's payments succeed, or on demand fail or take days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterkit.sandbox.charging import invoice_payments, payment_intents, payment_methods
from meterkit.sandbox.charging.payment_methods import PROCESS, SUCCEED, outcome_of
from meterkit.sandbox.invoicing import balances, credit_balance
from meterkit.sandbox.protocol.errors import invalid
from meterkit.sandbox.protocol.params import Boolean, Text
from meterkit.sandbox.protocol.routes import Call, Route

if TYPE_CHECKING:
    from meterkit.sandbox.state.account import Account, Record

DAY = 24 * 3600

RETRIES = (3 * DAY, 5 * DAY, 7 * DAY)
"""Seconds between a failed payment and the next attempt. Stands in for Smart Retries, which take up to two weeks."""

BEHIND = ("past_due", "unpaid")
_VOID = ("void", "voided_at", "invoice.voided")
_UNCOLLECTIBLE = ("uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")

PAY = {"off_session": Boolean(), "paid_out_of_band": Boolean(), "payment_method": Text()}


def has_method(account: Account, subscription: Record) -> bool:
    """Return whether a subscription can be charged; a customer has a payment method unless a test says otherwise."""
    return account.outcomes.get(subscription["customer"]) != "missing"


def collect(account: Account, invoice: Record, method: Record | None = None) -> None:
    """Try to charge an open invoice, once: to *method*, or to the payment method on file."""
    due = invoice["amount_due"] > 0
    outcome = outcome_of(account, invoice, method) if due else SUCCEED
    method = method or payment_methods.charged(account, invoice)
    if outcome == SUCCEED:
        settle(account, invoice, attempts=invoice["attempt_count"] + due, method=method)
        return
    intent = invoice_payments.intent_of(account, invoice)
    if outcome == PROCESS:
        if intent is not None:
            payment_intents.process(account, intent, method)
        tried = {"attempted": True, "attempt_count": invoice["attempt_count"] + 1, "next_payment_attempt": None}
        account.change(invoice, "invoice.updated", **tried)
        return
    invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
    _fail(account, invoice, method)


def decide(account: Account) -> None:
    """Bring the payments under way to their end for which the outcome is known by now."""
    for invoice in account.all("invoice"):
        if not invoice_payments.is_processing(account, invoice):
            continue
        method = payment_methods.charged(account, invoice)
        outcome = outcome_of(account, invoice)
        with account.at(invoice["test_clock"]):
            if outcome == SUCCEED:
                settle(account, invoice, attempts=invoice["attempt_count"], method=method)
            elif outcome != PROCESS:
                _fail(account, invoice, method)


def _fail(account: Account, invoice: Record, method: Record | None) -> None:
    """Note a failed attempt, and plan the next one."""
    intent = invoice_payments.intent_of(account, invoice)
    if intent is not None:
        payment_intents.fail(account, intent, method)
    attempt = invoice["attempt_count"] - 1
    retries = attempt < len(RETRIES)
    invoice.update(
        next_payment_attempt=account.now + RETRIES[attempt] if retries else None,
        auto_advance=retries,
        _failed=True,
    )
    account.announce("invoice.payment_failed", invoice)
    account.change(account.tables["customer"][invoice["customer"]], "customer.updated", delinquent=True)
    _fall_behind(account, invoice, "past_due" if retries else account.switches.after_retries)


def fall_due(account: Account, invoice: Record) -> None:
    """Mark the subscription as past due, because its invoice is unpaid on the due date."""
    invoice["_fell_due"] = True
    _fall_behind(account, invoice, "past_due")


def settle(
    account: Account, invoice: Record, *, attempts: int, out_of_band: bool = False, method: Record | None = None
) -> None:
    """Mark an invoice as paid; its subscription becomes active unless another invoice is overdue."""
    if out_of_band:
        invoice_payments.mark_canceled(account, invoice, "abandoned")
    else:
        invoice_payments.mark_paid(account, invoice, method)
    invoice.update(
        status="paid",
        amount_paid=0 if out_of_band else invoice["amount_due"],
        amount_paid_off_stripe=invoice["amount_due"] if out_of_band else None,
        amount_remaining=0,
        attempted=True,
        attempt_count=attempts,
        next_payment_attempt=None,
    )
    invoice["status_transitions"]["paid_at"] = account.now
    account.announce("invoice.paid", invoice)
    if not out_of_band:
        account.announce("invoice.payment_succeeded", invoice)
    _catch_up(account, invoice)


def pay(account: Account, call: Call) -> Record:
    """Pay with the payment method on file, or record an outside payment."""
    invoice = _open(account, call)
    if call.params.get("paid_out_of_band"):
        settle(account, invoice, attempts=invoice["attempt_count"], out_of_band=True)
        return invoice
    method = None
    if "payment_method" in call.params:
        method = payment_methods.named(account, call.params["payment_method"], customer=invoice["customer"])
    collect(account, invoice, method)
    if invoice["status"] != "paid" and not invoice_payments.is_processing(account, invoice):
        raise payment_methods.decline(account, invoice, method)
    return invoice


def void(account: Account, call: Call) -> Record:
    """Void an invoice: it was a mistake."""
    return close(account, _open(account, call), "void")


def write_off(account: Account, call: Call) -> Record:
    """Mark an invoice as uncollectible: it will not be paid."""
    return close(account, _open(account, call), "mark_uncollectible")


def close(account: Account, invoice: Record, behavior: str) -> Record:
    """Close an open invoice without payment: `void`, or anything else to write it off."""
    if behavior == "void":
        invoice_payments.mark_canceled(account, invoice, "void_invoice")
    status, moment, event = _VOID if behavior == "void" else _UNCOLLECTIBLE
    invoice.update(status=status, next_payment_attempt=None, auto_advance=False)
    invoice["status_transitions"][moment] = account.now
    if behavior == "void":
        balances.take_back(account, invoice)
        credit_balance.take_back(account, invoice)
    account.announce(event, invoice)
    _catch_up(account, invoice)
    return invoice


def _open(account: Account, call: Call) -> Record:
    invoice = account.get("invoice", call.id)
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid(f"Invoice is {invoice['status']}: only open invoices can be paid or closed.")
    if invoice_payments.is_processing(account, invoice):
        raise invalid(
            "This invoice has a payment that is processing: it cannot be paid or closed until that has ended."
        )
    return invoice


def _fall_behind(account: Account, invoice: Record, status: str) -> None:
    subscription = account.find("subscription", invoice["_subscription"])
    if subscription is None or subscription["status"] == "canceled":
        return
    changes: dict[str, Any] = {"status": status}
    if status == "canceled":
        changes |= {"ended_at": account.now, "canceled_at": account.now}
        account.change(subscription, "customer.subscription.deleted", **changes)
    else:
        account.change(subscription, "customer.subscription.updated", **changes)


def _catch_up(account: Account, invoice: Record) -> None:
    subscription = account.find("subscription", invoice["_subscription"])
    behind = [
        each
        for each in account.all("invoice")
        if each["_subscription"] == invoice["_subscription"] and each["status"] == "open" and _is_behind(each)
    ]
    if behind:
        return
    account.change(account.tables["customer"][invoice["customer"]], "customer.updated", delinquent=False)
    if subscription is not None and subscription["status"] in BEHIND:
        account.change(subscription, "customer.subscription.updated", status="active")


def _is_behind(invoice: Record) -> bool:
    return bool(invoice.get("_failed") or invoice.get("_fell_due"))


ROUTES = [
    Route("POST", "/v1/invoices/{id}/pay", pay, PAY),
    Route("POST", "/v1/invoices/{id}/void", void),
    Route("POST", "/v1/invoices/{id}/mark_uncollectible", write_off),
]
