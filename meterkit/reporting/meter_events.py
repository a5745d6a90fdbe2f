"""Sender for meter events of API v1, one request each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import stripe

from meterkit.ledger.database import Database
from meterkit.metering.meter import CUSTOMER_KEY, VALUE_KEY
from meterkit.outbox.late_usage import Late, late_reports, once_each
from meterkit.outbox.reports import REPORT_KEY, Report
from meterkit.pricing.price import decimals_of
from meterkit.stripe_api.outcomes import SENT, UNREADABLE, Outcome, classify

PayloadKeys: TypeAlias = "Mapping[str, tuple[str, str]]"
"""Keys of the customer and of the quantity in meter events, by event name, where they are not Stripe's own."""

DEFAULT_KEYS = (CUSTOMER_KEY, VALUE_KEY)


def payload_of(report: Report, keys: PayloadKeys) -> dict[str, str]:
    """Return the payload of the meter event of *report*."""
    customer, value = keys.get(report.event_name, DEFAULT_KEYS)
    return {customer: str(report.customer), value: str(report.quantity)}


class EventSender:
    """
    Sends reports as meter events, or late ones as invoice items.

    Args:
        keys: Keys of meter events that are not Stripe's own.
        bills_late: Whether usage whose invoice is final becomes an item of the next invoice.
    """

    per_request = 1
    per_batch = 100

    def __init__(self, *, keys: PayloadKeys, bills_late: bool) -> None:
        self._keys = keys
        self._bills_late = bills_late
        self._late: dict[int, Late] = {}

    def find_late(self, database: Database) -> list[Report]:
        """
        Find, remember and return the pending reports that become invoice items.

        Usage that was reversed becomes none: whoever reversed it credits it, and must not credit it twice.

        Raises:
            LedgerError: The ledger cannot be read.
        """
        found = late_reports(database, "pending") if self._bills_late else []
        # Stripe takes no invoice item for a subscription that has ended: it is named, to be billed by hand.
        billable = (
            late
            for late in found
            if late.report.quantity > 0 and late.amount is not None and not late.free and not late.has_ended
        )
        self._late = {late.report.id: late for late in once_each(billable)}
        return [late.report for late in self._late.values()]

    def is_late(self, report: Report) -> bool:
        """Return whether *report* becomes an invoice item."""
        return report.id in self._late

    def send(self, client: stripe.StripeClient, reports: list[Report]) -> list[Outcome]:
        """Send the only report in *reports* once."""
        (report,) = reports
        try:
            if self.is_late(report):
                _create_invoice_item(client, self._late[report.id], report)
                return [Outcome("invoiced")]
            return [_send_event(client, report, payload_of(report, self._keys))]
        except stripe.StripeError as error:
            return [classify(error)]


def _send_event(client: stripe.StripeClient, report: Report, payload: dict[str, str]) -> Outcome:
    # Stripe replays a stored refusal as long as it remembers the key, so the key must change. The identifier stays
    # the same, so the event cannot count twice.
    key = f"{report.sent_as}.{report.refusals}" if report.refusals else report.sent_as
    event = client.v1.billing.meter_events.create(
        {
            "event_name": report.event_name,
            "identifier": report.sent_as,
            "payload": payload,
            "timestamp": report.timestamp,
        },
        options={"idempotency_key": key},
    )
    return SENT if getattr(event, "identifier", None) == report.sent_as else UNREADABLE


def _create_invoice_item(client: stripe.StripeClient, late: Late, report: Report) -> None:
    """
    Add *late* to the customer's next invoice, exactly once, however often it is called.

    Raises:
        stripe.StripeError: Stripe did not respond, or refused.
    """
    assert late.amount is not None
    if not late.amount:
        return
    if report.attempts > 1:  # Stripe may have it, and remembers the Idempotency-Key for a day only
        items = client.v1.invoice_items.list({"customer": report.customer, "limit": 100})
        if any(billed_identifier(each) == report.identifier for each in items.auto_paging_iter()):
            return
    params: Any = {
        "customer": report.customer,
        "subscription": late.subscription,
        "amount": int(late.amount.scaleb(decimals_of(late.currency))),
        "currency": late.currency,
        "description": f"{report.quantity} {report.meter}, reported after invoice {late.number}",
        "period": {"start": late.period_start, "end": late.period_end},
        "metadata": {REPORT_KEY: report.identifier},
    }
    key = f"{report.identifier}-late.{report.refusals}"
    client.v1.invoice_items.create(params, options={"idempotency_key": key})


def billed_identifier(item: stripe.InvoiceItem) -> str | None:
    """Return the identifier of the report or the line that *item* bills; None if meterkit has not made it."""
    metadata: Any = item.metadata
    return metadata[REPORT_KEY] if metadata and REPORT_KEY in metadata else None
