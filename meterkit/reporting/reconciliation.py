"""
Compare the ledger with Stripe, hour by hour where they differ.

One request for each customer and meter of a month, and by the hour only where they differ: Stripe counts reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import stripe

from meterkit.core.windows import hour_of
from meterkit.outbox.reports import Reports
from meterkit.stripe_api.event_summaries import Summaries


@dataclass(frozen=True, slots=True)
class Difference:
    """
    An hour in which they differ.

    Attributes:
        hour: The unix second in which it begins.
        ledger: What the ledger knows to be sent.
        stripe: What Stripe has.
    """

    hour: int
    ledger: Decimal
    stripe: Decimal


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """
    One customer's use of one meter, on both sides.

    Attributes:
        companies: For whom the customer pays.
        customer: The Stripe customer.
        meter: The meter's name.
        ledger: What the ledger knows to be sent, by the time of the usage.
        stripe: What Stripe has; None if it could not be asked.
        waiting: What is to be sent still, or is not known to have arrived.
        rejected: What Stripe refuses.
        hours: Where both differ.
        error: Why Stripe could not be asked.
    """

    companies: tuple[str, ...]
    customer: str
    meter: str
    ledger: Decimal
    stripe: Decimal | None
    waiting: Decimal
    rejected: Decimal
    hours: tuple[Difference, ...]
    error: str

    @property
    def agree(self) -> bool:
        """Both have the same."""
        return self.ledger == self.stripe


def reconcile(reports: Reports, client: stripe.StripeClient, *, start: int, end: int) -> list[Reconciliation]:
    """
    Compare all usage from one whole hour to another.

    Args:
        reports: Of the ledger.
        client: Of stripe-python.
        start: Unix seconds.
        end: The same; excluded.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    summaries = Summaries(client)
    found = []
    for (customer, event_name), sent in reports.by_customer(start, end).items():
        by_hour: dict[int, Decimal] = {}
        states: dict[str, Decimal] = {}
        for report in sent:
            states[report.state] = states.get(report.state, Decimal(0)) + report.quantity
            if report.state == "sent":
                hour = hour_of(report.timestamp)
                by_hour[hour] = by_hour.get(hour, Decimal(0)) + report.quantity
        ours = sum(by_hour.values(), Decimal(0))
        theirs, error = None, ""
        hours: tuple[Difference, ...] = ()
        try:
            theirs = summaries.used(event_name, customer, start, end)
            if theirs != ours:
                hours = _hours(by_hour, summaries.by_hour(event_name, customer, start, end))
        except stripe.StripeError as failure:
            error = str(failure.user_message or failure)[:300]
        found.append(
            Reconciliation(
                companies=tuple(sorted({report.company for report in sent})),
                customer=customer,
                meter=sent[-1].meter,
                ledger=ours,
                stripe=theirs,
                waiting=states.get("pending", Decimal(0)) + states.get("uncertain", Decimal(0)),
                rejected=states.get("rejected", Decimal(0)),
                hours=hours,
                error=error,
            )
        )
    return found


def _hours(ours: dict[int, Decimal], theirs: dict[int, Decimal]) -> tuple[Difference, ...]:
    nothing = Decimal(0)
    pairs = ((hour, ours.get(hour, nothing), theirs.get(hour, nothing)) for hour in sorted(ours.keys() | theirs.keys()))
    return tuple(Difference(hour, here, there) for hour, here, there in pairs if here != there)
