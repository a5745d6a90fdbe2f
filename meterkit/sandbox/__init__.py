"""
A pocket Stripe: real HTTP on the loopback, stateful, with a clock that can be advanced and faults on demand.

    with Sandbox() as stripe:
        client = StripeClient(stripe.api_key, base_addresses={"api": stripe.url, "meter_events": stripe.url})

It knows customers, products, prices, billing meters, meter events of v1 and v2, alerts, subscriptions and invoices, and
answers 404 or 400 to the rest. It imports nothing of the rest of meterkit: a double that shares code with what it tests
confirms its bugs.

    server ─▶ gateway ─▶ routes ─▶ customers products prices meters meter_events(_v2) summaries subscriptions invoices …
                 │                     │     intake: what is wrong with an event ─▶ reports ─▶ thin
                 │                     └──────────────▶ account (records, usage, clock) ◀── cycle
                 └── faults limits idempotency params
"""

from __future__ import annotations

from meterkit.sandbox.faults import Fault
from meterkit.sandbox.protocol.frame import Received
from meterkit.sandbox.sandbox import Sandbox
from meterkit.sandbox.state.switches import Switches
from meterkit.sandbox.state.usage import MeterEvent

__all__ = ["Fault", "MeterEvent", "Received", "Sandbox", "Switches"]
