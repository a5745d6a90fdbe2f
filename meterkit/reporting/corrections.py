"""
Cancel or offset meter events at Stripe.

Stripe cancels a meter event within 24 hours of its arrival. What is older, or only a part of one, is taken back by a
negative event, which is a report like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import stripe

from meterkit.core.windows import hour_of
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease
from meterkit.outbox.corrections import Correction, Corrections, new_id
from meterkit.outbox.outbox import UNKNOWN_SECONDS, Outbox
from meterkit.outbox.reports import Report, Reports
from meterkit.reporting.uncertain import UncertaintyResolver
from meterkit.stripe_api.clock import StripeClock
from meterkit.stripe_api.outcomes import classify


class Corrector:
    """
    Takes usage back.

    Args:
        database: Where the ledger is kept.
        client: Of stripe-python.
        told: Stripe's time, which is asked for before each cancellation.
        clock: Unix time in seconds.
    """

    def __init__(
        self, database: Database, *, client: stripe.StripeClient, told: StripeClock, clock: Callable[[], float]
    ) -> None:
        self._mending = Corrections(database, clock=clock)
        self._outbox = Outbox(database, clock=clock)
        self._reports = Reports(database)
        self._client = client
        self._told = told
        self._clock = clock

    def correct(
        self, lease: Lease, *, company: str, meter: str, event_name: str, at: int, quantity: int, reason: str
    ) -> Correction:
        """
        Take *quantity* back from what *company* used of *meter* in the hour of the second *at*.

        Raises:
            UsageError: So much was not used then.
            stripe.StripeError: Stripe did not tell the time; nothing was done.
            LeaseLostError: Another process reports now.
        """
        used = self._mending.used(company, meter, hour_of(at))
        window = max((each for each, used_then in used.items() if used_then >= quantity), default=hour_of(at))
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
        )
        if found is None:
            self._mending.reverse(lease, correction)
            return correction
        self._mending.plan_cancellation(lease, correction)
        return self._cancel(lease, correction, found)

    def resume(self, lease: Lease) -> None:
        """
        Ask again for the cancellations of which Stripe has not told the outcome.

        Raises:
            LeaseLostError: Another process reports now.
        """
        for correction in self._mending.corrections(state="canceling"):
            report = self._reports.find(str(correction.report))
            if report is None:
                continue
            try:
                self._told.ask()
                if self._told.now() - (report.attempted_at or 0) < UNKNOWN_SECONDS:
                    self._cancel(lease, correction, report)
                else:
                    self._look(lease, correction, report)
            except stripe.StripeError as error:
                self._mending.note(lease, correction, classify(error).error)

    def _cancelable(self, company: str, event_name: str, window: int, quantity: int) -> Report | None:
        """A report of just this, which Stripe surely has, and has had for so short that it can be canceled."""
        for report in self._reports.sent(company, event_name, window):
            if report.quantity == quantity and report.unknown_since is None and report.attempted_at is not None:
                self._told.ask()
                if self._told.now() - report.attempted_at < UNKNOWN_SECONDS:
                    return report
        return None

    def _look(self, lease: Lease, correction: Correction, report: Report) -> None:
        """It is too late to ask again: Stripe's sum tells whether it has the event still."""
        found = UncertaintyResolver(self._client).find(self._outbox.doubt_about(report))
        if found.uncertain == "pending":
            self._mending.canceled(lease, correction, report)
        elif found.uncertain == "sent":
            self._mending.not_canceled(lease, correction)
        else:
            self._mending.note(lease, correction, found.error)

    def _cancel(self, lease: Lease, correction: Correction, report: Report) -> Correction:
        """Ask Stripe, under one key however often: a repetition is answered with what was answered first."""
        try:
            self._client.v1.billing.meter_event_adjustments.create(
                {"type": "cancel", "event_name": report.event_name, "cancel": {"identifier": report.sent_as}},
                options={"idempotency_key": f"cancel-{correction.id}"},
            )
        except stripe.StripeError as error:
            verdict = classify(error)
            if verdict.state == "rejected" and not correction.error:
                self._mending.not_canceled(lease, correction)
            else:  # it may have been canceled by an attempt whose answer was lost
                self._mending.note(lease, correction, verdict.error)
        else:
            self._mending.canceled(lease, correction, report)
        (now,) = [each for each in self._mending.corrections() if each.id == correction.id]
        return now
