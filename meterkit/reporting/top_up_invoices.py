"""
Charge automatic top-ups: an invoice for one pack, finalised and paid, or closed without having charged anything.

Each step is decided by what Stripe has, and its Idempotency-Key follows from the attempt. So after a process that was
killed between two steps, another one goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import stripe

from meterkit.core.threads import Event
from meterkit.stripe_api.outcomes import classify
from meterkit.stripe_api.transport import PAGE_SIZE, connect, plain
from meterkit.top_ups.attempts import ERROR_CHARACTERS, Attempt, Attempts, State

TOP_UP_KEY = "meterkit_top_up"
"""Metadata key of an invoice: the attempt that it belongs to."""

MOST_STEPS = 8
"""Steps of an attempt in one pass; it takes fewer."""

AGAIN_SECONDS = 60
"""When an attempt goes on that Stripe could not serve."""

PROCESSING_SECONDS = 3600
"""How often a payment is looked at that takes days, such as a bank debit."""

REMEMBERED_SECONDS = 20 * 3600
"""Stripe remembers an Idempotency-Key for at least 24 hours; after that, the invoice is searched for."""

CLOCKS_SECONDS = 24 * 3600
"""How far Stripe's clock may be behind ours."""


class TopUpInvoices:
    """
    Charges the attempts that are under way.

    Args:
        attempts: Attempts in the ledger.
        api_key: Secret key of the Stripe account.
        base: Base URL of Stripe's API; None for the real one.
        account: Connected account to charge in; None for the key's own.
        clock: Function that returns Unix seconds.
        metadata_key: Key under which metadata name a company.
        is_shadow: Function that returns whether another program bills, so that nothing may be written to Stripe.
        read: Function that reads the invoice with that id from Stripe, grants what it has paid for, and returns why it
            could not; empty if it could.
        stop: Event that ends a pass before the next step.
    """

    def __init__(
        self,
        attempts: Attempts,
        *,
        api_key: str,
        base: str | None,
        account: str | None,
        clock: Callable[[], float],
        metadata_key: str,
        is_shadow: Callable[[], bool],
        read: Callable[[str], str],
        stop: Event,
    ) -> None:
        self._attempts = attempts
        self._clock = clock
        self._metadata_key = metadata_key
        self._read = read
        self._stop = stop
        self._stripe, self._http = connect(api_key, base, reads_only=is_shadow, account=account)

    def run(self) -> str:
        """
        Begin the attempts that are due, and go on with all that are under way.

        Returns:
            Why some have to wait for Stripe; empty if none has to. A card that was declined is no such reason.

        Raises:
            LedgerError: The ledger failed. Nothing is charged twice; run it again.
        """
        error = ""
        self._attempts.begin_due()
        for attempt in self._attempts.claim():
            try:
                error = self._go_on(attempt) or error
            except stripe.StripeError as failure:
                outcome = classify(failure)
                error = f"{attempt.company!r:.80}: {outcome.error}"
                self._attempts.postpone(attempt, AGAIN_SECONDS, refused=outcome.refused)
                if outcome.affects_all:
                    break
        return error

    def hang_up(self) -> None:
        """Abort a call to Stripe that takes too long. Called by another thread."""
        self._http.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._http.close()

    def _go_on(self, attempt: Attempt) -> str:
        """Take all steps that can be taken now; return why there is another to take, if that is trouble."""
        for _ in range(MOST_STEPS):
            if self._stop.is_set():
                break
            if not attempt.invoice and (attempt.error or not attempt.is_wanted):
                self._attempts.end(attempt, _ended(attempt))
                return ""
            invoice = self._invoice(attempt) if attempt.invoice else None
            status = None if invoice is None else invoice.status
            if status == "paid":
                return self._grant(attempt)
            if attempt.invoice and status not in ("draft", "open"):
                self._attempts.end(attempt, _ended(attempt))
                return ""
            if invoice is not None and (attempt.error or not (attempt.is_wanted or attempt.is_tried)):
                self._close(invoice)
                continue
            try:
                following = self._advance(attempt, invoice)
            except stripe.StripeError as error:
                outcome = classify(error)
                if outcome.state != "rejected":
                    raise
                following = self._failed(attempt, outcome.error)
            if following is None:
                self._attempts.postpone(attempt, PROCESSING_SECONDS)
                return ""
            attempt = following
        self._attempts.postpone(attempt, 0)
        return ""

    def _advance(self, attempt: Attempt, invoice: stripe.Invoice | None) -> Attempt | None:
        """Take the next step towards a paid invoice; return None if it is being paid, which takes days."""
        if invoice is None:
            identity = self._made(attempt)
            self._attempts.note(attempt, invoice=identity)
            return replace(attempt, invoice=identity)
        if invoice.status == "draft":
            refusal = "" if invoice.lines.data else self._add_pack(attempt)
            if refusal:
                return self._failed(attempt, refusal)
            self._stripe.v1.invoices.finalize_invoice(
                attempt.invoice, {"auto_advance": False}, options=_once(attempt, "finalize")
            )
            return attempt
        if attempt.is_tried:
            declined = self._declined(invoice)
            return None if declined is None else self._failed(attempt, declined)
        method = self._method(attempt.customer)
        params: Any = {"off_session": True, **({} if method is None else {"payment_method": method})}
        key = _once(attempt, f"pay.{method or 'default'}")
        if self._stripe.v1.invoices.pay(attempt.invoice, params, options=key).status != "paid":
            self._attempts.note(attempt, is_tried=True)
            return None
        return attempt

    def _invoice(self, attempt: Attempt) -> stripe.Invoice | None:
        """Return the invoice of *attempt* as Stripe has it; None if it was deleted."""
        try:
            found = self._stripe.v1.invoices.retrieve(attempt.invoice)
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                return None
            raise
        return None if getattr(found, "deleted", False) else found

    def _made(self, attempt: Attempt) -> str:
        """Return the id of the invoice of *attempt*: made now, or before by a process that could not note it."""
        invoices = self._stripe.v1.invoices
        if attempt.refusals or self._clock() - attempt.created_at > REMEMBERED_SECONDS:  # no key protects it
            since = attempt.created_at - CLOCKS_SECONDS
            recent: Any = {"customer": attempt.customer, "created": {"gte": since}, "limit": PAGE_SIZE}
            for each in invoices.list(recent).auto_paging_iter():
                if (plain(each).get("metadata") or {}).get(TOP_UP_KEY) == attempt.id:
                    return str(each.id)
        params: Any = {
            "customer": attempt.customer,
            "auto_advance": False,  # nothing is charged later, and nobody is reminded
            "pending_invoice_items_behavior": "exclude",
            "description": f"Automatic top-up: {attempt.pack_name}",
            "metadata": {self._metadata_key: attempt.company, TOP_UP_KEY: attempt.id},
        }
        return str(invoices.create(params, options=_once(attempt, "invoice")).id)

    def _add_pack(self, attempt: Attempt) -> str:
        """Add the pack to the draft; return why that is not possible, or nothing."""
        prices = self._stripe.v1.prices.list({"lookup_keys": [attempt.pack], "active": True}).data
        if not prices:
            return f"Stripe has no active price of the pack {attempt.pack_name!r}: run meterkit provision"
        params: Any = {
            "customer": attempt.customer,
            "invoice": attempt.invoice,
            "pricing": {"price": prices[0].id},
            "quantity": 1,
        }
        self._stripe.v1.invoice_items.create(params, options=_once(attempt, "item"))
        return ""

    def _method(self, customer: str) -> str | None:
        """Return the payment method to charge; None for the customer's default. A card from Checkout is no default."""
        found = self._stripe.v1.customers.retrieve(customer)
        settings = plain(found).get("invoice_settings") or {}
        if settings.get("default_payment_method") or plain(found).get("default_source"):
            return None
        saved = self._stripe.v1.payment_methods.list({"customer": customer, "limit": 1}).data
        return saved[0].id if saved else None

    def _declined(self, invoice: stripe.Invoice) -> str | None:
        """Return why a payment that takes days has failed; None if it is still under way."""
        for payment in self._stripe.v1.invoice_payments.list({"invoice": str(invoice.id)}).data:
            intent = plain(payment)["payment"].get("payment_intent")
            if intent:
                found = self._stripe.v1.payment_intents.retrieve(str(intent))
                if found.status in ("processing", "succeeded"):
                    return None
                error = plain(found).get("last_payment_error") or {}
                return str(error.get("message") or f"the payment is {found.status}")
        return "it has no payment"

    def _close(self, invoice: stripe.Invoice) -> None:
        """Close an invoice that is not to be paid any more."""
        if invoice.status == "draft":
            self._stripe.v1.invoices.delete(str(invoice.id))
        else:
            self._stripe.v1.invoices.void_invoice(str(invoice.id))

    def _grant(self, attempt: Attempt) -> str:
        """See to it that what is paid is granted, also if the webhook does not tell of it."""
        trouble = "" if self._attempts.has_granted(attempt) else self._read(attempt.invoice)
        if self._attempts.has_granted(attempt):
            self._attempts.end(attempt, "paid")
            return ""
        self._attempts.postpone(attempt, AGAIN_SECONDS)
        return f"invoice {attempt.invoice} of {attempt.company!r:.80} is paid, and not granted yet: {trouble}"

    def _failed(self, attempt: Attempt, error: str) -> Attempt:
        failed = replace(attempt, error=error[:ERROR_CHARACTERS])
        self._attempts.note(failed, error=failed.error)
        return failed


def _ended(attempt: Attempt) -> State:
    return "failed" if attempt.error else "canceled"


def _once(attempt: Attempt, step: str) -> Any:
    return {"idempotency_key": f"{attempt.id}.{step}.{attempt.refusals}"}
