"""
Send outbox rows in batches, with a commit before and after each batch.

The first commit records that a batch is about to be sent, the second what became of it. A customer's reports are sent
one after the other, because Stripe refuses concurrent ones for one customer and meter; those of different customers are
sent in parallel by `meterkit.reporting.worker_pool`. Only `meterkit.stripe_api.outcomes` defines what a response means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter
from time import monotonic
from typing import Any, Protocol

import stripe

from meterkit.core import threads
from meterkit.core.threads import Event
from meterkit.ledger.lease import Lease
from meterkit.outbox.outbox import Outbox, Summary
from meterkit.outbox.reports import Report
from meterkit.reporting.worker_pool import WorkerPool
from meterkit.stripe_api.outcomes import SENT, Outcome
from meterkit.stripe_api.retry import RetryPolicy

FAILURES_BEFORE_STOP = 3
"""Consecutive failures on Stripe's side after which Stripe, not the event, is at fault."""

BATCH_SECONDS = 20.0
"""Seconds after which a batch starts no request. `meterkit.ledger.lease` allows for this and one request's limit."""


class Sender(Protocol):
    """
    Sends reports to one of Stripe's APIs.

    Attributes:
        per_request: Most reports per request.
        per_batch: Most reports between two commits.
    """

    per_request: int
    per_batch: int

    def send(self, client: stripe.StripeClient, reports: list[Report]) -> list[Outcome]:
        """Send *reports* once, in one request, and return the outcome of each."""
        ...


class ReportDelivery:
    """
    Sends reports, and records their outcomes.

    Args:
        outbox: Outbox of the ledger.
        pool: Pool of connections to Stripe.
        now: Function that returns Stripe's time in Unix seconds.
        read_clock: Function that reads Stripe's clock, and returns an outcome if that failed, else None.
        stop: Event that ends delivery, when set, once the current requests are complete.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        pool: WorkerPool,
        now: Callable[[], int],
        read_clock: Callable[[], Outcome | None],
        stop: Event,
    ) -> None:
        self._outbox = outbox
        self._pool = pool
        self._now = now
        self._read_clock = read_clock
        self._stop = stop
        self._retry = RetryPolicy(stop)

    def deliver(self, lease: Lease, reports: Iterable[Report], sender: Sender, summary: Summary) -> bool:
        """
        Send *reports*, and add their outcomes to *summary*.

        Returns:
            False if sending more reports is pointless in this pass.

        Raises:
            LeaseLostError: Another process holds the lease now.
        """
        queue = iter(reports)
        with self._pool.open():
            while batch := list(islice(queue, sender.per_batch)):
                if not self._deliver(lease, batch, sender, summary):
                    return False
        return True

    def _deliver(self, lease: Lease, batch: list[Report], sender: Sender, summary: Summary) -> bool:
        """Send *batch*, repeatedly as long as some of it succeeds. Return whether to continue with others."""
        outcome, remaining = SENT, len(batch) + 1
        while 0 < len(batch) < remaining and (outcome.retry or not outcome.affects_all):
            remaining = len(batch)
            outcome = self._retry(partial(self._send, lease, batch, sender, summary))
            if self._stop.is_set():
                return False
        if batch:
            summary.error = outcome.error or summary.error
        return not outcome.affects_all

    def _send(self, lease: Lease, batch: list[Report], sender: Sender, summary: Summary) -> Outcome:
        """Send *batch* once, keep in it what must be sent again, and return the worst outcome."""
        if any(report.unknown_since is not None for report in batch):  # their age matters, so the clock must be current
            failure = self._read_clock()
            if failure is not None:
                return failure
        before = {report.id: report for report in batch}
        begun = self._outbox.begin(lease, batch, now=self._now())
        attempt = _Attempt(sender, self._stop)
        self._pool.run(partial(attempt.send, queue) for queue in _queues(begun, sender.per_request))
        if attempt.worst.affects_all:
            self._pool.shrink()
        batch.clear()
        for report in self._record(lease, before, begun, attempt.outcomes):
            outcome = attempt.outcomes.get(report.id)
            if report.state == "pending" and (outcome is None or outcome.retry):
                batch.append(report)
            else:
                summary.add(report)
        batch.sort(key=attrgetter("attempts", "id"))  # the order of the outbox
        return attempt.worst

    def _record(
        self,
        lease: Lease,
        before: dict[int, Report],
        begun: list[Report],
        outcomes: dict[int, Outcome],
    ) -> Iterator[Report]:
        """Record the outcomes, one commit per distinct change, and yield the updated reports."""
        by_changes: dict[tuple[tuple[str, Any], ...], list[Report]] = {}
        for report in begun:
            if report.state == "uncertain":  # too old to be resent, so it was not sent
                yield report
                continue
            changes = _changes(before[report.id], report, outcomes.get(report.id))
            by_changes.setdefault(tuple(changes.items()), []).append(report)
        for items, reports in by_changes.items():
            changes = dict(items)
            if "state" in changes:
                yield from self._outbox.settle(lease, reports, **changes)
            else:
                yield from self._outbox.note(lease, reports, **changes)


def _queues(reports: list[Report], per_request: int) -> list[list[Report]]:
    """Return pending *reports* as queues: a customer's in one queue, and each queue filling a request if possible."""
    by_customer: dict[str, list[Report]] = {}
    for report in reports:
        if report.state == "pending":
            by_customer.setdefault(report.customer, []).append(report)
    queues: list[list[Report]] = []
    for group in by_customer.values():
        if queues and len(queues[-1]) + len(group) <= per_request:
            queues[-1] += group
        else:
            queues.append(group)
    return queues


