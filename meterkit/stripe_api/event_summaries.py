"""
Meter event summaries: the sums that Stripe has.

Stripe's API does not list meter events; these sums are all that it returns.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import stripe

from meterkit.core.windows import HOUR
from meterkit.stripe_api.transport import PAGE_SIZE


class Summaries:
    """
    Reads sums. Use one object per pass, because it keeps the account's list of meters.

    Args:
        client: Client of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client
        self._meters: dict[str, list[str]] | None = None

    def used(self, event_name: str, customer: str, start: int, end: int) -> Decimal:
        """
        Return the customer's usage between two whole hours, Unix seconds, *end* excluded.

        One request for each meter of that event name, and one more for the meters of the account.

        Raises:
            stripe.StripeError: Stripe did not respond, or does not know the customer.
        """
        # Group a single hour too: without grouping, an old version of the API refuses ranges of whole hours.
        sums = self._sums(event_name, customer, start, end, "hour" if end - start == HOUR else None)
        return sum(sums.values(), Decimal(0))

    def by_hour(self, event_name: str, customer: str, start: int, end: int) -> dict[int, Decimal]:
        """
        Return the customer's usage between two whole hours, by the Unix second at which each hour begins.

        One request for each 100 hours.

        Raises:
            stripe.StripeError: Stripe did not respond, or does not know the customer.
        """
        return self._sums(event_name, customer, start, end, "hour")

    def by_day(self, event_name: str, customer: str, start: int, end: int) -> dict[int, Decimal]:
        """
        Return the customer's usage between two midnights in UTC, by the Unix second at which each day begins.

        One request for each 100 days.

        Raises:
            stripe.StripeError: Stripe did not respond, or does not know the customer.
        """
        return self._sums(event_name, customer, start, end, "day")

    def _sums(
        self, event_name: str, customer: str, start: int, end: int, grouping: Literal["hour", "day"] | None
    ) -> dict[int, Decimal]:
        found: dict[int, Decimal] = {}
        for meter in self._meters_of(event_name):
            params: Any = {"customer": customer, "start_time": start, "end_time": end, "limit": PAGE_SIZE}
            if grouping is not None:
                params["value_grouping_window"] = grouping
            summaries = self._client.v1.billing.meters.event_summaries.list(meter, params)
            for summary in summaries.auto_paging_iter():
                begin = summary.start_time
                found[begin] = found.get(begin, Decimal(0)) + Decimal(str(summary.aggregated_value))
        return found

    def _meters_of(self, event_name: str) -> list[str]:
        """
        Return the ids of all meters that have or had this event name; a newer meter may have taken it over.

        Stripe never deletes a meter, so without one, nothing was ever counted.
        """
        if self._meters is None:
            self._meters = {}
            for meter in self._client.v1.billing.meters.list({"limit": PAGE_SIZE}).auto_paging_iter():
                self._meters.setdefault(meter.event_name, []).append(meter.id)
        return self._meters.get(event_name, [])
