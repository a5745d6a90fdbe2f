"""
Sender for the meter event stream of API v2, a hundred per request.

The stream takes everything, and tells of what is wrong later, by thin events: `meterkit.webhooks.account_sync` hears of
them. What it has had before it drops, so an event whose outcome is not known is sent again as in the first version of
the API.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import stripe

from meterkit.core import threads
from meterkit.outbox.reports import Report
from meterkit.stripe_api.outcomes import SENT, Outcome, classify

AT_ONCE = 100
"""Stripe: a request of the stream has 100 events at most."""


class Stream:
    """Sends reports in the stream."""

    at_once = AT_ONCE
    portion = 10 * AT_ONCE

    def __init__(self) -> None:
        self._opening = threads.lock()
        self._token: str | None = None

    def send(self, client: stripe.StripeClient, reports: list[Report]) -> list[Outcome]:
        """Send *reports* once. What is wrong with one of them is told later; so all fare the same."""
        verdict = self._send(client, [_event(report) for report in reports])
        if verdict.state != "sent":  # it waits for a human or for Stripe, under the same identifier
            verdict = replace(verdict, state="pending", refused=False)
        return [verdict] * len(reports)

    def _send(self, client: stripe.StripeClient, events: Any) -> Outcome:
        """A session is good for 15 minutes; when it has expired, another is opened, and the same is sent again."""
        try:
            token, is_new = self._session(client, instead_of=None)
            try:
                _post(client, events, token)
            except stripe.StripeError as error:
                if error.http_status != 401 or is_new:  # then it is not the session's age
                    raise
                _post(client, events, self._session(client, instead_of=token)[0])
        except stripe.StripeError as error:
            return classify(error)
        return SENT

    def _session(self, client: stripe.StripeClient, *, instead_of: str | None) -> tuple[str, bool]:
        """Its token, and whether it was opened for this call. One for all lanes."""
        with self._opening:
            if self._token not in (None, instead_of):
                return self._token, False
            self._token = client.v2.billing.meter_event_session.create().authentication_token
            return self._token, True


def _post(client: stripe.StripeClient, events: Any, token: str) -> None:
    client.v2.billing.meter_event_stream.create({"events": _Body(events)}, options={"api_key": token})


class _Body(list[Any]):
    """
    A list that stripe-python sends as JSON, without encoding it for a URL that is not used as well.

    Of an object with an id it takes that for the URL; the attribute is called so since version 15, and so before.
    """

    id = stripe_id = ""


def _event(report: Report) -> dict[str, Any]:
    moment = datetime.fromtimestamp(report.timestamp, tz=timezone.utc)
    return {
        "event_name": report.event_name,
        "identifier": report.sent_as,
        "payload": {"stripe_customer_id": report.customer, "value": str(report.quantity)},
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
