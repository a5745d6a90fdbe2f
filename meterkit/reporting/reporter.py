"""
One reporting pass: seal, resolve what is uncertain, send, prune.

A pass seals closed windows, resolves uncertain reports, sends the outbox through `meterkit.reporting.delivery`, and
deletes old usage.
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
from meterkit.rating.lines import InvoiceLines
from meterkit.rating.rerate import Tables
from meterkit.reporting.corrections import Corrector
from meterkit.reporting.delivery import ReportDelivery
from meterkit.reporting.invoice_lines import LineSender
from meterkit.reporting.meter_event_stream import StreamSender
from meterkit.reporting.meter_events import EventSender, PayloadKeys
from meterkit.reporting.uncertain import SETTLING_SECONDS, Finding, UncertaintyResolver
from meterkit.reporting.worker_pool import WorkerPool
from meterkit.stripe_api.clock import StripeClock
from meterkit.stripe_api.outcomes import Outcome, classify
from meterkit.stripe_api.retry import RetryPolicy

COMPARED_AGAIN_SECONDS = 24 * 3600
"""Seconds until reports are compared again after an inconclusive result: Stripe allows some 10,000 reads a month."""


class Reporter:
    """
    Reports usage to Stripe.

    Args:
        database: Database of the ledger.
        clock: Function that returns Unix seconds.
        api_key: Secret key of the Stripe account.
        base: Base URL of Stripe's API; None for the real one.
        account: Connected account to report to; None for the key's own.
        stop: Event that ends the pass at the next meter event, without any delay, when set.
        via: ``v1`` for one meter event per request, ``stream`` for a hundred.
        keys: Keys of meter events that are not Stripe's own.
        late: Treatment of usage whose invoice is final: ``report`` or ``next_invoice``.
        keep_days: Days for which settled usage is kept; None to keep it for ever.
        find_payers: Function called before sealing, to link companies that have no customer.
        is_shadow: Function that returns whether the kit is in shadow mode: then nothing is sent or written to Stripe.
        rates: Tables of the kit's ``Price.by(...)``, by the name of the meter whose usage they rate.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        api_key: str,
        base: str | None,
        account: str | None,
        stop: Event,
        via: str,
        keys: PayloadKeys,
        late: str,
        keep_days: int | None,
        find_payers: Callable[[], None],
        is_shadow: Callable[[], bool],
        rates: Tables,
    ) -> None:
        self._is_shadow = is_shadow
        self._database = database
        self._outbox = Outbox(database, clock=clock)
        self._clock = clock
        self._stop = stop
        self._keep_days = keep_days
        self._find_payers = find_payers
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = threads.rlock()  # a signal handler may report
        self._pool = WorkerPool(api_key, base, account, reads_only=is_shadow)
        self._stripe_clock = StripeClock(self._pool.client, clock=clock)
        self._event_sender = EventSender(keys=keys, bills_late=late == "next_invoice")
        self._stream_sender = StreamSender(keys) if via == "stream" else None
        self._retry = RetryPolicy(stop)
        self._delivery = ReportDelivery(
            self._outbox, pool=self._pool, now=self._stripe_clock.now, read_clock=self._read_clock, stop=stop
        )
        self._corrector = Corrector(database, client=self._pool.client, stripe_clock=self._stripe_clock, clock=clock)
        self._lines = InvoiceLines(database, rates, clock=clock)
        self._line_sender = LineSender(self._lines, lambda: self._pool.client, stop)

    def run(self, *, include_open: bool = False) -> Summary:
        """
        Seal closed windows, resolve uncertain reports, send the outbox, and delete old usage.

        Args:
            include_open: Whether to report the open hour too.

        Raises:
            LedgerError: The outbox could not be read or written; no usage is lost.
        """
        summary = Summary()
        try:
            with self._lease() as lease:
                self._find_payers()
                is_shadow = self._is_shadow()  # once: the hour may end during the pass
                if not is_shadow:
                    self._corrector.resume(lease)
                which: Any = {"include_open": include_open, "only_shadowed": is_shadow}
                summary.sealed = seal(self._database, lease, clock=self._clock, **which)
                if not is_shadow and not self._outbox.idle():
                    self._work(lease, summary)
                if not is_shadow:
                    self._send_lines(lease, summary)
                if self._keep_days is not None:
                    prune(self._database, lease, days=self._keep_days, clock=self._clock, stop=self._stop)
        except LeaseLostError as error:
            summary.error = str(error)
        return summary

    def correct(
        self,
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
        Reverse usage; see `Corrector.correct`.

        Raises:
            UsageError: The hour has less usage than that.
            LedgerError: The ledger or Stripe failed, or another process is reporting; try again.
        """
        usage = {"company": company, "meter": meter, "event_name": event_name, "reason": reason, "by": by}
        try:
            with self._lease() as lease:
                return self._corrector.correct(lease, **usage, at=at, quantity=quantity, dimensions=dimensions)
        except stripe.StripeError as error:
            raise LedgerError(
                f"nothing was changed, because a request to Stripe failed: {classify(error).error}"
            ) from error

    def retry(self, *, identifier: str | None = None, by: str = "") -> int:
        """
        Queue the usage of rejected events, or of one, for the next report.

        Args:
            identifier: Identifier of the event; None for all rejected events.
            by: Who asked for it, for the audit trail.

        Returns:
            Number of events whose usage was queued.

        Raises:
            LedgerError: The ledger failed, or another process reports now.
        """
        corrections = Corrections(self._database, clock=self._clock)
        with self._lease() as lease:
            rejected = self._outbox.reports(state="rejected")
            chosen = [each for each in rejected if identifier in (None, each.identifier, each.sent_as)]
            return sum(corrections.requeue(lease, each, was="rejected", by=by) for each in chosen)

    def decide(self, identifier: str, *, arrived: bool, by: str = "") -> bool:
        """
        Record an operator's decision whether Stripe has an uncertain event. If not, its usage is reported again.

        Args:
            identifier: Identifier of the event.
            arrived: Whether Stripe has the event.
            by: Who decided it, for the audit trail.

        Returns:
            False if no event of that identifier is uncertain.

        Raises:
            LedgerError: The ledger failed, or another process reports now.
        """
        with self._lease() as lease:
            for each in self._outbox.reports(state="uncertain"):
                if identifier in (each.identifier, each.sent_as):
                    corrections = Corrections(self._database, clock=self._clock)
                    if arrived:
                        return corrections.confirm(lease, each, by=by)
                    return corrections.requeue(lease, each, was="uncertain", by=by)
            return False

    @contextmanager
    def _lease(self) -> Iterator[Lease]:
        with self._pass, held(self._database, "reporter", self._holder, clock=self._clock) as lease:
            yield lease

    def hang_up(self) -> None:
        """End a call that takes too long; for a thread that watches the reporting thread."""
        self._pool.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._pool.close()

    def _work(self, lease: Lease, summary: Summary) -> None:
        failure = self._retry(self._read_clock)
        if failure is None:
            self._outbox.mark_old_uncertain(lease, now=self._stripe_clock.now())
            self._resolve_uncertain(lease, summary)
            self._send_all(lease, summary)
        else:
            summary.error = failure.error
            self._outbox.note_failure(lease, failure.error)
        summary.postponed = self._outbox.waiting()

    def _send_lines(self, lease: Lease, summary: Summary) -> None:
        self._lines.make(lease)
        summary.lines, error = self._line_sender.send(lease)
        summary.postponed += len(self._lines.pending())
        summary.error = error or summary.error

    def _read_clock(self) -> Outcome | None:
        """Read Stripe's clock. Return the outcome if that failed, else None."""
        try:
            self._stripe_clock.ask()
        except stripe.StripeError as error:
            return classify(error)
        return None

    def _resolve_uncertain(self, lease: Lease, summary: Summary) -> None:
        resolver = UncertaintyResolver(self._pool.client)
        now = self._stripe_clock.now()
        for group in self._outbox.uncertain_groups(since=now - COMPARED_AGAIN_SECONDS):
            if group.in_flight or group.attempted_at > now - SETTLING_SECONDS:
                continue  # Stripe's sum may not include it yet
            if self._stop.is_set():
                return
            try:
                found = resolver.find(group)
            except stripe.StripeError as error:
                summary.error = classify(error).error
                return
            for report in self._apply_finding(lease, group, found, now):
                summary.add(report)

    def _apply_finding(self, lease: Lease, group: UncertainReports, found: Finding, now: int) -> list[Report]:
        """Apply *found*, and return the reports that it settled. Events that Stripe lacks are sent in this pass."""
        again: dict[str, Any] = {"state": "pending", "unknown_since": None, "compared_at": None}
        for report in group.uncertain if found.uncertain == "pending" else ():
            # Under the same identifier: if a clock was wrong about its age, Stripe still accepts it only once.
            self._outbox.note(lease, [report], refusals=report.refusals + 1, **again)
        for report in group.claimed if found.claimed == "pending" else ():
            # Under a new identifier: it was refused in a response that was lost, and its identifier is used up.
            self._outbox.note(lease, [report], revision=report.revision + 1, refusals=0, **again)
        if found.claimed == "sent":
            self._outbox.settle(lease, group.claimed, "sent", unknown_since=None)
        if found.uncertain == "sent":
            return self._outbox.settle(lease, group.uncertain, "sent", unknown_since=None)
        if found.uncertain == "uncertain":
            return self._outbox.note(lease, group.uncertain, compared_at=now, error=found.error)
        return []

    def _send_all(self, lease: Lease, summary: Summary) -> None:
        late = self._event_sender.find_late(self._database)
        if self._stream_sender is None:
            self._delivery.deliver(lease, self._outbox.pending(), self._event_sender, summary)
        elif self._delivery.deliver(lease, late, self._event_sender, summary):
            others = (report for report in self._outbox.pending() if not self._event_sender.is_late(report))
            self._delivery.deliver(lease, others, self._stream_sender, summary)
