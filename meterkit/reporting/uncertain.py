"""
Resolve events of unknown outcome against Stripe's summaries.

Stripe's API does not list meter events, but returns a customer's sum for a meter and hour. The ledger has everything
reported for that hour, so the difference shows whether Stripe has the uncertain events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import stripe

from meterkit.core.windows import HOUR
from meterkit.outbox.outbox import UncertainReports
from meterkit.stripe_api.event_summaries import Summaries

SETTLING_SECONDS = 3600
"""Seconds to wait before a comparison: Stripe sums up asynchronously, within minutes as observed, without a promise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    The result of a comparison.

    Attributes:
        uncertain: State for the uncertain reports: ``sent`` if Stripe has them, ``pending`` if not, else ``uncertain``.
        claimed: State for the reports that Stripe called duplicates: ``pending`` only if Stripe certainly lacks them.
        error: Why the comparison was inconclusive; empty if it was not.
    """

    uncertain: Literal["sent", "pending", "uncertain"]
    claimed: Literal["sent", "pending"]
    error: str = ""


class UncertaintyResolver:
    """
    Compares uncertain reports with Stripe's sums. Use one object per pass.

    Args:
        client: Client of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._summaries = Summaries(client)

    def find(self, group: UncertainReports) -> Finding:
        """
        Compare *group* with Stripe's sum: one request, and one more per pass for the meters of the account.

        Raises:
            stripe.StripeError: Stripe did not respond; try again later.
        """
        try:
            found = self._summaries.used(group.event_name, group.customer, group.hour, group.hour + HOUR)
        except stripe.InvalidRequestError as error:
            return _inconclusive(f"Stripe refused the comparison: {str(error.user_message or error)[:200]}")
        except stripe.PermissionError:
            return _inconclusive("the Stripe key has no permission to read meters")
        claimed = group.sent + sum(report.quantity for report in group.claimed)
        if found == claimed + sum(report.quantity for report in group.uncertain):
            return Finding("sent", "sent")
        if found == claimed:
            return Finding("pending", "sent")
        if found == group.sent:
            return Finding("pending", "pending")
        return _inconclusive(f"Stripe's sum for this customer and hour is {found}; the ledger accounts for {claimed}")


def _inconclusive(why: str) -> Finding:
    error = (
        f"it is unknown whether Stripe has this event, so it is not sent again: {why}. Compare the customer's meter "
        "events in Stripe with meterkit usage, then settle it with meterkit decide"
    )
    return Finding("uncertain", "sent", error)
