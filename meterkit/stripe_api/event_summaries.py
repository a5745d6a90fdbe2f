"""
Meter event summaries: the sums that Stripe has.

Stripe keeps no list of meter events; this is all that it tells of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import stripe

from meterkit.stripe_api.transport import PAGE_SIZE


class Summaries:
    """
    Asks for sums, for as long as the account's meters stay the same: one pass.

    Args:
        client: Of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client
        self._meters: dict[str, list[str]] | None = None

    def used(self, event_name: str, customer: str, start: int, end: int) -> Decimal:
        """
        What the customer used from one whole hour to another: one request, and one more for the meters of the account.

        Raises:
            stripe.StripeError: Stripe did not answer, or does not know the customer.
        """
        return sum(self.by_hour(event_name, customer, start, end, one=True).values(), Decimal(0))

    def by_hour(self, event_name: str, customer: str, start: int, end: int, *, one: bool = False) -> dict[int, Decimal]:
        """
        The same, by the hour; a request for each 100 hours. *one* asks for a single sum instead.

        Raises:
            stripe.StripeError: Stripe did not answer, or does not know the customer.
        """
        found: dict[int, Decimal] = {}
        for meter in self._meters_of(event_name):
            # A single hour is asked for by the hour: without that, an old API refuses whole hours only.
            grouped = not one or end - start == 3600
            asked: Any = {"customer": customer, "start_time": start, "end_time": end, "limit": PAGE_SIZE}
            if grouped:
                asked["value_grouping_window"] = "hour"
            summaries = self._client.v1.billing.meters.event_summaries.list(meter, asked)
            for summary in summaries.auto_paging_iter():
                begin = summary.start_time
                found[begin] = found.get(begin, Decimal(0)) + Decimal(str(summary.aggregated_value))
        return found

    def _meters_of(self, event_name: str) -> list[str]:
        """
        The ids of the meters that listen, or listened, to that name; a new one may have taken it over.

        Stripe deletes no meter, so where there is none, nothing was ever counted.
        """
        if self._meters is None:
            self._meters = {}
            for meter in self._client.v1.billing.meters.list({"limit": PAGE_SIZE}).auto_paging_iter():
                self._meters.setdefault(meter.event_name, []).append(meter.id)
        return self._meters.get(event_name, [])
