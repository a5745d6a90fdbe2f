"""
One reporting pass: seal, resolve what is uncertain, send, prune.

A pass seals what is due, looks into what is in doubt, has `meterkit.reporting.delivery` send what is in the outbox, and
lets go of what is old.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import stripe

from meterkit.core import threads
from meterkit.core.threads import Event
from meterkit.errors import LedgerError
from meterkit.ledger.database import Database
from meterkit.ledger.lease import Lease, LeaseLostError, held
from meterkit.outbox.corrections import Correction, Corrections
from meterkit.outbox.outbox import Outbox, Summary, UncertainReports
from meterkit.outbox.reports import Report
from meterkit.outbox.retention import prune
from meterkit.outbox.seal import seal
from meterkit.reporting.corrections import Corrector
from meterkit.reporting.delivery import ReportDelivery
from meterkit.reporting.meter_event_stream import Stream
from meterkit.reporting.meter_events import Sending
from meterkit.reporting.uncertain import SETTLING_SECONDS, Finding, UncertaintyResolver
from meterkit.reporting.worker_pool import WorkerPool
from meterkit.stripe_api.clock import StripeClock
from meterkit.stripe_api.outcomes import Outcome, classify
from meterkit.stripe_api.retry import RetryPolicy

COMPARED_AGAIN_SECONDS = 24 * 3600
"""What Stripe's summaries could not tell is looked at once a day: Stripe allows some 10,000 reads a month."""