def _changes(before: Report, begun: Report, outcome: Outcome | None) -> dict[str, Any]:
    """Return the changes that *outcome* makes to a report; None means that it was not sent after all."""
    if outcome is None:
        names = ("attempts", "attempted_at", "unknown_since")
        return {name: getattr(before, name) for name in names}
    if outcome.state in ("sent", "invoiced"):
        # A duplicate was delivered, or refused in a response that was lost. That is verified later.
        unknown_since = begun.unknown_since if outcome.duplicate else None
        return {"state": outcome.state, "error": "", "unknown_since": unknown_since}
    was_refused = outcome.refused and not outcome.unknown
    if was_refused and before.unknown_since is not None:  # an earlier attempt may have delivered it
        return {"state": "uncertain", "error": outcome.error}
    if outcome.state == "rejected":
        return {"state": "rejected", "error": outcome.error, "unknown_since": None}
    return {
        "error": outcome.error,
        "unknown_since": begun.unknown_since if outcome.unknown else before.unknown_since,
        "revision": begun.revision + was_refused,
        "refusals": 0 if was_refused else begun.refusals + outcome.refused,
    }


class _Attempt:
    """One attempt at a batch."""

    def __init__(self, sender: Sender, stop: Event) -> None:
        self._sender = sender
        self._stop = stop
        self._until = monotonic() + BATCH_SECONDS
        self._lock = threads.lock()
        self._failed_in_a_row = 0
        self.outcomes: dict[int, Outcome] = {}
        self.worst = SENT

    def send(self, queue: list[Report], client: stripe.StripeClient) -> bool:
        """Send *queue*, one request after the other. Return whether no request needs a retry so far."""
        for start in range(0, len(queue), self._sender.per_request):
            if self.worst.affects_all or self._stop.is_set() or monotonic() > self._until:
                break
            reports = queue[start : start + self._sender.per_request]
            for report, outcome in zip(reports, self._sender.send(client, reports), strict=True):
                self._add_outcome(report, outcome)
        return not self.worst.retry

    def _add_outcome(self, report: Report, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes[report.id] = outcome
            self._failed_in_a_row = self._failed_in_a_row + 1 if outcome.retry else 0
            if self._failed_in_a_row >= FAILURES_BEFORE_STOP:
                outcome = replace(outcome, affects_all=True)
            self.worst = max(self.worst, outcome, key=lambda each: (each.affects_all, each.retry, each.error != ""))
