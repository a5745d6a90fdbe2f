"""
Edges: the reporter, from the outbox to Stripe's meter events.

Each event is sent alone and in turn: Stripe refuses two at a time for one customer and meter. What an answer means
stands in `meterkit.verdict`, and nowhere else.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

import stripe
import tenacity

from meterkit.outbox import Lease, LeaseLostError, Outbox, Report, State, Summary
from meterkit.transport import HTTPXClient
from meterkit.verdict import SENT, UNREADABLE, Verdict, judge

TRIES = 4
"""In one pass, with some seconds between; after that the next pass goes on."""

MAX_WAIT = 8.0
"""Seconds between two tries, at most."""

FAILURES_BEFORE_STOP = 3
"""So many events in a row that fail on Stripe's side, and it is Stripe that is ill, not the event."""


class Reporter:
    """
    Sends what is in the outbox.

    Args:
        outbox: Of the ledger.
        api_key: Stripe's secret key.
        base: Stripe's base address; None for the real one.
        stop: When set, the pass ends at the next event, and waits for nothing.
    """

    def __init__(self, outbox: Outbox, *, api_key: str, base: str | None, stop: threading.Event) -> None:
        self._outbox = outbox
        self._stop = stop
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._pass = threading.Lock()
        self._http = HTTPXClient()
        # Not the SDK's own retries: it does not know which answers leave the outcome open.
        self._stripe = stripe.StripeClient(
            api_key,
            http_client=self._http,
            max_network_retries=0,
            base_addresses={"api": base.rstrip("/")} if base else None,
        )

    def run(self, *, include_open: bool = False, between: Callable[[], None] = lambda: None) -> Summary:
        """
        Write what is due into the outbox, and send what is there.

        Args:
            include_open: Report the hour that is still open, too.
            between: Called after each event, so that a long pass does not hold up other work of the thread.

        Raises:
            LedgerError: The outbox could not be read or written; nothing is lost by that.
        """
        summary = Summary()
        with self._pass:
            lease = self._outbox.acquire(self._holder)
            if lease is None:
                summary.error = "another process is reporting now"
                return summary
            try:
                summary.sealed = self._outbox.seal(lease, include_open=include_open)
                self._send_all(lease, summary, between)
                self._outbox.release(lease)
            except LeaseLostError as error:
                summary.error = str(error)
        return summary

    def close(self) -> None:
        """Close the connections to Stripe."""
        self._http.close()

    def _send_all(self, lease: Lease, summary: Summary, between: Callable[[], None]) -> None:
        reports = self._outbox.pending()
        failures = 0
        for done, report in enumerate(reports):
            sent, verdict = self._send_patiently(lease, report)
            summary.enter(sent)
            failures = failures + 1 if verdict.retry else 0
            if verdict.everyone or failures == FAILURES_BEFORE_STOP or self._stop.is_set():
                summary.postponed += len(reports) - done - 1
                return
            between()

    def _send_patiently(self, lease: Lease, report: Report) -> tuple[Report, Verdict]:
        """Send *report*, several times if need be; answer what became of it, and the last verdict."""

        def send_again() -> Verdict:
            nonlocal report
            report, verdict = self._send(lease, report)
            return verdict

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda verdict: verdict.retry),
            stop=tenacity.stop_any(tenacity.stop_after_attempt(TRIES), tenacity.stop_when_event_set(self._stop)),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=MAX_WAIT),
            sleep=tenacity.sleep_using_event(self._stop),
            retry_error_callback=_last_verdict,
        )
        verdict: Verdict = retrying(send_again)
        return report, verdict

    def _send(self, lease: Lease, report: Report) -> tuple[Report, Verdict]:
        """Send *report* once, and write down what is known of it before and after."""
        begun = self._outbox.begin(lease, report)
        if begun.state == "uncertain":
            return begun, Verdict("pending", begun.error)
        verdict = self._call(begun)
        if verdict.state == "sent":
            return self._outbox.settle(lease, begun, "sent"), verdict
        if verdict.state == "rejected":
            # An earlier attempt without an answer may have arrived, whatever is said of this one.
            state: State = "rejected" if report.unknown_since is None else "uncertain"
            return self._outbox.settle(lease, begun, state, error=verdict.error), verdict
        unknown_since = begun.unknown_since if verdict.unknown else report.unknown_since
        postponed = self._outbox.postpone(
            lease, begun, error=verdict.error, unknown_since=unknown_since, refused=verdict.refused
        )
        return postponed, verdict

    def _call(self, report: Report) -> Verdict:
        # Stripe replays a stored refusal for as long as it knows the key. The identifier, which stays the same,
        # is what keeps the event from counting twice.
        key = f"{report.identifier}-{report.refusals}" if report.refusals else report.identifier
        try:
            event = self._stripe.v1.billing.meter_events.create(
                {
                    "event_name": report.event_name,
                    "identifier": report.identifier,
                    "payload": {"stripe_customer_id": report.customer, "value": str(report.quantity)},
                    "timestamp": report.timestamp,
                },
                options={"idempotency_key": key},
            )
        except stripe.StripeError as error:
            return judge(error)
        return SENT if getattr(event, "identifier", None) == report.identifier else UNREADABLE


def _last_verdict(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()
