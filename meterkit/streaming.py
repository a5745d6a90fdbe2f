"""
Edges: reports in Stripe's meter event stream, a hundred at a time.

The stream takes everything, and tells of what is wrong later, by thin events: `meterkit.following` hears of them. What
it has had before it drops, so an event whose outcome is not known is sent again as in the first version of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import Any

import stripe

from meterkit.lease import Lease
from meterkit.native import Flag
from meterkit.outbox import Outbox, Summary
from meterkit.reports import Report
from meterkit.verdict import SENT, Verdict, judge

AT_ONCE = 100
"""Stripe: a request of the stream has 100 events at most."""


class Stream:
    """
    Sends reports in the stream.

    Args:
        client: Of stripe-python.
        outbox: Where the reports are.
        now: Stripe's time, unix seconds.
        tell_time: Asks Stripe for it; answers why that failed, if it did.
        patiently: Calls something again while that may help.
        stop: When set, it ends with the next portion.
    """

    def __init__(
        self,
        client: stripe.StripeClient,
        *,
        outbox: Outbox,
        now: Callable[[], int],
        tell_time: Callable[[], Verdict | None],
        patiently: Callable[[Callable[[], Verdict]], Verdict],
        stop: Flag,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._now = now
        self._tell_time = tell_time
        self._patiently = patiently
        self._stop = stop
        self._token: str | None = None

    def send_all(self, lease: Lease, summary: Summary) -> None:
        """
        Send what is in the outbox.

        Raises:
            LeaseLostError: Another process reports now.
        """
        pending = self._outbox.pending()
        while portion := list(islice(pending, AT_ONCE)):
            verdict = self._patiently(partial(self._send, lease, portion, summary))
            if verdict.state != "sent" or self._stop.is_set():
                return

    def _send(self, lease: Lease, portion: list[Report], summary: Summary) -> Verdict:
        """Send *portion*, which is brought up to date, once."""
        if any(report.unknown_since is not None for report in portion):
            untold = self._tell_time()
            if untold is not None:
                return untold
        surely_not_there = {report.id for report in portion if report.unknown_since is None}
        portion[:] = self._outbox.begin_all(lease, portion, now=self._now())
        verdict = self._call(portion) if portion else SENT
        if verdict.state == "sent":
            for report in self._outbox.settle(lease, portion, "sent", unknown_since=None):
                summary.enter(report)
            return verdict
        summary.error = verdict.error
        known = [] if verdict.unknown else [report for report in portion if report.id in surely_not_there]
        others = [report for report in portion if report not in known]
        portion[:] = [
            *self._outbox.note(lease, known, error=verdict.error, unknown_since=None),
            *self._outbox.note(lease, others, error=verdict.error),
        ]
        # What is wrong with one event is told later; so this is about all, and waits for a human or for Stripe.
        return replace(verdict, state="pending")

    def _call(self, reports: Sequence[Report]) -> Verdict:
        """A session is good for 15 minutes; when it has expired, another is opened, and the same is sent again."""
        events: Any = [_event(report) for report in reports]
        try:
            try:
                self._post(events)
            except stripe.StripeError as error:
                if error.http_status != 401 or self._token is None:
                    raise
                self._token = None
                self._post(events)
        except stripe.StripeError as error:
            return judge(error)
        return SENT

    def _post(self, events: Any) -> None:
        fresh = self._token is None
        if fresh:
            self._token = self._client.v2.billing.meter_event_session.create().authentication_token
        try:
            self._client.v2.billing.meter_event_stream.create({"events": events}, options={"api_key": self._token})
        except stripe.StripeError as error:
            if fresh and error.http_status == 401:
                self._token = None  # it is not the session's age
            raise


def _event(report: Report) -> dict[str, Any]:
    moment = datetime.fromtimestamp(report.timestamp, tz=timezone.utc)
    return {
        "event_name": report.event_name,
        "identifier": report.sent_as,
        "payload": {"stripe_customer_id": report.customer, "value": str(report.quantity)},
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
