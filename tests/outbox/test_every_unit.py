"""
Each unit that Stripe has is on an invoice or named as unbilled, whatever becomes of the customer's subscriptions.

``METERKIT_TEST_EXAMPLES`` makes it a long run.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from decimal import Decimal

import pytest
import stripe as stripe_python
from fake_clock import Clock
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from signed import SECRET, body_of, signature_of

from meterkit import Meter, MeterKit, Webhook
from meterkit.outbox.late_usage import late_reports, once_each
from meterkit.outbox.unbilled import unbilled
from meterkit.sandbox import Sandbox

HOUR = 3600
DAY = 24 * HOUR
EXAMPLES = int(os.environ.get("METERKIT_TEST_EXAMPLES", "0"))
"""How many histories a long run tries; 0 tries the same few each time."""

CHANGES = (
    "change the price", "change the price at once", "change the price without prorations", "take the price off",
)  # fmt: skip

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "use", "use", "use", "use late", "subscribe", "subscribe", "subscribe to the fee", "add the price",
                *CHANGES, "cancel", "cancel with an invoice", "cancel later", "begin anew",
            ]
        ),
        st.integers(1, 20),  # hours until then
    ),
    min_size=3,
    max_size=9,
)  # fmt: skip


class Life:
    """An account with one customer, whose kit hears of everything and reports each hour in which something was used."""

    def __init__(self, sandbox, clock, directory, mode):
        self.clock, self.mode = clock, mode
        self.api = stripe_python.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}).v1
        meter = self.api.billing.meters.create(
            {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}}
        )
        metered = {"interval": "month", "usage_type": "metered", "meter": meter.id}
        self.prices = [self._price(100, metered), self._price(100, metered)]
        self.fee = self._price(2_000, {"interval": "month"})
        self.customer = self.api.customers.create({"metadata": {"company": "acme"}}).id
        self.kit = MeterKit(
            meters=[Meter("calls")],
            stripe_key=sandbox.api_key,
            stripe_base=sandbox.url,
            data_dir=directory,
            clock=clock,
            flush_interval=3600.0,
            webhook=Webhook(None, secret=SECRET),
        )
        self.used = 0
        self.heard = set()

    def _price(self, amount, recurring):
        product = {"name": "Calls"}
        return self.api.prices.create(
            {"currency": "usd", "unit_amount": amount, "recurring": recurring, "product_data": product}
        ).id

    def running(self):
        return self.api.subscriptions.list({"customer": self.customer}).data

    def items(self):
        """Its items with a metered price: one at most."""
        items = [item for each in self.running() for item in each["items"].data]
        return [item for item in items if item.price.id in self.prices]

    def step(self, kind):
        """Do one of the steps, where it can be done."""
        running, items = self.running(), self.items()
        if kind == "use":
            self.use()
        elif kind == "use late":
            self.use(at=datetime.fromtimestamp(self.clock() - 2 * DAY, timezone.utc))
        elif kind == "subscribe" and not items:
            self._subscribe([self.prices[0], self.fee])
        elif kind == "subscribe to the fee":
            self._subscribe([self.fee])
        elif items and kind in CHANGES:
            self.change(kind, running, items[0])
        elif running:
            self.change_subscription(kind, running[0].id, items)

    def change(self, kind, running, item):
        """Change the price of the item, or take it off."""
        if kind == "take the price off":
            owner = next(each for each in running if each.id == item.subscription)
            if len(owner["items"].data) > 1:
                self.api.subscription_items.delete(item.id, {"clear_usage": True} if self.mode == "classic" else {})
            return
        (other,) = set(self.prices) - {item.price.id}
        if kind == "change the price at once":  # what is used before is not reported yet
            self.use()
            self.clock.now += 60
        options = {"proration_behavior": "none"} if kind.endswith("without prorations") else {}
        self.api.subscription_items.update(item.id, {"price": other, **options})

    def change_subscription(self, kind, identity, items):
        if kind == "add the price" and not items:
            self.api.subscription_items.create({"subscription": identity, "price": self.prices[0]})
        elif kind == "begin anew":
            self.api.subscriptions.update(identity, {"billing_cycle_anchor": {"type": "now"}})
        elif kind == "cancel later":
            self.api.subscriptions.update(identity, {"cancel_at_period_end": True})
        elif kind in ("cancel", "cancel with an invoice"):
            self.api.subscriptions.cancel(identity, {"invoice_now": kind == "cancel with an invoice"})

    def use(self, **when):
        self.kit.record("calls", "acme", 7, **when)
        self.used += 7

    def _subscribe(self, prices):
        params = {"customer": self.customer, "billing_mode": {"type": self.mode}}
        self.api.subscriptions.create({**params, "items": [{"price": price} for price in prices]})

    def pass_time(self, hours):
        """Let hours pass; when the first has ended, the kit reports what was used in it."""
        until = self.clock.now + hours * HOUR
        self.hear()
        self.clock.now = (self.clock.now // HOUR + 1) * HOUR + 60
        self.kit.report()
        self.clock.now = max(until, self.clock.now)
        self.hear()

    def hear(self):
        events = list(self.api.events.list({"limit": 100}).auto_paging_iter())
        for event in reversed(events):
            if event.id not in self.heard:
                self.heard.add(event.id)
                payload = body_of(json.loads(str(event)))
                self.kit.receive(payload, signature_of(payload, self.clock()))
        self.kit.process().stripe_jobs.follow()

    def billed(self):
        """Units on invoices: each costs one dollar."""
        lines = [line for each in self.api.invoices.list({"limit": 100}).data for line in each.lines.data]
        prices = [(line, line.pricing.price_details.price if line.pricing else None) for line in lines]
        return sum(Decimal(line.amount) for line, price in prices if price != self.fee) / 100


@pytest.mark.long
@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_each_unit(tmp_path_factory, mode):
    """In any order; at the end, all subscriptions have been invoiced."""

    @settings(
        max_examples=EXAMPLES or 6,
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        derandomize=not EXAMPLES,
        phases=[Phase.generate],
    )
    @given(steps)
    def run(steps):
        clock = Clock()
        with Sandbox(now=clock) as sandbox:
            life = Life(sandbox, clock, tmp_path_factory.mktemp("life"), mode)
            try:
                life.kit.sync()
                for kind, hours in steps:
                    life.pass_time(hours)
                    life.step(kind)
                life.pass_time(1)
                for each in life.running():
                    life.api.subscriptions.update(each.id, {"cancel_at_period_end": True})
                life.hear()
                clock.now += 31 * DAY + HOUR
                life.hear()
                clock.now += 2 * HOUR
                life.hear()
                database = life.kit.process().database()
                named = [each.quantity for each in unbilled(database, now=int(clock()), is_free=None)]
                named += [late.report.quantity for late in once_each(late_reports(database, "sent"))]

                assert life.used == life.billed() + sum(named), steps
            finally:
                life.kit.close()

    run()
