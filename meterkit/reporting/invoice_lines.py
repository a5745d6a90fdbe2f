"""Send lines for rated usage: invoice items on the draft of their invoice, or for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stripe

from meterkit.core.threads import Event
from meterkit.ledger.lease import Lease
from meterkit.outbox.reports import REPORT_KEY
from meterkit.rating.lines import InvoiceLine, InvoiceLines
from meterkit.reporting.meter_events import billed_identifier
from meterkit.stripe_api.outcomes import Outcome, classify
from meterkit.stripe_api.retry import RetryPolicy
from meterkit.stripe_api.transport import PAGE_SIZE

ENDED = "the subscription has ended, so there is no next invoice: bill it by hand"

DONE = Outcome("invoiced")


class LineSender:
    """
    Sends lines, each exactly once.

    Before a line is sent, the ledger knows that Stripe may have it, and the customer's invoice items are searched for
    it: Stripe remembers an Idempotency-Key for a day only.

    Args:
        lines: Lines of the ledger.
        client: Client of stripe-python.
        stop: Event that ends sending, when set, after the current line.
    """

    def __init__(self, lines: InvoiceLines, client: Callable[[], stripe.StripeClient], stop: Event) -> None:
        self._lines = lines
        self._client = client
        self._stop = stop
        self._retry = RetryPolicy(stop)
        self._there: dict[str, set[str]] = {}  # identifiers of a customer's items

    def send(self, lease: Lease) -> tuple[int, str]:
        """
        Send all pending lines. Return how many Stripe has taken, and why others have to wait; empty if none has to.

        Raises:
            LeaseLostError: Another process holds the lease now.
            LedgerError: The ledger failed.
        """
        taken, error = 0, ""
        self._there.clear()
        while pending := self._lines.pending():
            replaced = False
            for line in pending:
                if self._stop.is_set():
                    return taken, error
                outcome = self._retry(lambda line=line: self._send(lease, line))  # type: ignore[misc]
                taken += outcome.state == "invoiced"
                replaced = replaced or outcome is REPLACED
                error = outcome.error or error
                if outcome.affects_all:
                    return taken, error
            if not replaced:
                break
        return taken, error

    def _send(self, lease: Lease, line: InvoiceLine) -> Outcome:
        line = self._lines.current(line)
        if line.is_late and self._lines.has_ended(line):
            self._lines.settle(lease, line, "rejected", ENDED)
            return Outcome("rejected", ENDED)
        begun = self._lines.begin(lease, line)
        try:
            if self._is_there(begun):
                self._lines.settle(lease, begun, "sent")
                return DONE
            self._create(begun)
        except stripe.StripeError as error:
            return self._failed(lease, begun, classify(error))
        self._lines.settle(lease, begun, "sent")
        return DONE

    def _failed(self, lease: Lease, line: InvoiceLine, outcome: Outcome) -> Outcome:
        if outcome.state == "rejected" and not line.is_late and self._is_final(line):
            self._lines.replace(lease, line)
            return REPLACED
        if outcome.state == "rejected":
            self._lines.settle(lease, line, "rejected", outcome.error)
        else:
            refusals = line.refusals + outcome.refused
            self._lines.note(lease, line, error=outcome.error[:500], refusals=refusals)
        return outcome

    def _create(self, line: InvoiceLine) -> None:
        params: Any = {
            "customer": line.customer,
            "amount": line.amount,
            "currency": line.currency,
            "description": line.description,
            "period": {"start": line.period_start, "end": line.period_end},
            "metadata": {REPORT_KEY: line.identifier},
            **({"subscription": line.subscription} if line.is_late else {"invoice": line.invoice}),
        }
        key = f"{line.identifier}.{line.refusals}"
        self._client().v1.invoice_items.create(params, options={"idempotency_key": key})

    def _is_there(self, line: InvoiceLine) -> bool:
        """Return whether Stripe has *line*: after an attempt, or before the ledger was restored from a backup."""
        if line.attempts > 1 or line.customer not in self._there:
            items = self._client().v1.invoice_items.list({"customer": line.customer, "limit": PAGE_SIZE})
            found = {billed_identifier(each) for each in items.auto_paging_iter()}
            self._there[line.customer] = {each for each in found if each is not None}
        return line.identifier in self._there[line.customer]

    def _is_final(self, line: InvoiceLine) -> bool:
        """Return whether the invoice of *line* is no draft any more, or was deleted."""
        try:
            return self._client().v1.invoices.retrieve(line.invoice).status != "draft"
        except stripe.InvalidRequestError as error:
            return error.http_status == 404
        except stripe.StripeError:
            return False


REPLACED = Outcome("pending")
"""What became of a line whose invoice is final: another one is to be sent."""
