"""
Edges: the reporter, from the outbox to Stripe's meter events.

Each event is sent alone and in turn: Stripe refuses two at a time for one customer and meter. What an answer means
stands in `meterkit.verdict`, and nowhere else.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import stripe
import tenacity

from meterkit import native
from meterkit.comparison import SETTLING_SECONDS, Comparison, Finding
from meterkit.correcting import Corrector
from meterkit.database import Database
from meterkit.errors import LedgerError
from meterkit.lease import Lease, LeaseLostError, acquire, release
from meterkit.mending import Correction, Mending
from meterkit.native import Flag
from meterkit.outbox import Doubt, Outbox, Summary
from meterkit.reports import Report
from meterkit.sealing import seal
from meterkit.sending import Sending
from meterkit.streaming import Stream
from meterkit.stripe_clock import StripeClock
from meterkit.transport import connect
from meterkit.verdict import Verdict, judge

TRIES = 4
"""In one pass, with some seconds between; after that the next pass goes on."""

MAX_WAIT = 8.0
"""Seconds between two tries, at most."""

FAILURES_BEFORE_STOP = 3
"""So many events in a row that fail on Stripe's side, and it is Stripe that is ill, not the event."""

V = TypeVar("V", Verdict, Verdict | None)

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
        via: ``v1``: one meter event after the other; ``stream``: a hundred at once.
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
        stop: Flag,
        via: str,
        late: str,
        find_payers: Callable[[], None],
    ) -> None:
        self._database = database
        self._outbox = Outbox(database, clock=clock)
        self._clock = clock
        self._stop = stop
        self._find_payers = find_payers
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = native.rlock()  # a signal handler may report
        self._stripe, self._http = connect(api_key, base)
        self._stripe_clock = StripeClock(self._stripe, clock=clock)
        self._sending = Sending(self._stripe, bills_late=late == "next_invoice")
        self._stream: Stream | None = None
        if via == "stream":
            self._stream = Stream(
                self._stripe,
                outbox=self._outbox,
                now=self._stripe_clock.now,
                tell_time=self._tell_time,
                patiently=self._patiently,
                stop=stop,
            )
        self._corrector = Corrector(database, client=self._stripe, told=self._stripe_clock, clock=clock)

    def run(self, *, include_open: bool = False) -> Summary:
        """
        Write what is due into the outbox, look into what is uncertain, and send what is there.

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
            raise LedgerError(f"nothing was done, for Stripe did not answer: {judge(error).error}") from error

    def retry(self, *, identifier: str | None = None) -> int:
        """
        Let the usage of rejected events, or of one, be reported anew with the next report.

        Returns:
            Of how many.

        Raises:
            LedgerError: The ledger failed, or another process reports now.
        """
        mending = Mending(self._database, clock=self._clock)
        with self._holding_lease() as lease:
            rejected = self._outbox.reports(state="rejected")
            chosen = [each for each in rejected if identifier in (None, each.identifier, each.sent_as)]
            return sum(mending.give_back(lease, each, was="rejected") for each in chosen)

    @contextmanager
    def _holding_lease(self) -> Iterator[Lease]:
        with self._pass:
            lease = acquire(self._database, "reporter", self._holder, clock=self._clock)
            if lease is None:
                raise LeaseLostError("another process is reporting now")
            try:
                yield lease
            finally:
                with suppress(LedgerError):  # it expires
                    release(self._database, lease)

    def hang_up(self) -> None:
        """End a call that takes too long; for a thread that looks after the one that reports."""
        self._http.hang_up()

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._http.close()

    def _work(self, lease: Lease, summary: Summary) -> None:
        untold = self._patiently(self._tell_time)
        if untold is None:
            self._outbox.doubt_old_attempts(lease, now=self._stripe_clock.now())
            self._settle_doubts(lease, summary)
            self._send_all(lease, summary)
        else:
            summary.error = untold.error
        summary.postponed = self._outbox.waiting()

    def _tell_time(self) -> Verdict | None:
        """Ask Stripe for the time; answer why that failed, if it did."""
        try:
            self._stripe_clock.ask()
        except stripe.StripeError as error:
            return judge(error)
        return None

    def _settle_doubts(self, lease: Lease, summary: Summary) -> None:
        comparison = Comparison(self._stripe)
        now = self._stripe_clock.now()
        for doubt in self._outbox.doubts(since=now - COMPARED_AGAIN_SECONDS):
            if doubt.moving or doubt.attempted_at > now - SETTLING_SECONDS:
                continue  # what Stripe says now may be old
            if self._stop.is_set():
                return
            try:
                found = comparison.find(doubt)
            except stripe.StripeError as error:
                summary.error = judge(error).error
                return
            for report in self._settle_doubt(lease, doubt, found, now):
                summary.enter(report)

    def _settle_doubt(self, lease: Lease, doubt: Doubt, found: Finding, now: int) -> list[Report]:
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
        failures = 0
        late = self._sending.look_for_late(self._database)
        for report in self._outbox.pending() if self._stream is None else late:
            sent, verdict = self._send_patiently(lease, report)
            summary.enter(sent)
            failures = failures + 1 if verdict.retry else 0
            if verdict.everyone or failures == FAILURES_BEFORE_STOP or self._stop.is_set():
                return
        if self._stream is not None:
            self._stream.send_all(lease, summary)

    def _send_patiently(self, lease: Lease, report: Report) -> tuple[Report, Verdict]:
        """Send *report*, several times if need be; answer what became of it, and the last verdict."""

        def send_again() -> Verdict:
            nonlocal report
            report, verdict = self._send(lease, report)
            return verdict

        verdict = self._patiently(send_again)
        return report, verdict

    def _patiently(self, call: Callable[[], V]) -> V:
        """What *call* answers at last: it is called again while that may help."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda verdict: verdict is not None and verdict.retry),
            stop=lambda state: state.attempt_number >= TRIES or self._stop.is_set(),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=MAX_WAIT),
            sleep=self._rest,
            retry_error_callback=_last_verdict,
        )
        return retrying(call)

    def _rest(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _send(self, lease: Lease, report: Report) -> tuple[Report, Verdict]:
        """Send *report* once, and write down what is known of it before and after."""
        if report.unknown_since is not None:  # how long ago, has to be known at this very moment
            untold = self._tell_time()
            if untold is not None:
                return report, untold
        begun = self._outbox.begin(lease, report, now=self._stripe_clock.now())
        if begun.state == "uncertain":
            return begun, Verdict("pending", begun.error)
        verdict = self._sending.send(begun, again=report.attempts > 0)
        may_be_there = report.unknown_since is not None  # by an earlier attempt, whatever is said of this one
        if verdict.state == "sent":
            # A duplicate is there, or was refused before without our hearing of it. That is looked into later.
            since = begun.unknown_since if verdict.duplicate else None
            state = self._sending.state_of(begun)
            return self._outbox.settle(lease, [begun], state, unknown_since=since)[0], verdict
        was_refused = verdict.refused and not verdict.unknown
        if was_refused and may_be_there:
            return self._outbox.settle(lease, [begun], "uncertain", error=verdict.error)[0], verdict
        if verdict.state == "rejected":
            return self._outbox.settle(lease, [begun], "rejected", error=verdict.error, unknown_since=None)[0], verdict
        return self._outbox.note(
            lease,
            [begun],
            error=verdict.error,
            unknown_since=begun.unknown_since if verdict.unknown else report.unknown_since,
            revision=begun.revision + was_refused,
            refusals=0 if was_refused else begun.refusals + verdict.refused,
        )[0], verdict


def _last_verdict(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
