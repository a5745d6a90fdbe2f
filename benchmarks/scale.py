"""
The calculated load of many hosts and customers; and a skewed month, replayed against the sandbox to check the model.

    python -m benchmarks.scale           the table
    python -m benchmarks.scale --month   the replay; exits with 1 if a figure is not as predicted

The skew is taken from production: the top tenth of the customers makes 90 % of the requests.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass

TOP, THEIRS = 0.1, 0.9
"""The top share of the customers, and the share of the requests that they make."""

FLUSH_SECONDS = 5.0
HOUR = 3600.0

V1_PER_SECOND, STREAM_PER_SECOND = 1_000, 10_000
"""Stripe's limits for live accounts."""


@dataclass(frozen=True)
class Load:
    """
    What there is to do.

    Attributes:
        hosts: Each flushes by itself.
        customers: How many there are.
        per_hour: Requests of all of them.
    """

    hosts: int
    customers: int
    per_hour: float

    def active(self, seconds: float, share: float = 1.0) -> float:
        """Customers who are expected to ask in so many seconds, of that share of the requests."""
        requests = self.per_hour * seconds / HOUR * share
        top = TOP * self.customers
        rest = self.customers - top
        return top * -math.expm1(-THEIRS * requests / top) + rest * -math.expm1(-(1 - THEIRS) * requests / rest)

    @property
    def rows_per_second(self) -> float:
        """Rows that all hosts together write into the ledger: two for each customer of a flush."""
        return 2 * self.hosts * self.active(FLUSH_SECONDS, 1 / self.hosts) / FLUSH_SECONDS

    @property
    def events_per_hour(self) -> float:
        """Meter events, of one meter."""
        return self.active(HOUR)


def table() -> str:
    """For hosts that each answer 100 requests a second, and customers."""
    lines = [
        "| hosts | customers | flushes/s | rows/s | events/hour | minutes, v1 | minutes, stream | rows a month |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for hosts in (1, 100, 10_000):
        for customers in (10_000, 100_000, 1_000_000, 10_000_000):
            load = Load(hosts, customers, hosts * 100 * HOUR)
            events = load.events_per_hour
            cells = [
                f"{hosts:,}",
                f"{customers:,}",
                f"{hosts / FLUSH_SECONDS:,.1f}",
                f"{load.rows_per_second:,.0f}",
                f"{events:,.0f}",
                f"{events / V1_PER_SECOND / 60:,.1f}",
                f"{events / STREAM_PER_SECOND / 60:,.1f}",
                f"{events * 730:,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def month(*, customers: int, hours: int, per_hour: int, seed: int) -> dict[str, float]:
    """
    Replay so many hours, each reported when it is over; what was predicted, and what there is in the end.

    Every request is counted by a kit as a view would count it.
    """
    from stripe import StripeClient

    from meterkit import Meter, MeterKit
    from meterkit.sandbox import Sandbox

    chance = random.Random(seed)
    now = [1_772_323_200.0]  # 1 March 2026
    load = Load(1, customers, per_hour)
    counted: dict[str, int] = {}
    with Sandbox(now=lambda: now[0]) as sandbox:
        client = StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url})
        client.v1.billing.meters.create(
            {"display_name": "calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        ids = [client.v1.customers.create({}).id for _ in range(customers)]
        top = ids[: max(1, int(TOP * customers))]
        rest = ids[len(top) :]
        kit = MeterKit(
            meters=[Meter("calls")],
            customer_ids=True,
            data_dir=tempfile.mkdtemp(prefix="meterkit-benchmark-"),
            stripe_key=sandbox.api_key,
            stripe_base=sandbox.url,
            flush_interval=HOUR,
            report_interval=HOUR,
            clock=lambda: now[0],
        )
        with closing(kit):
            for _ in range(hours):
                for _ in range(per_hour):
                    customer = chance.choice(top if chance.random() < THEIRS else rest)
                    kit.record("calls", customer)
                    counted[customer] = counted.get(customer, 0) + 1
                now[0] += HOUR
                kit.report()
            rows = len(kit.usage())
        billed = {customer: int(sandbox.usage("calls", customer)) for customer in counted}
        events = len(sandbox.meter_events)
    return {
        "events_predicted": hours * load.events_per_hour,
        "events": events,
        "rows": rows,
        "counted": sum(counted.values()),
        "billed": sum(billed.values()),
        "customers_wrong": sum(billed[customer] != counted[customer] for customer in counted),
    }


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--month", action="store_true", help="replay a skewed month")
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--hours", type=int, default=48)
    parser.add_argument("--per-hour", type=int, default=1_000)
    arguments = parser.parse_args()
    if not arguments.month:
        print(table())
        return 0
    found = month(customers=arguments.customers, hours=arguments.hours, per_hour=arguments.per_hour, seed=1)
    for name, value in found.items():
        print(f"{name:20} {value:,.0f}")
    is_near = abs(found["events"] / found["events_predicted"] - 1) < 0.02
    is_exact = found["counted"] == found["billed"] and not found["customers_wrong"] and found["rows"] == found["events"]
    return 0 if is_near and is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