class Reporter:
    """
    Sends what is in the outbox.

    Args:
        database: Where the ledger is kept.
        clock: Unix time in seconds.
        api_key: Stripe's secret key.
        base: Stripe's base address; None for the real one.
        stop: When set, the pass ends at the next event, and waits for nothing.
        via: ``v1``: each meter event is a request; ``stream``: a hundred are.
        keep_days: For how long settled usage is kept; None for ever.
        late: What becomes of usage whose invoice is final: ``report`` or ``next_invoice``.
        find_payers: Called before usage is written into the outbox, to link companies that have no customer.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        api_key: str,
        base: str | None,
        stop: Event,
        via: str,
        late: str,
        keep_days: int | None,
        find_payers: Callable[[], None],
    ) -> None:
        self._database = database
        self._outbox = Outbox(database, clock=clock)
        self._clock = clock
        self._stop = stop
        self._keep_days = keep_days
        self._find_payers = find_payers
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = threads.rlock()  # a signal handler may report
        self._lanes = WorkerPool(api_key, base)
        self._stripe_clock = StripeClock(self._lanes.client, clock=clock)
        self._sending = Sending(bills_late=late == "next_invoice")
        self._stream = Stream() if via == "stream" else None
        self._patiently = RetryPolicy(stop)
        self._delivery = ReportDelivery(
            self._outbox, lanes=self._lanes, now=self._stripe_clock.now, tell_time=self._tell_time, stop=stop
        )
        self._corrector = Corrector(database, client=self._lanes.client, told=self._stripe_clock, clock=clock)

    def run(self, *, include_open: bool = False) -> Summary:
        """
        Write what is due into the outbox, look into what is uncertain, send what is there, and let go of what is old.

        Args:
            include_open: Report the hour that is still open, too.

        Raises:
            LedgerError: The outbox could not be read or written; nothing is lost by that.
        """
        summary = Summary()
        try:
            with self._holding_lease() as lease:
                self._find_payers()
                self._corrector.resume(lease)
                summary.sealed = seal(self._database, lease, clock=self._clock, include_open=include_open)
                if not self._outbox.idle():
                    self._work(lease, summary)
                if self._keep_days is not None:
                    prune(self._database, lease, days=self._keep_days, clock=self._clock, stop=self._stop)
        except LeaseLostError as error:
            summary.error = str(error)
        return summary

    def correct(self, *, company: str, meter: str, event_name: str, at: int, quantity: int, reason: str) -> Correction:
        """
        Take usage back; see `Corrector.correct`.

        Raises:
            UsageError: So much was not used then.
            LedgerError: The ledger failed, another process reports now, or Stripe did not answer; try again.
        """
        what = {"company": company, "meter": meter, "event_name": event_name, "reason": reason}
        try:
            with self._holding_lease() as lease:
                return self._corrector.correct(lease, **what, at=at, quantity=quantity)
        except stripe.StripeError as error:
            raise LedgerError(f"nothing was done, for Stripe did not answer: {classify(error).error}") from error

    def retry(self, *, identifier: str | None = None) -> int:
        """
        Let the usage of rejected events, or of one, be reported anew with the next report.

        Returns:
            Of how many.

        Raises:
            LedgerError: The ledger failed, or another process reports now.
        """
        mending = Corrections(self._database, clock=self._clock)
        with self._holding_lease() as lease:
            rejected = self._outbox.reports(state="rejected")
            chosen = [each for each in rejected if identifier in (None, each.identifier, each.sent_as)]
            return sum(mending.requeue(lease, each, was="rejected") for each in chosen)

    def decide(self, identifier: str, *, arrived: bool) -> bool:
        """
        Take a human's word for whether Stripe has an uncertain event. If not, its usage is reported anew.

        Returns:
            False if no event of that identifier is uncertain.

        Raises:
            LedgerError: The ledger failed, or another process reports now.
        """
        with self._holding_lease() as lease:
            for each in self._outbox.reports(state="uncertain"):
                if identifier in (each.identifier, each.sent_as):
                    if arrived:
                        return bool(self._outbox.settle(lease, [each], "sent", unknown_since=None))
                    return Corrections(self._database, clock=self._clock).requeue(lease, each, was="uncertain")
            return False

    @contextmanager
    def _holding_lease(self) -> Iterator[Lease]:
        with self._pass, held(self._database, "reporter", self._holder, clock=self._clock) as lease:
            yield lease

    def hang_up(self) -> None:
        """End a call that takes too long; for a thread that looks after the one that reports."""
        self._lanes.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._lanes.close()

    def _work(self, lease: Lease, summary: Summary) -> None:
        untold = self._patiently(self._tell_time)
        if untold is None:
            self._outbox.doubt_old_attempts(lease, now=self._stripe_clock.now())
            self._settle_doubts(lease, summary)
            self._send_all(lease, summary)
        else:
            summary.error = untold.error
        summary.postponed = self._outbox.waiting()

    def _tell_time(self) -> Outcome | None:
        """Ask Stripe for the time; answer why that failed, if it did."""
        try:
            self._stripe_clock.ask()
        except stripe.StripeError as error:
            return classify(error)
        return None

    def _settle_doubts(self, lease: Lease, summary: Summary) -> None:
        comparison = UncertaintyResolver(self._lanes.client)
        now = self._stripe_clock.now()
        for doubt in self._outbox.doubts(since=now - COMPARED_AGAIN_SECONDS):
            if doubt.moving or doubt.attempted_at > now - SETTLING_SECONDS:
                continue  # what Stripe says now may be old
            if self._stop.is_set():
                return
            try:
                found = comparison.find(doubt)
            except stripe.StripeError as error:
                summary.error = classify(error).error
                return
            for report in self._settle_doubt(lease, doubt, found, now):
                summary.enter(report)

    def _settle_doubt(self, lease: Lease, doubt: UncertainReports, found: Finding, now: int) -> list[Report]:
        """Answers those of *doubt* whose fate that is; what is not there is sent in this very pass."""
        again: dict[str, Any] = {"state": "pending", "unknown_since": None, "compared_at": None}
        for report in doubt.uncertain if found.uncertain == "pending" else ():
            # As the same event: if a clock has deceived us about how long ago it was sent, Stripe takes it but once.
            self._outbox.note(lease, [report], refusals=report.refusals + 1, **again)
        for report in doubt.claimed if found.claimed == "pending" else ():
            # As another: it was refused, without our hearing of it, and its identifier is used up.
            self._outbox.note(lease, [report], revision=report.revision + 1, refusals=0, **again)
        if found.claimed == "sent":
            self._outbox.settle(lease, doubt.claimed, "sent", unknown_since=None)
        if found.uncertain == "sent":
            return self._outbox.settle(lease, doubt.uncertain, "sent", unknown_since=None)
        if found.uncertain == "uncertain":
            return self._outbox.note(lease, doubt.uncertain, compared_at=now, error=found.error)
        return []

    def _send_all(self, lease: Lease, summary: Summary) -> None:
        late = self._sending.look_for_late(self._database)
        if self._stream is None:
            self._delivery.deliver(lease, self._outbox.pending(), self._sending, summary)
        elif self._delivery.deliver(lease, late, self._sending, summary):
            others = (report for report in self._outbox.pending() if not self._sending.is_late(report))
            self._delivery.deliver(lease, others, self._stream, summary)
