"""
Send outbox rows in batches, with a commit before and after each batch.

That a portion is about to be sent is written down in one commit, and what became of it in another. A customer's reports
go one after the other, for Stripe refuses two at a time for one customer and meter; those of others go beside them, in
`meterkit.reporting.worker_pool`. What an answer means stands in `meterkit.stripe_api.outcomes`, and nowhere else.
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
"""So many events in a row that fail on Stripe's side, and it is Stripe that is ill, not the event."""

PORTION_SECONDS = 20.0
"""No request is begun after so long. With the time that one may take, `meterkit.ledger.lease` allows for it."""


class Carrier(Protocol):
    """
    A way to Stripe.

    Attributes:
        at_once: How many reports one request may have.
        portion: How many to have under way between two commits.
    """

    at_once: int
    portion: int

    def send(self, client: stripe.StripeClient, reports: list[Report]) -> list[Outcome]:
        """Send *reports* once, in one request; what became of each."""
        ...


class ReportDelivery:
    """
    Delivers reports.

    Args:
        outbox: Where they are.
        lanes: To Stripe.
        now: Stripe's time, unix seconds.
        tell_time: Asks Stripe for it; answers why that failed, if it did.
        stop: When set, it ends as soon as the requests under way are answered.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        lanes: WorkerPool,
        now: Callable[[], int],
        tell_time: Callable[[], Outcome | None],
        stop: Event,
    ) -> None:
        self._outbox = outbox
        self._lanes = lanes
        self._now = now
        self._tell_time = tell_time
        self._stop = stop
        self._patiently = RetryPolicy(stop)

    def deliver(self, lease: Lease, reports: Iterable[Report], carrier: Carrier, summary: Summary) -> bool:
        """
        Send *reports*.

        Returns:
            False if it is no use to go on, with these or others.

        Raises:
            LeaseLostError: Another process reports now.
        """
        queue = iter(reports)
        with self._lanes.open():
            while portion := list(islice(queue, carrier.portion)):
                if not self._deliver(lease, portion, carrier, summary):
                    return False
        return True

    def _deliver(self, lease: Lease, portion: list[Report], carrier: Carrier, summary: Summary) -> bool:
        """Send *portion*, again and again as long as some of it gets through; whether to go on with others."""
        verdict, left = SENT, len(portion) + 1
        while 0 < len(portion) < left and (verdict.retry or not verdict.affects_all):
            left = len(portion)
            verdict = self._patiently(partial(self._send, lease, portion, carrier, summary))
            if self._stop.is_set():
                return False
        if portion:
            summary.error = verdict.error or summary.error
        return not verdict.affects_all

    def _send(self, lease: Lease, portion: list[Report], carrier: Carrier, summary: Summary) -> Outcome:
        """Send *portion* once, and leave in it what is to be sent again; answer the worst that was said."""
        if any(report.unknown_since is not None for report in portion):  # how long ago, has to be known at this moment
            untold = self._tell_time()
            if untold is not None:
                return untold
        before = {report.id: report for report in portion}
        begun = self._outbox.begin(lease, portion, now=self._now())
        attempt = _Attempt(carrier, self._stop)
        self._lanes.run(partial(attempt.send, queue) for queue in _queues(begun, carrier.at_once))
        if attempt.worst.affects_all:
            self._lanes.narrow()
        portion.clear()
        for report in self._keep(lease, before, begun, attempt.verdicts):
            verdict = attempt.verdicts.get(report.id)
            if report.state == "pending" and (verdict is None or verdict.retry):
                portion.append(report)
            else:
                summary.enter(report)
        portion.sort(key=attrgetter("attempts", "id"))  # as the outbox does
        return attempt.worst

    def _keep(
        self,
        lease: Lease,
        before: dict[int, Report],
        begun: list[Report],
        verdicts: dict[int, Outcome],
    ) -> Iterator[Report]:
        """Write down what is known now, of all that fared the same at once."""
        alike: dict[tuple[tuple[str, Any], ...], list[Report]] = {}
        for report in begun:
            if report.state == "uncertain":  # for too long already, so it was not sent
                yield report
                continue
            changes = _changes(before[report.id], report, verdicts.get(report.id))
            alike.setdefault(tuple(changes.items()), []).append(report)
        for items, reports in alike.items():
            changes = dict(items)
            yield from (self._outbox.settle if "state" in changes else self._outbox.note)(lease, reports, **changes)


def _queues(reports: list[Report], at_once: int) -> list[list[Report]]:
    """*reports* so that those of a customer are in one queue, and each queue fills a request if it can."""
    by_customer: dict[str, list[Report]] = {}
    for report in reports:
        if report.state == "pending":
            by_customer.setdefault(report.customer, []).append(report)
    queues: list[list[Report]] = []
    for theirs in by_customer.values():
        if queues and len(queues[-1]) + len(theirs) <= at_once:
            queues[-1] += theirs
        else:
            queues.append(theirs)
    return queues


def _changes(before: Report, begun: Report, verdict: Outcome | None) -> dict[str, Any]:
    """What *verdict* makes of a report that was as *before* until it was *begun*; None if its turn did not come."""
    if verdict is None:
        names = ("attempts", "attempted_at", "unknown_since")
        return {name: getattr(before, name) for name in names}
    if verdict.state in ("sent", "invoiced"):
        # A duplicate is there, or was refused before without our hearing of it. That is looked into later.
        unknown_since = begun.unknown_since if verdict.duplicate else None
        return {"state": verdict.state, "error": "", "unknown_since": unknown_since}
    was_refused = verdict.refused and not verdict.unknown
    if was_refused and before.unknown_since is not None:  # it may be there, whatever is said of this attempt
        return {"state": "uncertain", "error": verdict.error}
    if verdict.state == "rejected":
        return {"state": "rejected", "error": verdict.error, "unknown_since": None}
    return {
        "error": verdict.error,
        "unknown_since": begun.unknown_since if verdict.unknown else before.unknown_since,
        "revision": begun.revision + was_refused,
        "refusals": 0 if was_refused else begun.refusals + verdict.refused,
    }


class _Attempt:
    """One attempt at a portion."""

    def __init__(self, carrier: Carrier, stop: Event) -> None:
        self._carrier = carrier
        self._stop = stop
        self._until = monotonic() + PORTION_SECONDS
        self._lock = threads.lock()
        self._failed_in_a_row = 0
        self.verdicts: dict[int, Outcome] = {}
        self.worst = SENT

    def send(self, queue: list[Report], client: stripe.StripeClient) -> bool:
        """Send *queue*, one request after the other; whether all goes well so far."""
        for start in range(0, len(queue), self._carrier.at_once):
            if self.worst.affects_all or self._stop.is_set() or monotonic() > self._until:
                break
            reports = queue[start : start + self._carrier.at_once]
            for report, verdict in zip(reports, self._carrier.send(client, reports), strict=True):
                self._weigh(report, verdict)
        return not self.worst.retry

    def _weigh(self, report: Report, verdict: Outcome) -> None:
        with self._lock:
            self.verdicts[report.id] = verdict
            self._failed_in_a_row = self._failed_in_a_row + 1 if verdict.retry else 0
            if self._failed_in_a_row >= FAILURES_BEFORE_STOP:
                verdict = replace(verdict, affects_all=True)
            self.worst = max(self.worst, verdict, key=lambda each: (each.affects_all, each.retry, each.error != ""))
