"""What another program has reported to Stripe, by Stripe's own sums."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

import stripe

from meterkit.core.periods import DAY
from meterkit.shadow.comparison import Interval, Sums
from meterkit.stripe_api.event_summaries import Summaries


def stripe_sums(
    client: stripe.StripeClient,
    counted: Sums,
    *,
    customers: Collection[str],
    event_names: Mapping[str, str],
    start: int,
    end: int,
    by: Interval,
) -> tuple[Sums, dict[tuple[str, str], str]]:
    """
    Return Stripe's sums between two whole hours, and why some could not be read, by customer and meter name.

    Stripe limits reads: each customer and meter costs one to three requests, and one more for each day that differs.

    Args:
        client: Client of stripe-python.
        counted: Sums of what meterkit has counted, by the same intervals.
        customers: Ids of the Stripe customers to look at.
        event_names: Event name in Stripe of each meter, by the meter's name.
        start: Unix second at which the month begins.
        end: Unix second at which the range ends, excluded.
        by: Interval over which usage is added up. Of ``hour``, only days that differ are read by the hour.
    """
    summaries = Summaries(client)
    found: Sums = {}
    errors: dict[tuple[str, str], str] = {}
    for customer in sorted(customers):
        for meter, event_name in event_names.items():
            place = (event_name, customer)
            try:
                sums = _sums(summaries, place, counted.get((customer, meter), {}), start=start, end=end, by=by)
            except stripe.StripeError as error:
                errors[customer, meter] = str(error.user_message or error)[:300]
                continue
            if any(sums.values()):
                found[customer, meter] = {at: quantity for at, quantity in sums.items() if quantity}
    return found, errors


def _sums(
    summaries: Summaries, place: tuple[str, str], counted: Mapping[int, Decimal], *, start: int, end: int, by: Interval
) -> dict[int, Decimal]:
    if start >= end:
        return {}
    if by == "month":
        return {start: summaries.used(*place, start, end)}
    today = end - end % DAY  # it has not ended, and Stripe's sum of it would have hours that are not compared
    days = summaries.by_day(*place, start, today) if start < today else {}
    hours = summaries.by_hour(*place, today, end) if today < end else {}
    if by == "day":
        return days if today == end else {**days, today: sum(hours.values(), Decimal(0))}
    for day in range(start, today, DAY):
        ours = {hour: quantity for hour, quantity in counted.items() if day <= hour < day + DAY}
        equal = sum(ours.values(), Decimal(0)) == days.get(day, Decimal(0))
        hours |= ours if equal else summaries.by_hour(*place, day, day + DAY)
    return hours
