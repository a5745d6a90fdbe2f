"""
Compare the ledger with Stripe, hour by hour where they differ.

One request per customer and meter, and by the hour only where they differ: Stripe limits reads.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import stripe

from meterkit.core.windows import HOUR, hour_of
from meterkit.outbox.reports import Reports
from meterkit.stripe_api.event_summaries import Summaries

RECENT_HOURS = 24
"""Hours whose usage is compared before a price is changed: what is older was added up long ago."""

WAITING = ("pending", "uncertain")
"""States of reports that Stripe may still receive."""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    An hour in which the ledger and Stripe differ.

    Attributes:
        hour: Unix second at which the hour begins.
        ledger: Quantity sent according to the ledger.
        stripe: Quantity that Stripe has.
    """

    hour: int
    ledger: Decimal
    stripe: Decimal


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """
    One customer's usage of one meter, in the ledger and in Stripe.

    Attributes:
        companies: Ids of the companies that the customer pays for.
        customer: Id of the Stripe customer.
        meter: Name of the meter.
        ledger: Quantity sent according to the ledger, by the time of the usage.
        stripe: Quantity that Stripe has; None if the request failed.
        waiting: Quantity that is pending or uncertain.
        rejected: Quantity that Stripe refused.
        hours: Hours in which the ledger and Stripe differ.
        error: Why the request to Stripe failed; empty if it did not.
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
        """Whether the ledger and Stripe have the same quantity."""
        return self.ledger == self.stripe


def reconcile(reports: Reports, client: stripe.StripeClient, *, start: int, end: int) -> list[Reconciliation]:
    """
    Compare all usage between two whole hours.

    Args:
        reports: Reports of the ledger.
        client: Client of stripe-python.
        start: Unix second at which the range begins.
        end: Unix second at which the range ends, excluded.

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
        ledger = sum(by_hour.values(), Decimal(0))
        stripe_sum, error = None, ""
        hours: tuple[Difference, ...] = ()
        try:
            stripe_sum = summaries.used(event_name, customer, start, end)
            if stripe_sum != ledger:
                hours = _hours(by_hour, summaries.by_hour(event_name, customer, start, end))
        except stripe.StripeError as failure:
            error = str(failure.user_message or failure)[:300]
        found.append(
            Reconciliation(
                companies=tuple(sorted({report.company for report in sent})),
                customer=customer,
                meter=sent[-1].meter,
                ledger=ledger,
                stripe=stripe_sum,
                waiting=states.get("pending", Decimal(0)) + states.get("uncertain", Decimal(0)),
                rejected=states.get("rejected", Decimal(0)),
                hours=hours,
                error=error,
            )
        )
    return found


def unsettled(
    reports: Reports, client: stripe.StripeClient, customers: Collection[str], *, now: float
) -> dict[str, str]:
    """
    Return which of *customers* have recent usage that Stripe has not added up yet, and what that is.

    Args:
        reports: Reports of the ledger.
        client: Client of stripe-python.
        customers: Stripe customers to look at.
        now: Current time, Unix seconds.

    Raises:
        LedgerError: The ledger cannot be read.
        stripe.StripeError: Stripe did not respond.
    """
    end = hour_of(int(now)) + HOUR
    start = end - RECENT_HOURS * HOUR
    summaries = Summaries(client)
    found: dict[str, str] = {}
    for (customer, event_name), of_meter in reports.by_customer(start, end).items():
        if customer in customers:
            sent = sum((report.quantity for report in of_meter if report.state == "sent"), Decimal(0))
            waiting = sum((report.quantity for report in of_meter if report.state in WAITING), Decimal(0))
            there = summaries.used(event_name, customer, start, end)
            if waiting or there < sent:
                found[customer] = f"Stripe has {there:f} of {sent + waiting:f} {event_name}"
    return found


def _hours(ledger: dict[int, Decimal], stripe_sums: dict[int, Decimal]) -> tuple[Difference, ...]:
    nothing = Decimal(0)
    pairs = (
        (hour, ledger.get(hour, nothing), stripe_sums.get(hour, nothing))
        for hour in sorted(ledger.keys() | stripe_sums.keys())
    )
    return tuple(
        Difference(hour, in_ledger, in_stripe) for hour, in_ledger, in_stripe in pairs if in_ledger != in_stripe
    )
