"""
Cancel or offset meter events at Stripe.

Stripe cancels a meter event within 24 hours of its arrival. An older one, a part of one, or one that is on a final
invoice, is offset by a negative event, which is a report like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import stripe

from meterkit.core.windows import hour_of
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease
from meterkit.outbox.corrections import Correction, Corrections, new_id
from meterkit.outbox.late_usage import has_final_invoice
from meterkit.outbox.outbox import UNKNOWN_SECONDS, Outbox
from meterkit.outbox.reports import Report, Reports
from meterkit.reporting.uncertain import UncertaintyResolver
from meterkit.stripe_api.clock import StripeClock
from meterkit.stripe_api.outcomes import classify


class Corrector:
    """
    Reverses usage.

    Args:
        database: Database of the ledger.
        client: Client of stripe-python.
        stripe_clock: Stripe's clock, read before each cancellation.
        clock: Function that returns Unix seconds.
    """

    def __init__(
        self, database: Database, *, client: stripe.StripeClient, stripe_clock: StripeClock, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._corrections = Corrections(database, clock=clock)
        self._outbox = Outbox(database, clock=clock)
        self._reports = Reports(database)
        self._client = client
        self._stripe_clock = stripe_clock
        self._clock = clock

    def correct(
        self,
        lease: Lease,
        *,
        company: str,
        meter: str,
        event_name: str,
        at: int,
        quantity: int,
        reason: str,
        by: str = "",
        dimensions: str = "",
    ) -> Correction:
        """
        Reverse *quantity* of what *company* used of *meter* in the hour of the Unix second *at*.

        Of usage that is told apart by values, only what is of those in the text *dimensions*.

        Raises:
            UsageError: The hour has less usage than that.
            stripe.StripeError: Stripe's clock could not be read; nothing was changed.
            LeaseLostError: Another process holds the lease now.
        """
        if self._corrections.is_rated(company, meter, hour_of(at)):
            event_name = ""  # Stripe has what it cost, and not the units
        used = self._corrections.used(company, meter, hour_of(at), dimensions)
        window = max((each for each, available in used.items() if available >= quantity), default=hour_of(at))
        found = self._cancelable(company, event_name, window, quantity)
        correction = Correction(
            id=new_id(),
            meter=meter,
            event_name=event_name,
            company=company,
            window=window,
            quantity=quantity,
            reason=reason,
            created_at=int(self._clock()),
            report=None if found is None else found.identifier,
            state="done" if found is None else "canceling",
            error="",
            dimensions=dimensions,
        )
        if found is None:
            self._corrections.reverse(lease, correction, by=by)
            return correction
        self._corrections.plan_cancellation(lease, correction, by=by)
        return self._cancel(lease, correction, found)

    def resume(self, lease: Lease) -> None:
        """
        Resume the cancellations whose outcome is unknown.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        for correction in self._corrections.corrections(state="canceling"):
            report = self._reports.find(str(correction.report))
            if report is None:
                continue
            try:
                self._stripe_clock.ask()
                if self._stripe_clock.now() - (report.attempted_at or 0) < UNKNOWN_SECONDS:
                    self._cancel(lease, correction, report)
                else:
                    self._check_outcome(lease, correction, report)
            except stripe.StripeError as error:
                self._corrections.note(lease, correction, classify(error).error)

    def _cancelable(self, company: str, event_name: str, window: int, quantity: int) -> Report | None:
        """
        Return a sent report of exactly this quantity that is recent enough to cancel; None if there is none.

        One that is on a final invoice is not canceled: the invoice would stay as it is, and the credit be forgotten.
        """
        for report in self._reports.sent(company, event_name, window):
            if report.quantity == quantity and report.unknown_since is None and report.attempted_at is not None:
                if has_final_invoice(self._database, report):
                    return None
                self._stripe_clock.ask()
                if self._stripe_clock.now() - report.attempted_at < UNKNOWN_SECONDS:
                    return report
        return None

    def _check_outcome(self, lease: Lease, correction: Correction, report: Report) -> None:
        """Settle a cancellation that is too old to repeat: Stripe's sum shows whether it still has the event."""
        found = UncertaintyResolver(self._client).find(self._outbox.uncertain_group_of(report))
        if found.uncertain == "pending":
            self._corrections.canceled(lease, correction, report)
        elif found.uncertain == "sent":
            self._corrections.not_canceled(lease, correction)
        else:
            self._corrections.note(lease, correction, found.error)

    def _cancel(self, lease: Lease, correction: Correction, report: Report) -> Correction:
        """Cancel *report* at Stripe, always under the same key, so that Stripe replays its first response."""
        try:
            self._client.v1.billing.meter_event_adjustments.create(
                {"type": "cancel", "event_name": report.event_name, "cancel": {"identifier": report.sent_as}},
                options={"idempotency_key": f"cancel-{correction.id}"},
            )
        except stripe.StripeError as error:
            outcome = classify(error)
            if outcome.state == "rejected" and not correction.error:
                self._corrections.not_canceled(lease, correction)
            else:  # an attempt whose response was lost may have cancelled it
                self._corrections.note(lease, correction, outcome.error)
        else:
            self._corrections.canceled(lease, correction, report)
        (updated,) = [each for each in self._corrections.corrections() if each.id == correction.id]
        return updated
