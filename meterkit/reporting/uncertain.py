"""
Resolve events of unknown outcome against Stripe's summaries.

Stripe keeps no list of meter events, but tells what a customer used on a meter in an hour. All that was reported for
that hour stands in the ledger, so the difference says whether what is in doubt is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import stripe

from meterkit.core.windows import HOUR
from meterkit.outbox.outbox import UncertainReports
from meterkit.stripe_api.event_summaries import Summaries

SETTLING_SECONDS = 3600
"""Stripe processes events asynchronously and promises no time; observed are minutes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a comparison found.

    Attributes:
        uncertain: What became of the uncertain reports: they are there, they are not, or it cannot be told.
        claimed: The same of those that Stripe claims to have; what cannot be told is believed.
        error: Why it cannot be told.
    """

    uncertain: Literal["sent", "pending", "uncertain"]
    claimed: Literal["sent", "pending"]
    error: str = ""


class UncertaintyResolver:
    """
    Compares, for the length of one pass.

    Args:
        client: Of stripe-python.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._summaries = Summaries(client)

    def find(self, doubt: UncertainReports) -> Finding:
        """
        Ask Stripe about *doubt*: one request, and one more for the meters of the account.

        Raises:
            stripe.StripeError: Stripe did not answer; ask again later.
        """
        try:
            found = self._summaries.used(doubt.event_name, doubt.customer, doubt.hour, doubt.hour + HOUR)
        except stripe.InvalidRequestError as error:
            return _unsure(f"Stripe says: {str(error.user_message or error)[:200]}")
        except stripe.PermissionError:
            return _unsure("the key may not read meters, which it has to be allowed for this")
        claimed = doubt.sent + sum(report.quantity for report in doubt.claimed)
        if found == claimed + sum(report.quantity for report in doubt.uncertain):
            return Finding("sent", "sent")
        if found == claimed:
            return Finding("pending", "sent")
        if found == doubt.sent:
            return Finding("pending", "pending")
        return _unsure(f"Stripe has {found} for this customer and hour, {claimed} of them known to the ledger")


def _unsure(why: str) -> Finding:
    error = (
        f"whether Stripe has it cannot be told, so it is not sent again: {why}. Compare the customer's meter events in "
        "Stripe with meterkit usage, and say what is true: meterkit decide"
    )
    return Finding("uncertain", "sent", error)
