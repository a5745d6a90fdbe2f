"""
Sender for the meter event stream of API v2, a hundred per request.

The stream accepts everything, and Stripe reports errors later, in thin events, which `meterkit.webhooks.account_sync`
processes. It drops duplicates, so an event of unknown outcome is resent as in API v1.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import stripe

from meterkit.core import threads
from meterkit.outbox.reports import Report
from meterkit.reporting.meter_events import PayloadKeys, payload_of
from meterkit.stripe_api.outcomes import SENT, Outcome, classify

PER_REQUEST = 100
"""Stripe: at most 100 events per request of the stream."""


class StreamSender:
    """
    Sends reports through the meter event stream.

    Args:
        keys: Keys of meter events that are not Stripe's own.
    """

    per_request = PER_REQUEST
    per_batch = 10 * PER_REQUEST

    def __init__(self, keys: PayloadKeys) -> None:
        self._keys = keys
        self._lock = threads.lock()
        self._token: str | None = None

    def send(self, client: stripe.StripeClient, reports: list[Report]) -> list[Outcome]:
        """Send *reports* once. All have the same outcome, because errors of single events are reported later."""
        outcome = self._send(client, [_event(report, self._keys) for report in reports])
        if outcome.state != "sent":  # pending, under the same identifier, until the problem is resolved
            outcome = replace(outcome, state="pending", refused=False)
        return [outcome] * len(reports)

    def _send(self, client: stripe.StripeClient, events: Any) -> Outcome:
        """Send *events*; if the session, which lasts for 15 minutes, has expired, open another and send them again."""
        try:
            token, is_new = self._session(client, instead_of=None)
            try:
                _post(client, events, token)
            except stripe.StripeError as error:
                if error.http_status != 401 or is_new:  # then the session has not expired
                    raise
                _post(client, events, self._session(client, instead_of=token)[0])
        except stripe.StripeError as error:
            return classify(error)
        return SENT

    def _session(self, client: stripe.StripeClient, *, instead_of: str | None) -> tuple[str, bool]:
        """Return the session's token, and whether it was opened by this call. All connections share a session."""
        with self._lock:
            if self._token not in (None, instead_of):
                return self._token, False
            self._token = client.v2.billing.meter_event_session.create().authentication_token
            return self._token, True


def _post(client: stripe.StripeClient, events: Any, token: str) -> None:
    client.v2.billing.meter_event_stream.create({"events": _Body(events)}, options={"api_key": token})


class _Body(list[Any]):
    """
    A list that stripe-python sends as JSON, without also encoding it for a URL that is not used.

    For an object with an id, it encodes only the id: ``id`` since version 15, ``stripe_id`` before.
    """

    id = stripe_id = ""


def _event(report: Report, keys: PayloadKeys) -> dict[str, Any]:
    moment = datetime.fromtimestamp(report.timestamp, tz=timezone.utc)
    return {
        "event_name": report.event_name,
        "identifier": report.sent_as,
        "payload": payload_of(report, keys),
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
